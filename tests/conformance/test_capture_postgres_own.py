"""What only PostgreSQL has: replica identities, large values, slots, publications, partitions, grants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import structlog
from postgres_source import PostgresServer, PostgresSource
from sources import INTEGER, ITEM, ITEM_SQL, LINE, LINE_SQL, TEXT, Running, Topic, table

from connectors.capture import CaptureStoppedError
from connectors.event import UNAVAILABLE, Boundary, Change
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate
from connectors.table import Table

DOCUMENT = table("document", "id", id=INTEGER, code=TEXT, body="text")
DOCUMENT_SQL = "CREATE TABLE document (id integer NOT NULL, code varchar(200) NOT NULL, body text, PRIMARY KEY (id))"
LARGE = "(SELECT string_agg(md5(g::text || '{0}'), '') FROM generate_series(1, 400) AS g)"


@pytest.fixture
def source(postgres_server: PostgresServer) -> Iterator[PostgresSource]:
    made = PostgresSource(postgres_server)
    yield made
    made.close()


@pytest.fixture
def log(database: str) -> Iterator[EmbeddedLog]:
    migrate(database)
    made = EmbeddedLog(database)
    yield made
    made.close()


def prepared(source: PostgresSource, log: EmbeddedLog, tables: list[Table], *statements: str) -> Topic:
    source.execute(*statements)
    source.allow(tables)
    return Topic(log, "t", tables)


def catch_up(source: PostgresSource, topic: Topic, **options: Any) -> None:
    source.capture(list(topic.tables.values()), topic.log, "t", **options).run_until_now(threading.Event())


def refusal(source: PostgresSource, topic: Topic, **options: Any) -> CaptureStoppedError:
    """The error with which a capture stops by itself."""
    with Running(source.capture(list(topic.tables.values()), topic.log, "t", **options)) as running:
        error = running.error()
    assert isinstance(error, CaptureStoppedError)
    return error


# --- replica identity and large values ---


@pytest.mark.parametrize(
    "identity",
    ["DEFAULT", "FULL", "USING INDEX document_identity"],
)
def test_each_replica_identity_serves(source: PostgresSource, log: EmbeddedLog, identity: str) -> None:
    """With each identity that tells the key, changes, moved keys and large unchanged values come whole."""
    topic = prepared(
        source,
        log,
        [DOCUMENT],
        DOCUMENT_SQL,
        "CREATE UNIQUE INDEX document_identity ON document (id, code)",
        f"ALTER TABLE document REPLICA IDENTITY {identity}",
        f"INSERT INTO document SELECT n, 'c' || n, {LARGE.format('')} FROM generate_series(1, 5) AS n",
    )
    catch_up(source, topic)
    source.execute(
        "UPDATE document SET code = 'changed' WHERE id = 1",
        "UPDATE document SET id = 20 WHERE id = 2",
        f"UPDATE document SET body = {LARGE.format('new')} WHERE id = 3",
        "DELETE FROM document WHERE id = 4",
        "UPDATE document SET body = NULL WHERE id = 5",
    )
    catch_up(source, topic)
    assert topic.mirror("document") == source.rows(DOCUMENT)


def test_a_large_unchanged_value_is_not_sent_but_kept(source: PostgresSource, log: EmbeddedLog) -> None:
    """An update beside a large value says that the value is unchanged; it never says NULL."""
    topic = prepared(source, log, [DOCUMENT], DOCUMENT_SQL, f"INSERT INTO document SELECT 1, 'a', {LARGE.format('')}")
    catch_up(source, topic)
    source.execute("UPDATE document SET code = 'b'")
    catch_up(source, topic)
    change = topic.changes("document")[-1]
    assert change.row is not None
    assert change.row[2] is UNAVAILABLE
    assert topic.mirror("document") == source.rows(DOCUMENT)


def test_a_large_value_follows_its_key_through_several_moves(source: PostgresSource, log: EmbeddedLog) -> None:
    """Keys that move again before the stream comes to them, or go, still end as in the source."""
    topic = prepared(
        source,
        log,
        [DOCUMENT],
        DOCUMENT_SQL,
        f"INSERT INTO document SELECT n, 'a', {LARGE.format('')} FROM generate_series(1, 3) AS n",
    )
    catch_up(source, topic)
    source.execute(
        "UPDATE document SET id = 11 WHERE id = 1",
        "UPDATE document SET id = 21 WHERE id = 11",
        "UPDATE document SET id = 12 WHERE id = 2",
        "DELETE FROM document WHERE id = 12",
        "UPDATE document SET id = 13 WHERE id = 3",
        f"UPDATE document SET body = {LARGE.format('new')} WHERE id = 13",
    )
    catch_up(source, topic)
    assert topic.mirror("document") == source.rows(DOCUMENT)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["ALTER TABLE item REPLICA IDENTITY NOTHING"], 'Run ALTER TABLE "public"."item" REPLICA IDENTITY DEFAULT'),
        (
            [
                "ALTER TABLE item ALTER name SET NOT NULL",
                "CREATE UNIQUE INDEX other ON item (name)",
                "ALTER TABLE item REPLICA IDENTITY USING INDEX other",
            ],
            "REPLICA IDENTITY FULL",
        ),
        (["ALTER TABLE item DROP CONSTRAINT item_pkey"], 'ADD PRIMARY KEY ("id")'),
        (
            ["ALTER TABLE item DROP CONSTRAINT item_pkey", "ALTER TABLE item REPLICA IDENTITY FULL"],
            'ADD PRIMARY KEY ("id")',
        ),
        (["ALTER TABLE item SET UNLOGGED"], 'Run ALTER TABLE "public"."item" SET LOGGED'),
        (["ALTER TABLE item ENABLE ROW LEVEL SECURITY"], "BYPASSRLS"),
        (["ALTER TABLE item DROP amount, ADD amount integer GENERATED ALWAYS AS (id * 2) STORED"], "model"),
        (["ALTER TABLE item RENAME TO base", "CREATE VIEW item AS SELECT * FROM base"], "model"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_what_to_type(
    source: PostgresSource, log: EmbeddedLog, statements: list[str], words: str
) -> None:
    """Tables whose changes would be lost in silence are refused before anything is read."""
    source.execute(ITEM_SQL, *statements)
    owner = source.capture([ITEM], log, "t")
    if "VIEW" in statements[-1] or "UNLOGGED" in statements[-1]:  # no publication can have it
        source.execute(f"CREATE ROLE {source.user} LOGIN REPLICATION PASSWORD '{source.password}' IN ROLE secured")
    else:
        source.allow([ITEM])
    topic = Topic(log, "t", [ITEM])
    with Running(owner) as running:
        error = running.error()
    assert isinstance(error, CaptureStoppedError)
    assert words in error.hint
    assert topic.records() == []


def test_an_undeclared_generated_column_is_no_matter(source: PostgresSource, log: EmbeddedLog) -> None:
    """A generated column that nobody declares changes nothing, wherever it stands."""
    topic = prepared(
        source,
        log,
        [ITEM],
        "CREATE TABLE item (twice integer GENERATED ALWAYS AS (id * 2) STORED, id integer PRIMARY KEY, name varchar(200), "
        "amount integer)",
        "INSERT INTO item (id, name, amount) VALUES (1, 'a', 1)",
    )
    catch_up(source, topic)
    source.execute("INSERT INTO item (id, name, amount) VALUES (2, 'b', 2)")
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(ITEM)


# --- partitions ---


def test_a_partitioned_table_is_one_table(source: PostgresSource, log: EmbeddedLog) -> None:
    """Rows come under the whole table's name, from new partitions too, and when they move between partitions."""
    topic = prepared(
        source,
        log,
        [ITEM],
        "CREATE TABLE item (id integer PRIMARY KEY, name varchar(200), amount integer) PARTITION BY RANGE (id)",
        "CREATE TABLE item_low PARTITION OF item FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE item_high PARTITION OF item FOR VALUES FROM (100) TO (200)",
        "INSERT INTO item VALUES (1, 'a', 1), (150, 'b', 2)",
    )
    catch_up(source, topic)
    source.execute(
        "INSERT INTO item VALUES (2, 'c', 3)",
        "UPDATE item SET id = 151 WHERE id = 1",
        "CREATE TABLE item_more PARTITION OF item FOR VALUES FROM (200) TO (300)",
        "INSERT INTO item VALUES (250, 'd', 4)",
        "DELETE FROM item WHERE id = 150",
    )
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(ITEM)
    source.execute("TRUNCATE item")
    catch_up(source, topic)
    assert topic.mirror("item") == {}


