"""A generated school in real databases: captured by a real daemon, and its flags written back to where it came from."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import psycopg
import pymysql
import pytest
from daemons import until
from mis_school import APPLICATION, PERSON, compute, load_mariadb, pushes, sent
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import load_domain
from daemon import sources, writeback
from daemon.app import App
from daemon.demo.school import TABLES, schema, school_rows
from daemon.service import serve
from daemon.settings import load_settings
from daemon.source_check import Request
from daemon.times import BusinessTime
from daemon.verify_source import verify_source
from deploy.stack.mariadb import MariaDB

_numbers = count(1)
START = datetime(2026, 3, 2, 8)  # noqa: DTZ001 - wall time
PUSHED = datetime(2026, 3, 29, 0, 30, 15, 987_654, tzinfo=UTC)
WALL = datetime(2026, 3, 29, 3, 30, 15)  # noqa: DTZ001 - in Kampala
SIZES = {"applicants": 25, "students": 45}
FLAGS = ("quickbk_status", "pushed_by", "pushed_date", "sync_token")


class OfPostgres:
    """The MIS moved to PostgreSQL with its names as they were, QuickBk_Status and all, so that each must be quoted."""

    added = ("quickbk_status", "pushed_by", "pushed_date")
    mysql = False

    def __init__(self, server: EmbeddedPostgres) -> None:
        number = next(_numbers)
        self._server, self._name, self.user = server, f"mis_{number}", f'Reader of "MIS" {number}'
        self.owner = server.ensure_database(self._name)
        self.dsn = make_conninfo(self.owner, user=self.user)
        with psycopg.connect(self.owner) as connection:
            for statement in schema(mysql=False, tracking=False, spelled=lambda name: f'"{name}"'):
                connection.execute(statement)
            for table, columns, rows in school_rows(START, seed=3, **SIZES):
                listed = ", ".join(f'"{name}"' for name in columns)
                with connection.cursor().copy(f"COPY {table} ({listed}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)

    def allow(self, grants: Sequence[str]) -> None:
        """The user gets what `rowtide grants` printed, as it was printed, and nothing else."""
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute("\n".join(grants))

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.owner, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.replace("`", '"'))

    def rows(self, table: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.owner, row_factory=dict_row) as connection:
            return [{n.lower(): v for n, v in row.items()} for row in connection.execute(f"SELECT * FROM {table}")]

    def close(self) -> None:
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            for call in ("pg_terminate_backend(active_pid, 5000)", "pg_drop_replication_slot(slot_name)"):
                connection.execute(f"SELECT {call} FROM pg_replication_slots WHERE database = %s", [self._name])
            connection.execute(f"DROP DATABASE {self._name} WITH (FORCE)")
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(self.user)))


class OfMariadb:
    """The MIS in MariaDB, which has two of the tracking columns already, spelled in its own way, and dates of zeros."""

    added = ("pushed_date",)
    mysql = True

    def __init__(self, server: MariaDB) -> None:
        self._server, number = server, next(_numbers)
        self._database, self.user, self._password = f"mis_{number}", f"mis_{number}", f"geheim/{number}"
        load_mariadb(server, self._database, START, seed=3, tracking=False, **SIZES)
        self.execute(
            *(
                f"ALTER TABLE {table} ADD COLUMN QuickBk_status int DEFAULT 0, "
                "ADD COLUMN Pushed_By varchar(100) DEFAULT 'System Auto Push'"
                for table in (APPLICATION, PERSON)
            ),
            f"CREATE USER 'mis_owner_{number}'@'%' IDENTIFIED BY '{self._password}'",
            f"GRANT ALL ON `{self._database}`.* TO 'mis_owner_{number}'@'%'",
        )
        self.dsn = server.dsn(self._database, user=self.user, password=self._password)
        self.owner = server.dsn(self._database, user=f"mis_owner_{number}", password=self._password)

    def allow(self, grants: Sequence[str]) -> None:
        """The user gets what `rowtide grants` printed, and nothing else."""
        lines = [line.rstrip(";") for line in grants if not line.startswith(("--", "SET GLOBAL"))]
        self.execute(*lines, f"ALTER USER '{self.user}'@'%' IDENTIFIED BY '{self._password}' ACCOUNT UNLOCK")

    def execute(self, *statements: str) -> None:
        self._server.execute(*statements, database=self._database)

    def rows(self, table: str) -> list[dict[str, Any]]:
        connection = self._server.connect(self._database)
        try:
            with connection.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute(f"SELECT * FROM {table}")
                return [{n.lower(): v for n, v in row.items()} for row in cursor.fetchall()]
        finally:
            connection.close()

    def close(self) -> None:
        self.execute(f"DROP DATABASE `{self._database}`", f"DROP USER IF EXISTS '{self.user}'@'%'")


@pytest.fixture(params=["postgres", "mariadb"])
def source(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = (
        OfPostgres(request.getfixturevalue("server"))
        if request.param == "postgres"
        else OfMariadb(request.getfixturevalue("mariadb"))
    )
    yield made
    made.close()


class Running:
    """The domain beside its source: an operator's app, and a daemon in a thread where it is wanted."""

    def __init__(self, source: Any, database: str) -> None:
        self._database, self._source = database, source
        self.app = self.opened(source.dsn)
        self._stop, self._thread = threading.Event(), threading.Thread()
        self._failures: list[BaseException] = []

    def opened(self, dsn: str) -> App:
        environment = {
            "ROWTIDE_SOURCE__DSN": dsn,
            "ROWTIDE_SOURCE__WRITE_BACK": "true",
            "ROWTIDE_SOURCE__HEARTBEAT_SECONDS": "0.2",
            "ROWTIDE_WEB__ENABLED": "false",
            "ROWTIDE_PARAMETERS__TIME_ZONE": "Africa/Kampala",
        }
        return App(load_settings(None, environment).settings, self._database, load_domain("mis"), BusinessTime())

    def start(self) -> None:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        app = self.opened(self._source.dsn)
        try:
            serve(app, self._stop)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._failures.append(error)
        finally:
            app.close()

    def until(self, condition: Callable[[], Any]) -> Any:
        """What the condition returns once it is true."""

        def look() -> Any:
            if self._failures:
                raise self._failures[0]
            return condition()

        return until(look)

    def end(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)
        assert not self._thread.is_alive()

    def tell(self, rows: Sequence[tuple[str | None, ...]]) -> None:
        for row in rows:
            self.app.append_input("pushed", row, (str(row[0]),))


