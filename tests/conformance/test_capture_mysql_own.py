"""What is peculiar to capture from MariaDB: its settings, its statements without rows, its replicas, its formats."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from links import Proxy
from mariadb_source import MariadbSource
from sources import DEADLINE, INTEGER, ITEM, ITEM_SQL, LINE, LINE_SQL, TEXT, Running, Topic, Watched, table

from connectors.capture import CaptureStoppedError
from connectors.capture.mysql import MySQLCapture, grants
from connectors.event import Boundary, Change, ForeignKey, ForeignKeys
from connectors.log import LogUnreachableError, Message
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate
from connectors.table import Column, Table
from deploy.stack.mariadb import MariaDB


@pytest.fixture(scope="module")
def link(mariadb: MariaDB) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", mariadb.port)) as proxy:
        yield proxy


@pytest.fixture
def source(mariadb: MariaDB, link: Proxy) -> Iterator[MariadbSource]:
    made = MariadbSource(mariadb, link)
    yield made
    made.close()


@pytest.fixture
def log(database: str) -> Iterator[Watched]:
    migrate(database)
    inner = EmbeddedLog(database)
    yield Watched(inner)
    inner.close()


def prepare(source: MariadbSource, log: Watched, tables: Sequence[Table] = (ITEM,), *statements: str) -> Topic:
    source.execute(*(statements or (ITEM_SQL,)))
    source.allow(tables)
    return Topic(log, "t", tables)


def catch_up(source: MariadbSource, topic: Topic, **options: Any) -> None:
    source.capture(list(topic.tables.values()), topic.log, "t", **options).run_until_now(threading.Event())


def stopped(source: MariadbSource, topic: Topic) -> CaptureStoppedError:
    """The error that the capture ends with."""
    with Running(source.capture(list(topic.tables.values()), topic.log, "t")) as running:
        error = running.error()
    assert isinstance(error, CaptureStoppedError)
    return error


# --- statements without rows ---


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE item",
        "RENAME TABLE item TO elsewhere",
        "ALTER TABLE item RENAME TO elsewhere",
        "CREATE OR REPLACE TABLE item (id integer NOT NULL, name varchar(200), amount integer, PRIMARY KEY (id))",
        "ALTER TABLE item TRUNCATE PARTITION p0",
        "ALTER TABLE item DROP PARTITION p0",
    ],
)
def test_rows_that_go_without_a_trace_are_a_stop(source: MariadbSource, log: Watched, statement: str) -> None:
    """What was committed before is kept, and a restart stops at the same place."""
    partitioned = f"{ITEM_SQL} PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE)"
    topic = prepare(source, log, (ITEM,), partitioned)
    catch_up(source, topic)
    source.execute("INSERT INTO item VALUES (1, 'a', 1)", statement)
    for _ in range(2):
        error = stopped(source, topic)
        assert "item" in error.message
        assert "snapshot" in error.hint
    assert topic.mirror("item") == {("1",): ("1", "a", "1")}


def test_a_change_logged_as_a_statement_is_a_stop(source: MariadbSource, log: Watched) -> None:
    """A session with binlog_format=STATEMENT hides rows: of our tables that is a stop, of others nothing."""
    topic = prepare(source, log, (ITEM,), ITEM_SQL, "CREATE TABLE other (id integer PRIMARY KEY)")
    catch_up(source, topic)
    source.execute("SET STATEMENT binlog_format = 'STATEMENT' FOR INSERT INTO other VALUES (1)")
    source.execute("INSERT INTO item VALUES (1, 'a', 1)")
    catch_up(source, topic)
    assert [c.key for c in topic.changes("item")] == [("1",)]
    connection = source.server.connect(source.database)
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = 'STATEMENT'")
        cursor.execute("UPDATE item SET amount = amount + 1")
    connection.close()
    error = stopped(source, topic)
    assert "item" in error.message
    assert "binlog_format" in error.message


def test_a_row_image_without_all_columns_is_a_stop(source: MariadbSource, log: Watched) -> None:
    """A session that logs changed columns only cannot be followed."""
    topic = prepare(source, log)
    source.execute("INSERT INTO item VALUES (1, 'a', 1)")
    catch_up(source, topic)
    connection = source.server.connect(source.database)
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_image = 'MINIMAL'")
        cursor.execute("UPDATE item SET amount = 2")
    connection.close()
    assert "binlog_row_image" in stopped(source, topic).message


# --- the shape changes ---


def test_values_changed_by_ddl_are_read_again(source: MariadbSource, log: Watched) -> None:
    """A changed type, and a new column with values in it, change rows without logging them: the table is read again."""
    item = Table("item", (*ITEM.columns, Column("extra", INTEGER, optional=True)), ("id",))
    topic = prepare(source, log, (item,), ITEM_SQL)
    source.execute("INSERT INTO item VALUES (1, 'long name', 1), (2, 'b', 2)")
    catch_up(source, topic)
    source.execute(
        "ALTER TABLE item MODIFY name varchar(210)",
        "UPDATE item SET name = 'b2' WHERE id = 2",
        "ALTER TABLE item ADD COLUMN extra integer NOT NULL DEFAULT 7",
        "DELETE FROM item WHERE id = 2",
        "INSERT INTO item VALUES (3, 'c', 3, 8)",
    )
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(item)
    ends = [e.status for e in topic.events() if isinstance(e, Boundary) and e.transaction.startswith("snapshot:")]
    assert ends == ["BEGIN", "END"] * (len(ends) // 2)
    assert len(ends) >= 4
    source.execute("INSERT INTO item VALUES (4, 'd', 4, 9)")
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(item)


def test_an_empty_column_that_comes_is_not_read_again(source: MariadbSource, log: Watched) -> None:
    """A new optional column that is NULL everywhere, an index, a comment: nothing is read again."""
    item = Table("item", (*ITEM.columns, Column("extra", INTEGER, optional=True)), ("id",))
    topic = prepare(source, log, (item,), ITEM_SQL)
    source.execute("INSERT INTO item VALUES (1, 'a', 1)")
    catch_up(source, topic)
    source.execute(
        "ALTER TABLE item ADD COLUMN extra integer, COMMENT 'drop partition'",
        "ALTER TABLE item ADD INDEX (amount)",
        "UPDATE item SET extra = 5",
    )
    catch_up(source, topic)
    assert [(c.op, c.row and c.row[3]) for c in topic.changes("item")] == [("r", None), ("u", "5")]


def test_a_table_declared_later_is_read_beside_the_stream(source: MariadbSource, log: Watched) -> None:
    """What was there before is read as one unit; the other tables go on; nothing is read twice after a restart."""
    topic = prepare(source, log, (ITEM,), ITEM_SQL, LINE_SQL)
    source.execute("INSERT INTO item VALUES (1, 'a', 1)", "INSERT INTO line VALUES (1, 1, 'x'), (1, 2, 'y')")
    catch_up(source, topic)
    source.execute("UPDATE item SET amount = 2", "DELETE FROM line WHERE no = 2")
    source.allow((ITEM, LINE))
    both = Topic(log, "t", (ITEM, LINE))
    for _ in range(2):
        catch_up(source, both)
        assert both.mirror("item") == source.rows(ITEM)
        assert both.mirror("line") == source.rows(LINE)
        source.execute("INSERT INTO line VALUES (2, 1, 'z')")
        catch_up(source, both)
        source.execute("DELETE FROM line WHERE item_id = 2")
    ends = [e.status for e in both.events() if isinstance(e, Boundary) and e.transaction.startswith("snapshot:")]
    assert ends == ["BEGIN", "END", "BEGIN", "END"]
    assert [c.key for c in both.changes("item") if c.op == "r"] == [("1",)]


def test_types_nobody_asked_for_pass(source: MariadbSource, log: Watched) -> None:
    """UUID, INET6, geometry, virtual and invisible columns, beside declared ones and in other tables, disturb nothing."""
    topic = prepare(
        source,
        log,
        (ITEM,),
        "CREATE TABLE item (u uuid, place point, id integer NOT NULL, i6 inet6, i4 inet4, name varchar(200) CHARACTER SET "
        "latin1, twice integer AS (amount * 2) VIRTUAL, y year, amount integer, hidden integer INVISIBLE, PRIMARY KEY (id))",
        "CREATE TABLE other (u uuid PRIMARY KEY, place geometry, v integer AS (1) STORED)",
    )
    insert = "INSERT INTO item (u, place, id, i6, i4, name, y, amount, hidden) VALUES "
    values = "(UUID(), POINT(1, 2), {}, '::1', '1.2.3.4', 'é', 2024, 5, 6)"
    source.execute(insert + values.format(1), insert + values.format(2))
    catch_up(source, topic)
    source.execute(
        insert + values.format(3),
        "INSERT INTO other (u, place) VALUES (UUID(), POINT(1, 2))",
        "UPDATE item SET amount = 6, u = NULL, place = NULL WHERE id = 1",
        "DELETE FROM item WHERE id = 2",
    )
    catch_up(source, topic)
    assert topic.mirror("item") == {("1",): ("1", "é", "6"), ("3",): ("3", "é", "5")}


def test_generated_columns_come_like_others(source: MariadbSource, log: Watched) -> None:
    """Stored and virtual ones, by snapshot and by stream."""
    item = table("item", "id", id=INTEGER, amount=INTEGER, twice=INTEGER, thrice=INTEGER)
    topic = prepare(
        source,
        log,
        (item,),
        "CREATE TABLE item (id integer PRIMARY KEY, amount integer, twice integer AS (amount * 2) VIRTUAL, "
        "thrice integer AS (amount * 3) STORED)",
    )
    source.execute("INSERT INTO item (id, amount) VALUES (1, 1), (2, 2)")
    catch_up(source, topic)
    source.execute("INSERT INTO item (id, amount) VALUES (3, 3)", "UPDATE item SET amount = 10 WHERE id = 1")
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(item)
    assert topic.mirror("item")["1",] == ("1", "10", "20", "30")


# --- transactions ---


def test_what_is_undone_beside_a_table_without_transactions_is_left_out(source: MariadbSource, log: Watched) -> None:
    """A rollback, whole or to a savepoint, undoes rows of InnoDB; those of MyISAM stay, as in the source."""
    plain = table("plain", "id", id=INTEGER)
    topic = prepare(
        source,
        log,
        (ITEM, plain),
        ITEM_SQL,
        "CREATE TABLE plain (id integer NOT NULL, PRIMARY KEY (id)) ENGINE = MyISAM",
    )
    catch_up(source, topic)
    connection = source.server.connect(source.database)
    with connection.cursor() as cursor:
        for statement in (
            "START TRANSACTION",
            "INSERT INTO item VALUES (1, 'kept', 1)",
            "SAVEPOINT `a b`",
            "INSERT INTO item VALUES (2, 'undone', 1)",
            "INSERT INTO plain VALUES (1)",
            "ROLLBACK TO `a b`",
            "INSERT INTO item VALUES (3, 'kept', 1)",
            "COMMIT",
            "START TRANSACTION",
            "INSERT INTO item VALUES (4, 'undone', 1)",
            "INSERT INTO plain VALUES (2)",
            "CREATE TEMPORARY TABLE passing (id integer)",
            "ROLLBACK",
        ):
            cursor.execute(statement)
    connection.close()
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(ITEM)
    assert set(topic.mirror("item")) == {("1",), ("3",)}
    assert topic.mirror("plain") == source.rows(plain)
    topic.transactions()


def test_a_snapshot_of_tables_without_transactions_catches_up(source: MariadbSource, log: Watched) -> None:
    """MyISAM has no consistent view: the unit stays open until all that was seen is passed."""
    topic = prepare(source, log, (ITEM,), f"{ITEM_SQL} ENGINE = MyISAM")
    source.execute("INSERT INTO item VALUES (1, 'a', 1)")
    catch_up(source, topic)
    source.execute("UPDATE item SET amount = 2")
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(ITEM)
    ends = [e.status for e in topic.events() if isinstance(e, Boundary) and e.transaction.startswith("snapshot:")]
    assert ends == ["BEGIN", "END"]


def test_two_phase_transactions(source: MariadbSource, log: Watched) -> None:
    """XA in one phase is a transaction like others; in two phases its rows come before it is decided: a stop."""
    topic = prepare(source, log)
    catch_up(source, topic)
    connection = source.server.connect(source.database)
    with connection.cursor() as cursor:
        for statement in (
            "XA START 'x'",
            "INSERT INTO item VALUES (1, 'a', 1)",
            "XA END 'x'",
            "XA COMMIT 'x' ONE PHASE",
        ):
            cursor.execute(statement)
        catch_up(source, topic)
        assert [c.key for unit in topic.transactions() for c in unit if isinstance(c, Change)] == [("1",)]
        for statement in ("XA START 'y'", "INSERT INTO item VALUES (2, 'b', 1)", "XA END 'y'", "XA PREPARE 'y'"):
            cursor.execute(statement)
        cursor.execute("XA ROLLBACK 'y'")
    connection.close()
    assert "XA" in stopped(source, topic).message


def test_a_compressed_binlog_reads_like_any_other(source: MariadbSource, log: Watched) -> None:
    """log_bin_compress packs rows and statements."""
    topic = prepare(source, log)
    catch_up(source, topic)
    source.execute("SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress_min_len = 10")
    try:
        rows = ", ".join(f"({n}, '{'x' * 100}', {n})" for n in range(300))
        source.execute(
            f"INSERT INTO item VALUES {rows}",
            "UPDATE item SET amount = amount + 1",
            "DELETE FROM item WHERE id > 200",
            f"ALTER TABLE item ADD COLUMN extra integer COMMENT '{'c' * 500}'",
            "UPDATE item SET extra = 1 WHERE id < 10",
        )
    finally:
        source.execute("SET GLOBAL log_bin_compress = OFF")
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(ITEM)


def test_a_log_that_does_not_answer_is_waited_for(source: MariadbSource, log: Watched) -> None:
    """Before an append and behind one that was carried out: nothing lost, nothing twice."""
    topic = prepare(source, log)
    catch_up(source, topic)
    source.execute(*(f"INSERT INTO item VALUES ({n}, 'x', 1)" for n in range(1, 6)))
    failures = [LogUnreachableError("The log is away."), None, LogUnreachableError("The log is away again.")]

    def fail(messages: list[Message]) -> None:
        failure = failures.pop(0) if failures else None
        if failure is not None:
            raise failure

    log.before_append = fail
    with Running(source.capture([ITEM], topic.log, "t", heartbeat_seconds=0.1)) as running:
        topic.wait(lambda: not failures and len(topic.changes("item")) == 5, "all changes", running)
        running.stop()
    assert [c.key[0] for c in topic.changes("item")] == ["1", "2", "3", "4", "5"]
    topic.transactions()


# --- foreign keys ---


def test_foreign_keys_are_told_before_the_rows_and_when_they_change(source: MariadbSource, log: Watched) -> None:
    """With their actions, in declared names; those to tables nobody declared are left out."""
    topic = prepare(
        source,
        log,
        (ITEM, LINE),
        "CREATE TABLE other (id integer PRIMARY KEY)",
        ITEM_SQL,
        "CREATE TABLE line (item_id integer NOT NULL, no integer NOT NULL, note varchar(200), PRIMARY KEY (item_id, no), "
        "CONSTRAINT of_item FOREIGN KEY (item_id) REFERENCES item (id) ON DELETE CASCADE ON UPDATE CASCADE, "
        "CONSTRAINT of_other FOREIGN KEY (no) REFERENCES other (id) ON DELETE CASCADE)",
    )
    catch_up(source, topic)
    first = topic.events()[0]
    assert isinstance(first, ForeignKeys)
    assert first.keys == (ForeignKey("of_item", "line", ("item_id",), "item", ("id",), "CASCADE", "CASCADE"),)
    source.execute("ALTER TABLE item ADD COLUMN extra integer", "ALTER TABLE line DROP FOREIGN KEY of_item")
    catch_up(source, topic)
    assert [e.keys for e in topic.events() if isinstance(e, ForeignKeys)] == [first.keys, ()]


def test_sessions_without_foreign_key_checks_say_so(source: MariadbSource, log: Watched) -> None:
    """Their changes cascade to nothing: `source.foreign_key_checks` is false."""
    topic = prepare(source, log)
    catch_up(source, topic)
    connection = source.server.connect(source.database)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO item VALUES (1, 'a', 1)")
        cursor.execute("SET foreign_key_checks = 0")
        cursor.execute("DELETE FROM item")
    connection.close()
    catch_up(source, topic)
    blocks = [json.loads(r.value or b"{}").get("source") for r in topic.records()]
    told = [block.get("foreign_key_checks", True) for block in blocks if block and block.get("row") is not None]
    assert told == [True, False]


# --- servers ---


def test_it_goes_on_at_another_server_by_gtid(source: MariadbSource, log: Watched) -> None:
    """A replica takes the primary's place: from the stored GTIDs each commit comes once, whatever the files are called."""
    start = source.query("SELECT @@gtid_binlog_pos")[0][0]
    topic = prepare(source, log)
    source.execute("INSERT INTO item VALUES (1, 'a', 1)")
    catch_up(source, topic)
    source.execute("INSERT INTO item VALUES (2, 'b', 2)")
    primary = source.server
    with MariaDB(server_id=2, settings={"log_slave_updates": "ON", "log_bin": "other"}) as replica:
        primary.execute("GRANT REPLICATION SLAVE ON *.* TO 'replica'@'%' IDENTIFIED BY 'replica'", binlog=False)
        position = source.query("SELECT @@gtid_binlog_pos")[0][0]
        replica.execute(f"CREATE DATABASE {source.database}", binlog=False)
        replica.execute(
            f"SET GLOBAL gtid_slave_pos = '{start}'",
            f"CHANGE MASTER TO master_host = '127.0.0.1', master_port = {primary.port}, master_user = 'replica', "
            "master_password = 'replica', master_use_gtid = slave_pos",
            "START SLAVE",
        )
        waiting = replica.connect()
        with waiting.cursor() as cursor:
            cursor.execute(f"SELECT MASTER_GTID_WAIT('{position}', {DEADLINE})")
            assert cursor.fetchone() == (0,)
        waiting.close()
        replica.execute("STOP SLAVE", "INSERT INTO item VALUES (3, 'c', 3)", database=source.database)
        dsn = replica.create_capture_user([ITEM], database=source.database, user=source.user)
        MySQLCapture(dsn, [ITEM], topic.log, "t", name=source.name).run_until_now(threading.Event())
        primary.execute("DROP USER 'replica'@'%'", binlog=False)
    assert [(c.op, c.key[0]) for c in topic.changes("item")] == [("r", "1"), ("c", "2"), ("c", "3")]