def test_a_publication_by_partitions_is_refused(source: PostgresSource, log: EmbeddedLog) -> None:
    """A publication that names partitions would hide every change: the statement that mends it is told."""
    topic = prepared(
        source,
        log,
        [ITEM],
        "CREATE TABLE item (id integer PRIMARY KEY, name varchar(200), amount integer) PARTITION BY RANGE (id)",
        "CREATE TABLE item_low PARTITION OF item FOR VALUES FROM (0) TO (100)",
    )
    source.execute(f"ALTER PUBLICATION rowtide_{source.name} SET (publish_via_partition_root = false)")
    error = refusal(source, topic)
    assert error.hint.startswith("Run ALTER PUBLICATION")
    source.execute(error.hint.removeprefix("Run ").removesuffix("."))
    catch_up(source, topic)


# --- publications ---


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER PUBLICATION {0} SET (publish = 'insert, update')",
        "ALTER PUBLICATION {0} SET TABLE item WHERE (id > 5)",
        "ALTER PUBLICATION {0} SET TABLE item (id, name)",
    ],
)
def test_a_publication_that_leaves_out_is_refused(source: PostgresSource, log: EmbeddedLog, statement: str) -> None:
    """Kinds of changes, rows or columns that are not published would be lost in silence."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    source.execute(statement.format(f"rowtide_{source.name}"))
    assert "leaves" in refusal(source, topic).message


def test_a_gap_in_the_publication_is_read_over(source: PostgresSource, log: EmbeddedLog) -> None:
    """A table that was out of the publication for a while has changes nobody has seen: it is read again, in one unit.

    So it is where that happens under a running capture.
    """
    topic = prepared(source, log, [ITEM, LINE], ITEM_SQL, LINE_SQL)
    source.execute("INSERT INTO item VALUES (1, 'goes', 1)", "INSERT INTO line VALUES (1, 1, 'stays')")
    gap = (
        f"ALTER PUBLICATION rowtide_{source.name} DROP TABLE item",
        "DELETE FROM item",
        "INSERT INTO item VALUES (2, 'unseen', 1)",
        f"ALTER PUBLICATION rowtide_{source.name} ADD TABLE item",
    )
    catch_up(source, topic)
    source.execute(*gap)
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(ITEM) != {}
    with Running(source.capture(topic.tables.values(), log, "t", heartbeat_seconds=0.2)) as running:
        topic.wait(topic.heartbeats, "the stream", running)
        source.execute(
            "INSERT INTO item VALUES (3, 'goes', 1)", *gap[:2], "INSERT INTO item VALUES (4, 'x', 1)", gap[3]
        )
        topic.wait_equal(source, running)
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(ITEM)
    ends = [e.status for e in topic.events() if isinstance(e, Boundary)]
    assert ends == [status for _ in range(len(ends) // 2) for status in ("BEGIN", "END")]
    assert [c.key for c in topic.changes("line")] == [("1", "1")]


def test_a_publication_dropped_while_streaming_is_a_stop(source: PostgresSource, log: EmbeddedLog) -> None:
    """The source would go on in silence without it."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    capture = source.capture([ITEM], log, "t", heartbeat_seconds=0.2)
    with Running(capture) as running:
        topic.wait(topic.heartbeats, "the stream", running)
        source.execute(f"DROP PUBLICATION rowtide_{source.name}")
        error = running.error()
    assert isinstance(error, CaptureStoppedError)
    assert "publication" in error.message