@pytest.fixture
def running(source: Any, database: str) -> Iterator[Running]:
    migrate(database)
    made = Running(source, database)
    yield made
    made.end()
    made.app.close()


def customers(database: str) -> dict[str, dict[str, Any]]:
    with psycopg.connect(database, row_factory=dict_row) as connection:
        if connection.execute("SELECT to_regclass('mis.customer') AS there").fetchone() == {"there": None}:
            return {}
        return {row["record"]: row for row in connection.execute("SELECT * FROM mis.customer")}


def flags(source: Any) -> dict[str, tuple[Any, ...]]:
    """The tracking columns of every record, as the source has them now."""
    found = {}
    for kind, table, identifier in (("applicant", APPLICATION, "quickbooks_id"), ("student", PERSON, "qk_id")):
        key = TABLES[table][0][0].lower()
        for row in source.rows(table):
            found[f"{kind}:{row[key]}"] = tuple(row.get(name) for name in (*FLAGS, identifier))
    return found


def unsettled(database: str) -> int:
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM mis.pending_applicant_status) + (SELECT count(*) FROM mis.pending_student_status) "
            "+ (SELECT count(*) FROM rowtide.delivery)"
        ).fetchone()
    return int(row[0])


def tables(database: str) -> list[list[Any]]:
    """What the domain remembers of pushes, history included."""
    names = ("pending_customer", "customer_state", "customer_audit", "applicant_flags", "student_flags")
    with psycopg.connect(database) as connection:
        return [connection.execute(f"SELECT t::text FROM mis.{n} AS t ORDER BY 1").fetchall() for n in names]


