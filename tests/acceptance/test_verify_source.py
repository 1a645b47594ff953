"""The mirror compared with a real source, PostgreSQL's and MariaDB's, while both move."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Self

import mariadb_types
import postgres_types
import psycopg
import pymysql
import pytest
from daemons import Daemons
from domain_folder import write_domain
from psycopg.conninfo import conninfo_to_dict
from sources import TypeCase

from connectors.embedded import EmbeddedPostgres
from connectors.source_rows import IncomparableError
from connectors.source_rows.mysql import MySQLRows
from connectors.table import Table
from consumers.domain import load_domain
from daemon.app import App, open_app
from daemon.settings import Settings
from daemon.source_check import Request, Result
from daemon.verify_source import verify_source
from deploy.stack.mariadb import MariaDB

_numbers = count()

TABLES = {
    "item": ("id integer PRIMARY KEY, name varchar(40), price numeric(8,2), at timestamp", "id"),
    "word": ("word varchar(40) PRIMARY KEY, n integer", "word"),
    "pair": ("a integer, b date, v text, PRIMARY KEY (a, b)", "a, b"),
    "child": ("id integer PRIMARY KEY, item_id integer, v integer", "id"),
}
FIRST = {
    "item": "({n}, 'Ünï {n}', {n} / 7.0, '2024-01-01 10:00:00.5')",
    "word": "('{w}', {n})",
    "pair": "({n} - 200, '2024-02-0{d}', 'v {n} ')",
    "child": "({n}, {n}, NULL)",
}
ROWS = 400


class Place:
    """A source with its daemon's settings, and ways to change it."""

    def __init__(self, family: str, login: Callable[[], str], execute: Callable[..., None], state: str) -> None:
        self.family = family
        self._login = login
        self.execute = execute
        self.state = state

    @cached_property
    def dsn(self) -> str:
        """For the capturing user, who may read the tables that are there by now."""
        return self._login()

    def mirror(self, *statements: str) -> None:
        """Change the mirror behind the engine's back."""
        with psycopg.connect(self.state, autocommit=True) as connection:
            connection.execute("SET search_path = shop_source")
            for statement in statements:
                connection.execute(statement)

    @property
    def environment(self) -> dict[str, str]:
        return {"ROWTIDE_SOURCE__DSN": self.dsn, "ROWTIDE_SOURCE__HEARTBEAT_SECONDS": "0.2"}

    def settings(self, domain: Path) -> Settings:
        return Settings.model_validate(
            {"domain": str(domain), "state": {"dsn": self.state}, "source": {"dsn": self.dsn, "heartbeat_seconds": 0.2}}
        )


def written(folder: Path, tables: dict[str, tuple[str, str]]) -> Path:
    """A domain `shop` of these tables, with one model."""
    source = "".join(f"CREATE TABLE {name} ({columns});\n" for name, (columns, _) in tables.items())
    name, (_, key) = next(iter(tables.items()))
    return write_domain(folder / "shop", source, {"all_of_it": f"-- key: {key}\nSELECT {key} FROM {name}\n"})


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    return written(tmp_path, TABLES)


@pytest.fixture(params=["postgres", "mariadb"])
def place(request: pytest.FixtureRequest, database: str) -> Callable[[Path], Place]:
    """Makes a source for a domain: a database of its own, empty."""
    if request.param == "postgres":
        server: EmbeddedPostgres = request.getfixturevalue("server")
        dsn = server.ensure_database(f"{conninfo_to_dict(database)['dbname']}_source")

        def execute(*statements: str) -> None:
            with psycopg.connect(dsn) as connection:
                for statement in statements:
                    connection.execute(statement)

        return lambda _: Place("postgres", lambda: dsn, execute, database)
    mariadb: MariaDB = request.getfixturevalue("mariadb")
    name = f"verified_{next(_numbers)}"
    mariadb.create_database(name)

    def run(*statements: str) -> None:
        connection = mariadb.connect(name)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET sql_mode = ''")
                connection.begin()
                for statement in statements:
                    cursor.execute(statement)
            connection.commit()
        finally:
            connection.close()

    def made(domain: Path) -> Place:
        tables = list(load_domain(str(domain)).tables.values())
        return Place("mariadb", lambda: mariadb.create_capture_user(tables, database=name, user=name), run, database)

    return made