def test_two_captures_of_one_name_are_a_stop(source: MariadbSource, log: Watched) -> None:
    """The one that is thrown out says so, instead of throwing the other out in turn."""
    topic = prepare(source, log)
    with Running(source.capture([ITEM], topic.log, "t")) as first:
        topic.wait(
            lambda: any(isinstance(e, Boundary) and e.status == "END" for e in topic.events()), "the snapshot", first
        )
        source.execute("INSERT INTO item VALUES (1, 'a', 1)")
        topic.wait(lambda: topic.changes("item"), "the stream", first)
        other = Topic(log, "other", [ITEM])
        with Running(source.capture([ITEM], other.log, "other")) as second:
            error = first.error()
            source.execute("INSERT INTO item VALUES (2, 'b', 2)")
            other.wait(lambda: ("2",) in other.mirror("item"), "the second goes on", second)
            second.stop()
    assert isinstance(error, CaptureStoppedError)
    assert "name" in error.hint


def test_a_certificate_that_is_asked_for_is_looked_at(log: Watched, tmp_path: Path) -> None:
    """With ssl-ca the server must show a certificate of it, for its own name; without TLS nothing is sent to it."""
    folder = Path(tempfile.mkdtemp(prefix="rowtide-tls-"))
    own, foreign = certificate(folder, "own"), certificate(folder, "foreign")
    with MariaDB(settings={"ssl_cert": str(own), "ssl_key": str(own.with_suffix(".key"))}) as server:
        server.create_database("shop")
        server.execute(ITEM_SQL, "INSERT INTO item VALUES (1, 'a', 1)", database="shop")
        dsn = server.create_capture_user([ITEM], database="shop")
        server.execute("ALTER USER 'rowtide'@'%' REQUIRE SSL", binlog=False)
        topic = Topic(log, "t", [ITEM])
        MySQLCapture(f"{dsn}?ssl-ca={own}", [ITEM], topic.log, "t", name="tls").run_until_now(threading.Event())
        server.execute("UPDATE item SET amount = 2", database="shop")
        MySQLCapture(f"{dsn}?ssl-ca={own}", [ITEM], topic.log, "t", name="tls").run_until_now(threading.Event())
        assert topic.mirror("item") == {("1",): ("1", "a", "2")}
        for options, told in ((f"ssl-ca={foreign}", "ssl-ca"), ("ssl-mode=disabled", "source.dsn")):
            with pytest.raises(CaptureStoppedError) as raised:
                MySQLCapture(f"{dsn}?{options}", [ITEM], topic.log, "t", name="tls").run(threading.Event())
            assert told in raised.value.hint
    shutil.rmtree(folder)