def test_what_became_of_customers_is_written_where_they_came_from(source: Any, running: Running, database: str) -> None:
    """Columns are added with consent, names of any case are found, flags are written once, and their echo changes no customer.

    Built again from the log, the tables know what was pushed: nobody is pending who was not before.
    """
    owner = running.opened(source.owner)
    lacking = writeback.missing_columns(owner)
    assert {name for name in FLAGS if any(name in line for line in lacking)} == set(source.added)
    assert "pushed_date" not in source.rows(APPLICATION)[0]
    writeback.add_columns(owner, lacking)
    assert writeback.missing_columns(owner) == []
    owner.close()
    source.allow(
        sources.grants(running.app.settings, running.app.domain, user=source.user, schema=None, mysql=source.mysql)
    )
    source.execute(f"INSERT INTO {APPLICATION} (`appl_Id`, first_name) VALUES (900, 'New')")
    assert flags(source)["applicant:900"] == (0, "System Auto Push", None, None, None)

    running.start()
    records = flags(source).keys()
    found = running.until(lambda: (now := customers(database)).keys() == records and now)
    expected = compute({**{t: source.rows(t) for t in TABLES}, "pushed": []})["customer"]
    assert {r: sent(c) for r, c in expected.items()} == {r: sent(c) for r, c in found.items()}

    rows = pushes(found, random.Random(1), PUSHED)
    running.tell(rows)
    wanted = {
        str(record): (int(state or 0), "System Auto Push", WALL, token, identifier)
        for record, _, state, identifier, token, *_ in rows
    }
    running.until(lambda: flags(source) == wanted)
    running.until(lambda: unsettled(database) == 0)

    # The flags came back as changes: no fingerprint changed, those pending are whom the push had not got through.
    after = customers(database)
    assert {r: (c["fingerprint"], sent(c)) for r, c in found.items()} == {
        r: (c["fingerprint"], sent(c)) for r, c in after.items()
    }
    assert {r: c["known_id"] for r, c in after.items()} == {r: flag[4] for r, flag in wanted.items()}
    with psycopg.connect(database) as connection:
        pending = {record for (record,) in connection.execute("SELECT record FROM mis.pending_customer")}
    assert pending == {str(row[0]) for row in rows if row[2] != "1"}

    # A key that moves, a name that changes, a row that goes: found by names of any case, too.
    source.execute(
        f"UPDATE {APPLICATION} SET `appl_Id` = 901, `nation_Id_passPort_no` = 'CM1' WHERE `appl_Id` = 900",
        f"DELETE FROM {APPLICATION} WHERE `appl_Id` = 1",
    )
    moved = running.until(
        lambda: (now := customers(database)).keys() >= {"applicant:901"} and "applicant:1" not in now and now
    )
    assert moved["applicant:901"]["fields"]["NationalID"] == "CM1"
    running.until(lambda: unsettled(database) == 0)
    assert verify_source(running.app, Request()).clean
    assert [check for check in running.app.verify() if not check.clean] == []

    running.end()
    before, held = tables(database), flags(source)
    running.app.rebuild()
    assert before == tables(database)
    assert held == flags(source)


def test_the_printed_rights_run_as_they_are_where_each_name_must_be_quoted(server: EmbeddedPostgres) -> None:
    """Before the user can look, and when it can: the columns are those of the source, whatever their case, and no others."""
    source = OfPostgres(server)
    try:
        settings = load_settings(
            None, {"ROWTIDE_SOURCE__DSN": source.dsn, "ROWTIDE_SOURCE__WRITE_BACK": "true"}
        ).settings
        domain = load_domain("mis")

        def printed() -> list[str]:
            return sources.grants(settings, domain, user=source.user, schema=None, mysql=False)

        with pytest.raises(psycopg.errors.UndefinedColumn):  # what is not there yet is named, and nothing is half done
            source.allow(printed())
        with psycopg.connect(source.owner) as connection:
            assert connection.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [source.user]).fetchone() == (
                0,
            )
        assert sum("DO $grants$" in line for line in printed()) == 2
        added = "ADD COLUMN `QuickBk_Status` int, ADD COLUMN `Pushed_By` text, ADD COLUMN `pushed_date` timestamp"
        source.execute(
            f"ALTER TABLE {APPLICATION} {added}",
            f"ALTER TABLE {PERSON} {added}, ADD COLUMN `QK_ID` text",  # where two differ by case the same name counts
        )
        source.allow(printed())
        rights = granted(source)
        assert {name for name, _ in rights} == {"SELECT", "UPDATE"}
        written = {name for right, name in rights if right == "UPDATE"}
        assert written == {"QuickBk_Status", "Pushed_By", "pushed_date", "sync_token", "quickbooks_id", "qk_id"}
        assert {name for right, name in rights if right == "SELECT"} == {*written, "appl_Id", "per_id_ug"}

        plain = printed()[-2:]
        assert all(line.startswith("GRANT SELECT (") for line in plain)
        assert '"appl_Id"' in plain[0]
        for name in (APPLICATION, PERSON):
            source.execute(f'REVOKE ALL ON {name} FROM "{source.user.replace(chr(34), chr(34) * 2)}"')
        source.allow(plain)
        assert granted(source) == rights
    finally:
        source.close()


def granted(source: OfPostgres) -> set[tuple[str, str]]:
    """The rights on single columns, as the source has them: (right, column)."""
    with psycopg.connect(source.owner) as connection:
        return set(
            connection.execute(
                "SELECT r.privilege_type::text, a.attname::text FROM pg_attribute AS a "
                "CROSS JOIN LATERAL aclexplode(a.attacl) AS r JOIN pg_roles AS u ON u.oid = r.grantee WHERE u.rolname = %s",
                [source.user],
            )
        )