def create(place: Callable[[Path], Place], domain: Path) -> Place:
    """The source with its tables and first rows; a deleted item takes its children with it."""
    made = place(domain)
    sql = {"timestamp": "datetime(6)"} if made.family == "mariadb" else {}
    for name, (columns, _) in TABLES.items():
        text = columns.replace("at timestamp", f"at {sql.get('timestamp', 'timestamp')}")
        text = text.replace("item_id integer", "item_id integer REFERENCES item (id) ON DELETE CASCADE")
        made.execute(f"CREATE TABLE {name} ({text})")
        rows = [FIRST[name].format(n=n, w=word(n), d=n % 9 + 1) for n in range(1, ROWS)]
        made.execute(f"INSERT INTO {name} VALUES {', '.join(rows)}")
    return made


def word(number: int) -> str:
    return ["Äpfel", "apfel", "Zebra", "zebra-", "_x", "ß"][number % 6] + str(number)


def random_change(rng: random.Random) -> list[str]:
    """Statements of one transaction. Rows from 300 on are left alone."""
    n = rng.randint(1, 290)
    return rng.choice(
        [
            [f"UPDATE item SET price = price + 1, name = 'x{rng.random()}' WHERE id = {n}"],
            [f"UPDATE item SET name = CASE WHEN name = 'a' THEN 'b' ELSE 'a' END WHERE id < {n}"],
            [f"DELETE FROM item WHERE id = {n}"],
            [f"DELETE FROM item WHERE id = {n}", f"INSERT INTO item VALUES ({n}, NULL, 1, '2024-03-01')"],
            [f"UPDATE word SET n = n + 1 WHERE n < {n}", f"DELETE FROM word WHERE word = '{word(n)}'"],
            [
                f"DELETE FROM word WHERE word = 'moved{n}'",
                f"UPDATE word SET word = 'moved{n}' WHERE word = '{word(n)}'",
            ],
            [f"UPDATE pair SET v = 'w{rng.random()}' WHERE a = {n - 200}"],
            [f"DELETE FROM pair WHERE a = {n - 200}"],
            [f"UPDATE child SET v = coalesce(v, 0) + 1 WHERE id < {n}"],
        ]
    )


class Traffic:
    """Transactions one after the other in a thread of its own, until the block ends."""

    def __init__(self, place: Place, rng: random.Random) -> None:
        self._place, self._rng = place, rng
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done = 0

    def _run(self) -> None:
        while not self._stop.wait(0.02):  # as fast as it can, it would outrun the daemon of a slow machine
            try:
                self._place.execute(*random_change(self._rng))
            except (psycopg.errors.UniqueViolation, pymysql.err.IntegrityError):
                continue
            self.done += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


@pytest.fixture
def opened(domain: Path, place: Any, start: Daemons) -> Iterator[tuple[App, Place]]:
    """An app beside a daemon that follows the source."""
    made = create(place, domain)
    daemon = start("--domain", domain, "run", **made.environment)
    daemon.wait_for("snapshot.completed")
    with open_app(made.settings(domain)) as app:
        assert verify_source(app, Request()).clean
        yield app, made


def found(result: Result) -> dict[str, set[tuple[str, str]]]:
    """What is wrong with which keys, by table."""
    return {
        check.name: {(",".join(entry["key"].values()), entry["is"]) for entry in check.keys}
        for check in result.tables
        if not check.clean
    }


def test_nothing_is_reported_that_is_only_on_its_way(opened: tuple[App, Place], seed: int) -> None:
    """Under traffic in all tables, cascades included, comparing again and again reports no row."""
    print(f"seed {seed}")
    app, made = opened
    rng = random.Random(seed)
    with Traffic(made, rng) as traffic:
        for number in range(5):
            result = verify_source(app, Request(rows=rng.choice([7, 50, 300])))
            assert found(result) == {}, f"run {number}: {result.as_dict()}"
            assert result.settled
    assert traffic.done > 10
    pauses: list[float] = []
    paced = verify_source(app, Request(tables=["item"], rows=100, pace=1e-3, wait=pauses.append)).tables[0]
    # The last pause of the pace is told as what all rows take; a row on its way is waited for besides, and shortly.
    assert max(pauses) == pytest.approx(paced.rows / 1e-3, rel=0.01), "the pauses add up to what the rows take"
    last = verify_source(app, Request(rows=50))
    assert (last.clean, sum(check.moving for check in last.tables)) == (True, 0)