def test_what_a_transaction_changed_before_its_table_was_published_is_read(
    source: PostgresSource, log: EmbeddedLog
) -> None:
    """The source does not send it; so a table that comes is not read before that transaction has ended."""
    topic = prepared(source, log, [ITEM, LINE], ITEM_SQL, LINE_SQL)
    source.execute(f"ALTER PUBLICATION rowtide_{source.name} DROP TABLE line")
    source.capture([ITEM], log, "t").run_until_now(threading.Event())
    with Running(source.capture(topic.tables.values(), log, "t")) as running:
        with source.transaction() as session:
            session.execute("INSERT INTO line VALUES (1, 1, 'early')")
            session.execute("INSERT INTO item VALUES (1, 'x', 1)")
            source.execute(f"ALTER PUBLICATION rowtide_{source.name} ADD TABLE line")
            waiting = (
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%pg_snapshot_xmin%%' AND pid <> pg_backend_pid()"
            )
            topic.wait(lambda: source.query(waiting) or running.ended, "the capture looks at open transactions")
            assert topic.changes("line") == []
        topic.wait_equal(source, running)


# --- slots ---


def test_two_captures_on_one_slot(source: PostgresSource, log: EmbeddedLog) -> None:
    """The second says that the slot is in use; the first is not disturbed."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    with Running(source.capture([ITEM], log, "t")) as first:
        topic.wait(topic.snapshot_done, "the snapshot", first)
        source.execute("INSERT INTO item VALUES (1, 'a', 1)")
        topic.wait(lambda: topic.changes("item"), "the stream", first)
        error = refusal(source, topic, slot_patience_seconds=0.3)
        assert "in use by another process" in error.message
        source.execute("INSERT INTO item VALUES (2, 'b', 2)")
        topic.wait_equal(source, first)
        first.stop()


def test_a_slot_that_was_made_anew_is_noticed(source: PostgresSource, log: EmbeddedLog) -> None:
    """A slot of the right name that begins behind the log's end has a gap before it."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    catch_up(source, topic)
    source.drop_slot()
    source.execute(
        "INSERT INTO item VALUES (1, 'unseen', 1)",
        f"SELECT pg_create_logical_replication_slot('rowtide_{source.name}', 'pgoutput')",
    )
    error = refusal(source, topic)
    assert "made anew" in error.message
    assert topic.changes("item") == []


