"""A real MariaDB, whose binlog leaves out what its foreign keys do: captured, followed, and compared row for row."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pymysql
import pytest
from cascading import KEYS, TABLES, Following, constrain, create, random_statement

from connectors.capture.mysql import MySQLCapture
from connectors.event import Decoder
from connectors.log import TopicPartition
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate
from consumers.engine.assembler import Assembler
from consumers.engine.cascades import Cascades
from consumers.engine.units import Unit
from deploy.stack.mariadb import MariaDB

DATABASE = "cascades"
TYPES = {"text": "varchar(20)", "integer": "int"}


class Route:
    """MariaDB → capture → embedded log → mirror, moved on by hand."""

    def __init__(self, server: MariaDB, dsn: str, connection: psycopg.Connection[Any]) -> None:
        self.following = Following(connection, TABLES, [])
        self.told: list[Any] = []
        tables = list(TABLES.values())
        self._log = EmbeddedLog(dsn)
        self._log.create_topic("t")
        source = server.create_capture_user(tables, database=DATABASE, user="cascades")
        self._capture = MySQLCapture(source, tables, self._log, "t", name=DATABASE)
        self._decoder, self._assembler = Decoder(tables), Assembler()
        self._offset = 0

    def units(self) -> list[Unit]:
        """Capture what was committed by now, and read it."""
        self._capture.run_until_now(threading.Event())
        units: list[Unit] = []
        while records := self._log.read({TopicPartition("t", 0): self._offset}, limit=5000):
            self._offset = records[-1].offset + 1
            units += self._assembler.take((r, self._decoder.decode(r.key, r.value)) for r in records)
        return units

    def apply(self, units: list[Unit]) -> int:
        """Apply units as one batch, cut only where the source tells its foreign keys. Returns how many changes were added."""
        added, batch = 0, list[Unit]()
        for unit in [*units, None]:
            if (unit is None or unit.foreign_keys is not None) and batch:
                added += sum(len(u.changes) for u in self.following.apply(batch)) - sum(len(u.changes) for u in batch)
                batch = []
            if unit is not None:
                if unit.foreign_keys is not None:
                    self.told.append(unit.foreign_keys)
                    self.following.cascades = Cascades(TABLES, unit.foreign_keys.keys)
                batch.append(unit)
        return added

    def close(self) -> None:
        self._log.close()


@pytest.fixture
def route(mariadb: MariaDB, database: str) -> Iterator[Route]:
    migrate(database)
    mariadb.create_database(DATABASE)
    statements = create(TABLES, types=TYPES) + constrain(KEYS)
    mariadb.execute(*statements, database=DATABASE)
    with psycopg.connect(database) as connection:
        made = Route(mariadb, database, connection)
        yield made
        made.close()


def source_rows(connection: Any) -> dict[str, list[tuple[str | None, ...]]]:
    found = {}
    with connection.cursor() as cursor:
        for name, table in TABLES.items():
            cursor.execute(f"SELECT {', '.join(f'CAST({c} AS CHAR)' for c in table.names)} FROM {name}")
            found[name] = sorted(cursor.fetchall(), key=repr)
    return found


def transaction(connection: Any, rng: random.Random) -> None:
    """Random statements; those that the server refuses are taken back by it, and it goes on."""
    connection.begin()
    with connection.cursor() as cursor:
        for _ in range(rng.choice([1, 2, 4, 8])):
            name, condition, what = random_statement(rng)
            try:
                if what is None:
                    cursor.execute(f"DELETE FROM {name} WHERE {condition}")
                elif what.startswith("INSERT"):
                    cursor.execute(what.format(""))
                else:
                    cursor.execute(f"UPDATE {name} SET {what} WHERE {condition}")
            except (pymysql.err.IntegrityError, pymysql.err.OperationalError):
                continue
    connection.commit()


def test_random_histories_of_mariadb(mariadb: MariaDB, route: Route, seed: int) -> None:
    """Random transactions over four levels, trees, cycles, composite and moving keys, in random batches."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    application = mariadb.connect(DATABASE)
    added = 0
    try:
        for number in range(25):
            for _ in range(rng.choice([2, 10, 40])):
                transaction(application, rng)
            added += route.apply(route.units())
            assert route.following.rows() == source_rows(application), f"seed {seed}, batch {number}"
    finally:
        application.close()
    assert added > 30
    assert {key.name for key in route.told[0].keys} == {key.name for key in KEYS}


def test_checks_switched_off_and_keys_that_come_and_go(mariadb: MariaDB, route: Route) -> None:
    """A session without checks orphans its children, in the mirror too; a dropped foreign key does nothing any more."""
    application = mariadb.connect(DATABASE)
    try:
        with application.cursor() as cursor:

            def agree() -> dict[str, list[tuple[str | None, ...]]]:
                route.apply(route.units())
                rows = source_rows(application)
                assert route.following.rows() == rows
                return rows

            cursor.execute("INSERT INTO p (a, b) VALUES (1, 'x'), (2, 'y')")
            cursor.execute("INSERT INTO c (id, a, b) VALUES (1, 1, 'x'), (2, 2, 'y')")
            cursor.execute("REPLACE INTO p (a, b) VALUES (2, 'y')")
            assert [row[0] for row in agree()["c"]] == ["1"]
            cursor.execute("SET foreign_key_checks = 0")
            cursor.execute("DELETE FROM p WHERE a = 1")
            cursor.execute("SET foreign_key_checks = 1")
            assert [row[0] for row in agree()["c"]] == ["1"]
            cursor.execute("INSERT INTO c (id, a, b) VALUES (3, 2, 'y')")
            cursor.execute("ALTER TABLE c DROP FOREIGN KEY p_of_c")
            cursor.execute("DELETE FROM p WHERE a = 2")
            assert [row[0] for row in agree()["c"]] == ["1", "3"]
    finally:
        application.close()
    assert len(route.told) >= 2