PLANTED = {
    "DELETE FROM item WHERE id = 310": ("item", "310", "missing"),
    "UPDATE item SET price = price + 0.01 WHERE id = 311": ("item", "311", "different"),
    "UPDATE item SET name = NULL WHERE id = 312": ("item", "312", "different"),
    "UPDATE item SET at = at + interval '1 microsecond' WHERE id = 313": ("item", "313", "different"),
    "INSERT INTO item VALUES (99999999, 'x', 1, NULL)": ("item", "99999999", "unexpected"),
    "INSERT INTO item VALUES (-5, 'x', 1, NULL)": ("item", "-5", "unexpected"),
    f"DELETE FROM word WHERE word = '{word(301)}'": ("word", word(301), "missing"),
    f"UPDATE word SET n = NULL WHERE word = '{word(302)}'": ("word", word(302), "different"),
    "INSERT INTO word VALUES ('ÄPFEL304', 304)": ("word", "ÄPFEL304", "unexpected"),
    "DELETE FROM pair WHERE a = 105": ("pair", "105,2024-02-09", "missing"),
    "UPDATE pair SET v = rtrim(v) WHERE a = 106": ("pair", "106,2024-02-01", "different"),
    "INSERT INTO pair VALUES (106, '2024-02-02', '')": ("pair", "106,2024-02-02", "unexpected"),
    # A cascade that the mirror missed: the source has neither the item nor its child any more.
    "INSERT INTO child VALUES (395, 395, NULL)": ("child", "395", "unexpected"),
}


def test_every_planted_difference_is_found_and_named(opened: tuple[App, Place], typed, domain: Path, seed: int) -> None:
    """Missing, unexpected and different rows of each kind of key are named, under traffic, and no others; exit code 1."""
    print(f"seed {seed}")
    app, made = opened
    made.execute("DELETE FROM item WHERE id = 395")
    assert verify_source(app, Request()).clean
    made.mirror(*PLANTED)
    wanted: dict[str, set[tuple[str, str]]] = {}
    for table, key, kind in PLANTED.values():
        wanted.setdefault(table, set()).add((key, kind))
    with Traffic(made, random.Random(seed)):
        assert found(verify_source(app, Request(rows=40))) == wanted
    ended = typed("--domain", domain, "verify", "--source", "--limit", "1", **made.environment)
    assert ended.returncode == 1
    assert "NOT CLEAN" in ended.stdout
    assert "Ünï" not in ended.stdout
    only = typed("--domain", domain, "verify", "--source", "--table", "child", "--json", **made.environment)
    assert '"unexpected": 1' in only.stdout
    unknown = typed("--domain", domain, "verify", "--source", "--table", "nix", **made.environment)
    assert (unknown.returncode, "declares no table nix" in unknown.stderr) == (1, True)


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_without_a_daemon_what_is_on_its_way_is_not_judged_in_silence(domain: Path, place: Any, start: Daemons) -> None:
    """Where nobody brings the source's changes, the result says that the mirror did not catch up."""
    made = create(place, domain)
    daemon = start("--domain", domain, "run", **made.environment)
    daemon.wait_for("snapshot.completed")
    with open_app(made.settings(domain)) as app:
        assert verify_source(app, Request()).clean
        assert daemon.stop() == 0
        made.execute("UPDATE item SET name = 'late' WHERE id = 1")
        late = verify_source(app, Request(patience=0.3))
        assert (late.clean, late.settled, found(late)) == (False, False, {"item": {("1", "different")}})
        start("--domain", domain, "run", **made.environment).wait_for("daemon.leading")
        again = verify_source(app, Request())
        assert (again.clean, again.settled) == (True, True)


def cases(family: str) -> Sequence[TypeCase]:
    return mariadb_types.TYPES if family == "mariadb" else postgres_types.TYPES


def test_every_type_compares_as_it_is_captured(tmp_path: Path, place: Any, start: Daemons, request: Any) -> None:
    """A captured table of all column types is as the source, whichever way it is compared; a changed value is found."""
    family = request.node.callspec.params["place"]
    columns = [(f"c{number}", case) for number, case in enumerate(cases(family))]
    tables = {
        f"t_{name}": (f"id integer PRIMARY KEY, {name} {case.declared.replace('bit varying', 'varbit')}", "id")
        for name, case in columns
    }
    domain = written(tmp_path, tables)
    made: Place = place(domain)
    statements = []
    for name, case in columns:
        values = [f"({n}, {text})" for n, (text, _) in enumerate(case.values)]
        statements.append(f"CREATE TABLE t_{name} (id integer PRIMARY KEY, {name} {case.source_type})")
        statements.append(f"INSERT INTO t_{name} VALUES {', '.join(values)}")
    made.execute(*statements)
    start("--domain", domain, "run", **made.environment).wait_for("snapshot.completed")
    with open_app(made.settings(domain)) as app:
        assert found(verify_source(app, Request())) == {}, "waits until the mirror has the snapshot"
        result = verify_source(app, Request())
        assert found(result) == {}
        summed = [check.name for check in result.tables if not check.by_rows]
        assert len(summed) > len(columns) / 2
        made.mirror(*(f"UPDATE t_{name} SET {name} = NULL WHERE id = 0" for name, _ in columns))
        expected = {f"t_{name}": {("0", "different")} for name, case in columns if case.values[0][1] is not None}
        assert found(verify_source(app, Request())) == expected