def test_an_idle_database_lets_its_slot_advance(source: PostgresSource, log: EmbeddedLog) -> None:
    """While other databases write, heartbeats move the slot of an idle one: its source's disk does not fill."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)

    def confirmed() -> int:
        return source.query(
            "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots "
            f"WHERE slot_name = 'rowtide_{source.name}'"
        )[0][0]

    with Running(source.capture([ITEM], log, "t", heartbeat_seconds=0.2)) as running:
        topic.wait(lambda: len(topic.heartbeats()) >= 1, "a heartbeat", running)
        with psycopg.connect(source.server.embedded.dsn(), autocommit=True) as elsewhere:
            elsewhere.execute("CREATE TABLE noise AS SELECT g, md5(g::text) FROM generate_series(1, 50000) AS g")
            row = elsewhere.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint").fetchone()
            elsewhere.execute("DROP TABLE noise")
        assert row is not None
        topic.wait(lambda: confirmed() >= row[0], "the slot advances", running)
        running.stop()


def test_much_retained_wal_is_warned_of_once(source: PostgresSource, log: EmbeddedLog) -> None:
    """A transaction left open holds the slot back: one warning, however many heartbeats."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    capture = source.capture([ITEM], log, "t", heartbeat_seconds=0.1, retained_bytes=1)
    with structlog.testing.capture_logs() as lines, Running(capture) as running:
        topic.wait(lambda: len(topic.heartbeats()) >= 5, "heartbeats", running)
        running.stop()
    warned = [line for line in lines if line["event"] == "slot.retains_wal"]
    assert len(warned) == 1
    assert warned[0]["bytes"] > 1


def test_an_open_transaction_does_not_hang_the_stop(source: PostgresSource, log: EmbeddedLog) -> None:
    """Making the slot waits for transactions that are open in the source; a stop ends the waiting, their end too."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    with psycopg.connect(source.dsn) as connection:
        connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
        with Running(source.capture([ITEM], log, "t")) as running:
            topic.wait(
                lambda: source.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = 'rowtide_{source.name}'"),
                "the slot is being made",
                running,
            )
            running.stop()
        assert topic.records() == []
    catch_up(source, topic)
    assert topic.mirror("item") == source.rows(ITEM)


def test_a_source_that_does_not_log_for_replication_is_told(source: PostgresSource, log: EmbeddedLog) -> None:
    """With another wal_level than logical the setting to change is told."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    source.server.configure("wal_level", "replica")
    source.restart()
    try:
        error = refusal(source, topic)
    finally:
        source.server.configure("wal_level", "logical")
        source.restart()
    assert "wal_level is replica" in error.message
    assert "ALTER SYSTEM SET wal_level = logical" in error.hint
    catch_up(source, topic)


