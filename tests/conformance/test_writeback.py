"""What write-back promises, held to both families of databases: guarded, idempotent, told row by row."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import psycopg
import pymysql
import pytest
from reached import ReachedMariadb, ReachedPostgres

from connectors.capture.running import SourceUnavailableError
from connectors.writeback import ColumnsUnfitError, Target, Update, Wanted, WriteBackBlockedError
from connectors.writeback.grants import grants
from connectors.writeback.mysql import MySQLFlags
from connectors.writeback.postgres import PostgresFlags
from connectors.writeback.updates import MOST_KEYS
from deploy.stack.mariadb import MariaDB
from deploy.stack.process import free_port

_numbers = count(1)
VALUES = ("available", "rented", "damaged", "missing")
STATUS = Target("item", ("id",), ("status",), ("status",))
PLACE = Target("shelf", ("aisle", "no"), ("label", "amount"), ("label", "amount"))


class OfPostgres(ReachedPostgres):
    """A PostgreSQL database with the rules' tables."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.dsn = dsn
        self.execute(
            "CREATE TABLE item (id integer PRIMARY KEY, status text)",
            "CREATE TABLE shelf (aisle text, no bigint, label varchar(10), amount numeric(10,2) CHECK (amount < 1000), "
            "seen timestamptz, fine boolean, PRIMARY KEY (aisle, no))",
        )

    def flags(self, dsn: str | None = None) -> PostgresFlags:
        return PostgresFlags(dsn or self.dsn, schema="public", name="test")

    def restricted(self, targets: Sequence[Target]) -> str:
        user = f"writer_{next(_numbers)}"
        statements = [s for s in grants(targets, user=user, place="public", mysql=False) if s[0] != "-"]
        self.execute(f"CREATE ROLE {user} LOGIN", f"GRANT USAGE ON SCHEMA public TO {user}", *statements)
        return psycopg.conninfo.make_conninfo(self.dsn, user=user)

    absent = "postgresql://nobody@127.0.0.1:{port}/nowhere"


class OfMariadb(ReachedMariadb):
    """A MariaDB database with the rules' tables."""

    def __init__(self, server: MariaDB) -> None:
        super().__init__(server, f"flags_{next(_numbers)}")
        self.execute(
            "CREATE TABLE item (id int PRIMARY KEY, status enum('available','rented','damaged','missing'), "
            "last_update timestamp NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp)",
            "CREATE TABLE shelf (aisle varchar(10), no bigint unsigned, label varchar(10) COLLATE utf8mb4_general_ci, "
            "amount decimal(10,2) CHECK (amount < 1000), seen datetime(6), fine tinyint(1), PRIMARY KEY (aisle, no))",
        )
        self.dsn = self.user_dsn(f"owner_{next(_numbers)}", f"GRANT ALL ON `{self.database}`.* TO {{account}}")

    def user_dsn(self, user: str, *statements: str) -> str:
        account = f"'{user}'@'%'"
        self._server.execute(
            f"CREATE USER {account} IDENTIFIED BY 'p:@/w'", *(s.format(account=account).rstrip(";") for s in statements)
        )
        return self._server.dsn(self.database, user=user, password="p:@/w")

    def flags(self, dsn: str | None = None) -> MySQLFlags:
        return MySQLFlags(dsn or self.dsn)

    def restricted(self, targets: Sequence[Target]) -> str:
        user = f"writer_{next(_numbers)}"
        statements = [s for s in grants(targets, user=user, place=self.database, mysql=True) if s[0] != "-"]
        return self.user_dsn(user, *statements)

    absent = "mysql://nobody:x@127.0.0.1:{port}/nowhere?connect-timeout=2"


@pytest.fixture(params=["postgres", "mariadb"])
def source(request: pytest.FixtureRequest) -> Any:
    if request.param == "postgres":
        return OfPostgres(request.getfixturevalue("database"))
    return OfMariadb(request.getfixturevalue("mariadb"))


@pytest.fixture
def flags(source: Any) -> Iterator[MySQLFlags | PostgresFlags]:
    made = source.flags()
    yield made
    made.close()


def statuses(source: Any) -> dict[int, str | None]:
    return dict(source.query("SELECT id, status FROM item ORDER BY id"))


def update(key: int, new: str, known: str | None) -> Update:
    return Update((key,), (new,), (known,))


def states(written: Any) -> list[str]:
    return [outcome.state for outcome in written.outcomes]