# --- keys that only MySQL's family has ---

KEYS = {
    "an_enum": ("enum('red','blue','a,b','Ä')", "varchar(10)", ["red", "blue", "a,b", "Ä"]),
    "a_set": ("set('x','y','z')", "varchar(10)", ["", "x", "y", "x,y", "z", "x,y,z"]),
    "a_time": ("time(3)", "interval", ["-100:00:00", "-00:00:00.500", "00:00:00", "09:59:59.999", "838:59:59"]),
    "a_clock": ("time", "time", ["00:00:00", "12:30:00", "23:59:59"]),
    "a_float": ("float", "real", ["-1.5", "0.1", "0.2", "3.4e38", "1e-20"]),
    "a_double": ("double", "double precision", ["-1e300", "0.1", "0.30000000000000004", "16777217"]),
    "an_address": ("inet6", "inet", ["::1", "2001:db8::2", "::ffff:10.0.0.1"]),
    "a_bit": ("bit(9)", "bit(9)", ["0", "1", "300"]),
    "an_instant": ("timestamp(6)", "timestamptz", ["2024-01-01 00:00:00.000001", "2024-07-01 12:00:00"]),
}


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
def test_keys_of_every_type_are_compared(
    tmp_path: Path, place: Any, start: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, in their own order, also behind another column; what cannot be is told, and the others go on."""
    tables = {}
    for name, (_, declared, _) in KEYS.items():
        tables[name] = (f"k {declared} PRIMARY KEY, v integer", "k")
        tables[f"{name}_2"] = (f"n integer, k {declared}, v integer, PRIMARY KEY (n, k)", "n, k")
    domain = written(tmp_path, tables)
    made: Place = place(domain)
    for name, (type_, _, values) in KEYS.items():
        texts = [value if name == "a_bit" else f"'{value}'" for value in values]
        made.execute(
            f"CREATE TABLE {name} (k {type_} PRIMARY KEY, v int)",
            f"INSERT INTO {name} VALUES {', '.join(f'({text}, 1)' for text in texts)}",
            f"CREATE TABLE {name}_2 (n int, k {type_}, v int, PRIMARY KEY (n, k))",
            f"INSERT INTO {name}_2 VALUES {', '.join(f'({n}, {text}, 1)' for n in (1, 2) for text in texts)}",
        )
    start("--domain", domain, "run", **made.environment).wait_for("snapshot.completed")
    with open_app(made.settings(domain)) as app:
        result = verify_source(app, Request(rows=2))
        assert found(result) == {}
        expected = {n: len(v) for n, (_, _, v) in KEYS.items()} | {
            f"{n}_2": 2 * len(v) for n, (_, _, v) in KEYS.items()
        }
        assert {check.name: check.rows for check in result.tables} == expected
        made.mirror(
            *(f"UPDATE {name} SET v = 2 WHERE k = (SELECT k FROM {name} ORDER BY k DESC LIMIT 1)" for name in KEYS)
        )
        made.mirror(
            *(f"DELETE FROM {name}_2 WHERE k = (SELECT k FROM {name}_2 ORDER BY k LIMIT 1) AND n = 2" for name in KEYS)
        )
        result = verify_source(app, Request(rows=2))
        wrong = {check.name: (check.different, check.missing, check.unexpected) for check in result.tables}
        assert wrong == dict.fromkeys(KEYS, (1, 0, 0)) | {f"{name}_2": (0, 1, 0) for name in KEYS}

        read = MySQLRows.page

        def page(self: MySQLRows, table: Table, *arguments: Any) -> Any:
            if table.name == "a_float":
                raise IncomparableError("The rows of a_float cannot be looked up.")
            return read(self, table, *arguments)

        monkeypatch.setattr(MySQLRows, "page", page)
        result = verify_source(app, Request(rows=2))
        refused = {check.name: check.refused for check in result.tables if check.refused}
        assert refused == {"a_float": "The rows of a_float cannot be looked up."}
        assert not result.clean
        assert {check.name: check.different for check in result.tables}["a_double"] == 1