def certificate(folder: Path, name: str) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key beside it; readable by the server's user."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    folder.chmod(0o755)
    path.with_suffix(".key").chmod(0o644)
    return path


# --- preflight ---


@pytest.mark.parametrize(
    ("variable", "value", "needed"),
    [
        ("binlog_format", "MIXED", "ROW"),
        ("binlog_row_image", "NOBLOB", "FULL"),
        ("binlog_row_metadata", "MINIMAL", "FULL"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(
    source: MariadbSource, log: Watched, variable: str, value: str, needed: str
) -> None:
    """Before anything is read."""
    topic = prepare(source, log)
    source.execute(f"SET GLOBAL {variable} = '{value}'")
    try:
        error = stopped(source, topic)
    finally:
        source.execute(f"SET GLOBAL {variable} = '{needed}'")
    assert f"{variable} = {value}" in error.message
    assert f"SET GLOBAL {variable} = '{needed}'" in error.hint
    assert topic.records() == []


def test_the_printed_grants_are_all_needed(source: MariadbSource, log: Watched) -> None:
    """Each right that is left out is a stop that leads to `rowtide grants`."""
    topic = prepare(source, log, (ITEM,))
    for right in ("REPLICATION SLAVE ON *.*", "BINLOG MONITOR ON *.*", f"SELECT ON {source.database}.item"):
        source.execute(f"REVOKE {right} FROM '{source.user}'@'%'")
        error = stopped(source, topic)
        assert "rowtide grants" in error.hint
        source.execute(f"GRANT {right} TO '{source.user}'@'%'")
    catch_up(source, topic)


def test_grants_name_what_they_must_and_quote_it() -> None:
    """For both families; a user without a password is never let in."""
    lines = grants([Table("o`dd", ITEM.columns, ("id",))], user="o'hara", database="d", mariadb=False)
    assert "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'o\\'hara'@'%';" in lines
    assert "GRANT SELECT ON `d`.`o``dd` TO 'o\\'hara'@'%';" in lines
    assert "CREATE USER 'o\\'hara'@'%' ACCOUNT LOCK;" in lines


@pytest.mark.parametrize(
    ("source_type", "declared"),
    [("blob", "text"), ("varchar(10)", "integer"), ("decimal(5,2)", "integer"), ("datetime", "date")],
)
def test_a_declared_type_that_cannot_hold_the_source_is_a_stop(
    source: MariadbSource, log: Watched, source_type: str, declared: str
) -> None:
    """The column is named, with the types that can."""
    odd = table("odd", "id", id=INTEGER, value=declared)
    topic = prepare(source, log, (odd,), f"CREATE TABLE odd (id integer PRIMARY KEY, value {source_type})")
    error = stopped(source, topic)
    assert "odd.value" in error.message
    assert "source.sql" in error.hint


def test_names_are_found_in_any_case_where_the_source_does_not_tell_them_apart(
    source: MariadbSource, log: Watched
) -> None:
    """Column names never depend on case in MariaDB."""
    item = table("item", "ID", ID=INTEGER, Name=TEXT)
    topic = prepare(source, log, (item,), ITEM_SQL)
    source.execute("INSERT INTO item VALUES (1, 'a', 1)")
    catch_up(source, topic)
    source.execute("UPDATE item SET name = 'b'")
    catch_up(source, topic)
    assert topic.mirror("item") == {("1",): ("1", "b")}