def test_what_was_known_is_overwritten_and_nothing_else(source: Any, flags: Any) -> None:
    """NULL and known values are written; a person's newer value stays; absent rows and done ones are told so."""
    source.execute("INSERT INTO item (id, status) VALUES (1, NULL), (2, 'available'), (3, 'damaged'), (4, 'rented')")
    done = [update(1, "rented", None), update(2, "rented", "available"), update(3, "rented", "available"),
            update(4, "rented", "available"), update(9, "rented", "available")]  # fmt: skip
    written = flags.write(STATUS, done)
    assert states(written) == ["done", "done", "newer", "done", "gone"]
    assert written.changed == 2
    assert statuses(source) == {1: "rented", 2: "rented", 3: "damaged", 4: "rented"}


def test_writing_again_changes_nothing(source: Any, flags: Any) -> None:
    """The same updates again change no row and are told as done."""
    source.execute("INSERT INTO item (id, status) VALUES (1, NULL), (2, 'available')")
    done = [update(1, "available", None), update(2, "rented", "available")]
    assert flags.write(STATUS, done).changed == 2
    again = flags.write(STATUS, done)
    assert (again.changed, states(again)) == (0, ["done", "done"])


def test_many_keys_go_in_few_statements(source: Any, flags: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,200 rows of two kinds of change are three statements' work each, and all are written."""
    listed = ", ".join(f"({n}, NULL)" for n in range(1200))
    source.execute(f"INSERT INTO item (id, status) VALUES {listed}")
    calls: list[int] = []
    plain = flags.update

    def counting(target: Target, keys: Sequence[Any], *values: Any) -> int:
        calls.append(len(keys))
        return int(plain(target, keys, *values))

    monkeypatch.setattr(flags, "update", counting)
    written = flags.write(STATUS, [update(n, "rented" if n % 3 else "available", None) for n in range(1200)])
    assert written.changed == 1200
    assert sorted(calls) == [300, 400, MOST_KEYS]
    assert {status for n, status in statuses(source).items() if n % 3} == {"rented"}


def test_composite_keys_and_values_of_many_types(source: Any, flags: Any) -> None:
    """Texts are compared exactly whatever the collation; numbers, times and truths by their value; keys may be pairs."""
    source.execute(
        "INSERT INTO shelf (aisle, no, label, amount, seen, fine) VALUES ('a''\\\\x', 9007199254740993, 'Old', 1.50, NULL, NULL), "
        "('b', 2, 'old', NULL, NULL, NULL), ('c', 3, 'old ', 1.5, NULL, NULL)"
        if source.kind == "mysql"
        else "INSERT INTO shelf (aisle, no, label, amount) VALUES ('a''\\x', 9007199254740993, 'Old', 1.50), "
        "('b', 2, 'old', NULL), ('c', 3, 'old ', 1.5)"
    )
    amount = Decimal("1.5")
    written = flags.write(
        PLACE,
        [
            Update(("a'\\x", 9007199254740993), ("new", amount), ("old", amount)),
            Update(("b", 2), ("new", amount), ("old", None)),
            Update(("c", 3), ("new", amount), ("old", amount)),
            Update(("b", 3), ("new", amount), ("old", None)),
        ],
    )
    assert states(written) == ["newer", "done", "newer", "gone"]
    written = flags.write(PLACE, [Update(("a'\\x", 9007199254740993), ("ä€'\\", None), ("Old", amount))])
    assert states(written) == ["done"]
    assert source.query("SELECT label, amount FROM shelf ORDER BY aisle") == [
        ("ä€'\\", None), ("new", amount), ("old ", amount),
    ]  # fmt: skip
    moment = datetime(2024, 2, 29, 23, 59, 59, 250000, tzinfo=UTC)
    seen = Target("shelf", ("aisle", "no"), ("seen", "fine"), ("seen", "fine"))
    assert states(flags.write(seen, [Update(("b", 2), (moment, True), (None, None))])) == ["done"]
    assert states(flags.write(seen, [Update(("b", 2), (None, False), (moment, False))])) == ["newer"]
    again = flags.write(seen, [Update(("b", 2), (None, False), (moment, True))])
    assert (again.changed, states(again)) == (1, ["done"])


def test_a_refused_value_is_found_and_the_rest_is_written(source: Any, flags: Any) -> None:
    """A row that the source refuses is told, without its values; rows that went with it are written."""
    source.execute(*(f"INSERT INTO shelf (aisle, no, label, amount) VALUES ('a', {n}, 'x', {n})" for n in range(9)))
    target = Target("shelf", ("aisle", "no"), ("label",), ("label",))
    trigger = (
        "CREATE TRIGGER no_fives BEFORE UPDATE ON shelf FOR EACH ROW "
        "IF NEW.no = 5 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret five'; END IF"
        if source.kind == "mysql"
        else "CREATE FUNCTION no_fives() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.no = 5 AND EXISTS (SELECT 1 FROM shelf) THEN "
        "RAISE EXCEPTION 'secret five'; END IF; RETURN NEW; END $$; "
        "CREATE TRIGGER no_fives BEFORE UPDATE ON shelf FOR EACH ROW EXECUTE FUNCTION no_fives()"
    )
    source.execute(trigger)
    written = flags.write(target, [Update(("a", n), ("new",), ("x",)) for n in range(9)])
    assert states(written) == ["refused" if n == 5 else "done" for n in range(9)]
    assert written.changed == 8
    assert "five" not in str(written.outcomes[5].reason)
    assert states(flags.write(target, [Update(("a", 1), ("far too long a text",), ("new",))])) == ["refused"]
    assert states(flags.write(PLACE, [Update(("a", 2), ("new", Decimal(5000)), ("new", Decimal(2)))])) == ["refused"]


def test_a_row_that_a_person_holds_is_tried_again_later(source: Any, flags: Any) -> None:
    """A person's open transaction makes the row busy; after its commit the guard sees the person's value."""
    source.execute("INSERT INTO item (id, status) VALUES (1, 'available'), (2, 'available')")
    person = source.session()
    try:
        person.cursor().execute("UPDATE item SET status = 'damaged' WHERE id = 1")
        done = [update(1, "rented", "available")]
        assert states(flags.write(STATUS, done)) == ["busy"]
        person.commit()
        assert states(flags.write(STATUS, done)) == ["newer"]
    finally:
        person.close()
    assert statuses(source)[1] == "damaged"


def test_a_commit_that_is_waited_for_is_seen(source: Any, flags: Any) -> None:
    """The update that waited for a person's transaction is guarded by what that left."""
    source.execute("INSERT INTO item (id, status) VALUES (1, 'available')")
    person = source.session()
    outcome: list[Any] = []
    try:
        person.cursor().execute("UPDATE item SET status = 'missing' WHERE id = 1")
        thread = threading.Thread(
            target=lambda: outcome.append(flags.write(STATUS, [update(1, "rented", "available")]))
        )
        thread.start()
        _wait_for_lock(source)
        person.commit()
        thread.join(20)
    finally:
        person.close()
    assert states(outcome[0]) == ["newer"]
    assert statuses(source) == {1: "missing"}


def _wait_for_lock(source: Any) -> None:
    query = (
        # Not INNODB_TRX: InnoDB renews that table only for one who has not looked for a tenth of a second.
        "SELECT VARIABLE_VALUE + 0 FROM information_schema.GLOBAL_STATUS"
        " WHERE VARIABLE_NAME = 'INNODB_ROW_LOCK_CURRENT_WAITS'"
        if source.kind == "mysql"
        else "SELECT count(*) FROM pg_locks WHERE NOT granted"
    )
    pause = threading.Event()
    for _ in range(400):
        if source.query(query)[0][0]:
            return
        pause.wait(0.005)
    raise AssertionError("nobody waits")


def test_least_rights_suffice_and_no_more_are_given(source: Any) -> None:
    """With the printed grants the flag is written; another column, table or a deletion is refused as a whole."""
    source.execute("INSERT INTO item (id, status) VALUES (1, 'available')")
    source.execute("INSERT INTO shelf (aisle, no, label) VALUES ('a', 1, 'x')")
    flags = source.flags(source.restricted([STATUS]))
    try:
        assert states(flags.write(STATUS, [update(1, "rented", "available"), update(2, "rented", None)])) == [
            "done",
            "gone",
        ]
        with pytest.raises(WriteBackBlockedError, match="rowtide grants"):
            flags.write(Target("shelf", ("aisle", "no"), ("label",), ("label",)), [Update(("a", 1), ("y",), ("x",))])
        with pytest.raises(WriteBackBlockedError, match="rowtide grants"):
            flags.write(Target("item", ("id",), ("id",), ("status",)), [Update((1,), (2,), ("rented",))])
        with pytest.raises(WriteBackBlockedError):
            flags.execute(["ALTER TABLE item ADD COLUMN other int"])
    finally:
        flags.close()


def test_a_lost_connection_is_made_again(source: Any, flags: Any) -> None:
    """A session that the server ended costs nothing; a server that is not there is told as such, without the password."""
    source.execute("INSERT INTO item (id, status) VALUES (1, 'available')")
    assert states(flags.write(STATUS, [update(1, "rented", "available")])) == ["done"]
    if source.kind == "mysql":
        for (number,) in source.query("SELECT ID FROM information_schema.PROCESSLIST WHERE USER LIKE 'owner%'"):
            source.execute(f"KILL {number}")
    else:
        source.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rowtide_writeback_test'"
        )
    assert states(flags.write(STATUS, [update(1, "available", "rented")])) == ["done"]
    absent = source.flags(source.absent.format(port=free_port()))
    with pytest.raises(SourceUnavailableError) as told:
        absent.write(STATUS, [update(1, "rented", "available")])
    assert "nobody:x" not in str(told.value)