def test_a_source_without_room_for_a_slot_is_told(source: PostgresSource, log: EmbeddedLog) -> None:
    """When all slots are taken the setting to raise is told, rather than trying for ever."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    [(limit,)] = source.query("SELECT current_setting('max_replication_slots')::int")
    source.execute(f"SELECT pg_create_physical_replication_slot('full_' || g) FROM generate_series(1, {limit}) AS g")
    try:
        error = refusal(source, topic)
    finally:
        source.execute(f"SELECT pg_drop_replication_slot('full_' || g) FROM generate_series(1, {limit}) AS g")
    assert "max_replication_slots" in error.hint
    assert topic.records() == []


# --- grants ---


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (0, "refuses the connection"),
        (1, "may not read"),
        (2, "may not read"),
        (3, "publication"),
    ],
)
def test_every_printed_grant_is_needed(source: PostgresSource, log: EmbeddedLog, missing: int, words: str) -> None:
    """Without any one of the printed statements capture stops and says what is missing; with all it works (the rules do)."""
    source.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", ITEM_SQL)
    if missing == 0:
        source.execute(f"CREATE ROLE {source.user} NOLOGIN")
    source.allow([ITEM], but=missing)
    topic = Topic(log, "t", [ITEM])
    error = refusal(source, topic)
    assert words in error.message
    assert "rowtide grants" in error.hint or "source.dsn" in error.hint


def test_a_role_without_replication_is_told(source: PostgresSource, log: EmbeddedLog) -> None:
    """LOGIN without REPLICATION: a stop with the command that prints the grants."""
    topic = prepared(source, log, [ITEM], ITEM_SQL)
    source.execute(f"ALTER ROLE {source.user} NOREPLICATION")
    assert "rowtide grants" in refusal(source, topic).hint


def test_odd_names_are_quoted(source: PostgresSource, log: EmbeddedLog) -> None:
    """Tables and columns may be called what SQL lets them."""
    odd = table('or"der', "Id", **{"Id": INTEGER, "a b": TEXT, "select": TEXT})
    topic = prepared(
        source,
        log,
        [odd],
        'CREATE TABLE "or""der" ("Id" integer PRIMARY KEY, "a b" varchar(200), "select" varchar(200))',
        'INSERT INTO "or""der" VALUES (1, \'x\', NULL)',
    )
    catch_up(source, topic)
    source.execute('UPDATE "or""der" SET "select" = \'y\', "Id" = 2')
    catch_up(source, topic)
    assert topic.mirror('or"der') == {("2",): ("2", "x", "y")}


def test_keys_of_text_resume_in_the_source_order(source: PostgresSource, log: EmbeddedLog) -> None:
    """An interrupted snapshot of a table keyed by text and number goes on behind the last key, by the source's own order."""
    keyed = table("keyed", "code,no", code=TEXT, no=INTEGER, v=INTEGER)
    topic = prepared(
        source,
        log,
        [keyed],
        "CREATE TABLE keyed (code varchar(200), no integer, v integer, PRIMARY KEY (code, no))",
        "INSERT INTO keyed SELECT (ARRAY['ä', 'z', 'Z', 'it''s', '\\'])[g % 5 + 1], g, g FROM generate_series(1, 12000) AS g",
    )
    stop = threading.Event()
    source.capture([keyed], log, "t", on_progress=lambda step: stop.set()).run(stop)
    assert 0 < len(topic.changes("keyed")) < 12_000
    catch_up(source, topic)
    read = [c.key for c in topic.changes("keyed") if isinstance(c, Change)]
    assert len(read) == len(set(read)) == 12_000
    assert topic.mirror("keyed") == source.rows(keyed)