def test_an_absent_column_blocks(source: Any, flags: Any) -> None:
    """What is missing in the source is a person's business: nothing is parked for it."""
    with pytest.raises(WriteBackBlockedError, match="rowtide init"):
        flags.write(Target("item", ("id",), ("flag",), ("flag",)), [update(1, "x", None)])
    with pytest.raises(WriteBackBlockedError, match="rowtide init"):
        flags.write(Target("nothing", ("id",), ("flag",), ("flag",)), [update(1, "x", None)])


def test_missing_columns_are_proposed_and_can_be_added(source: Any, flags: Any) -> None:
    """The statements for missing columns work, take the values and no others, and are not proposed twice."""
    wanted = [Wanted("shelf", "state", "text", VALUES), Wanted("shelf", "at", "timestamp without time zone"),
              Wanted("shelf", "share", "numeric(5,2)"), Wanted("item", "status", "text", VALUES)]  # fmt: skip
    statements = flags.missing(wanted)
    assert len(statements) == 3
    flags.execute(statements)
    assert flags.missing(wanted) == []
    source.execute("INSERT INTO shelf (aisle, no, state) VALUES ('a', 1, 'damaged')")
    with pytest.raises((psycopg.errors.CheckViolation, pymysql.err.DataError)):
        source.execute("SET sql_mode = 'STRICT_ALL_TABLES'" if source.kind == "mysql" else "SELECT 1",
                       "INSERT INTO shelf (aisle, no, state) VALUES ('a', 2, 'lost')")  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        ("integer", "of another kind"),
        ("varchar(8)", "shorter than the longest value"),
        ("{enum}", "does not take the value “missing”"),
        ("varchar(20) GENERATED ALWAYS AS ('x') STORED", "computed by the database"),
    ],
)
def test_a_column_that_will_not_do_is_refused(source: Any, flags: Any, definition: str, why: str) -> None:
    """A column of the same name and another type is never altered, nor written to."""
    if source.kind == "postgres":
        source.execute("CREATE TYPE short AS ENUM ('available', 'rented', 'damaged')")
    enum = "enum('available','rented','damaged')" if source.kind == "mysql" else "short"
    source.execute(f"CREATE TABLE other (id int PRIMARY KEY, status {definition.format(enum=enum)})")
    with pytest.raises(ColumnsUnfitError, match=why):
        flags.missing([Wanted("other", "status", "text", VALUES)])


def test_an_added_column_has_its_default_in_new_rows_alone(source: Any, flags: Any) -> None:
    """What is there stays NULL, as the mirror has it: of a default that rows get by themselves no change is told."""
    source.execute("INSERT INTO item (id) VALUES (1)")
    wanted = [Wanted("item", "sync", "integer", (), "0"), Wanted("item", "pushed_by", "text", (), "it's me")]
    flags.execute(flags.missing(wanted))
    source.execute("INSERT INTO item (id) VALUES (2)")
    assert source.query("SELECT id, sync, pushed_by FROM item ORDER BY id") == [(1, None, None), (2, 0, "it's me")]
    assert flags.missing(wanted) == []


def test_columns_are_found_whatever_the_case_of_their_names(source: Any, flags: Any) -> None:
    """A declared name stands for the column that differs from it by case alone: it is written, guarded, never doubled."""
    quote = '"' if source.kind == "postgres" else "`"
    source.execute(
        f"CREATE TABLE mixed ({quote}appl_Id{quote} int PRIMARY KEY, {quote}QuickBk_Status{quote} int)",
        "INSERT INTO mixed VALUES (1, NULL), (2, 1)",
    )
    if source.kind == "mysql":
        source.execute("ALTER TABLE mixed MODIFY QuickBk_Status tinyint(1)")  # holds 3 all the same
    assert flags.missing([Wanted("mixed", "quickbk_status", "integer")]) == []
    target = Target("mixed", ("appl_id",), ("quickbk_status",), ("quickbk_status",))
    written = flags.write(target, [Update((1,), (3,), (None,)), Update((2,), (3,), (0,)), Update((9,), (3,), (0,))])
    assert states(written) == ["done", "newer", "gone"]
    assert sorted(source.query("SELECT * FROM mixed")) == [(1, 3), (2, 1)]


def test_a_table_that_is_not_there_is_told(source: Any, flags: Any) -> None:
    """No statement is proposed for a table of another name."""
    with pytest.raises(ColumnsUnfitError, match="no table"):
        flags.missing([Wanted("inventoree", "status", "text", VALUES)])
