"""A rental shop at work on Sakila's tables: transactions that mean the same in MariaDB and in PostgreSQL."""

from __future__ import annotations

import random
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg
import pymysql
from sakila_mariadb import rows

from connectors.table import Table
from consumers.domain import Domain, load_domain
from deploy.stack.mariadb import MariaDB

WORKERS = 3
_AGAIN = frozenset({1205, 1213})  # lock wait timeout, deadlock: an application repeats the transaction
_TAKEN = 1062
_GONE = frozenset({1053, 2003, 2006, 2013, 2014, 2055, 1927, 0})  # the server restarts: an application waits for it
# What PostgreSQL's copy of Sakila lacks: it is loaded without foreign keys and defaults.
POSTGRES = (
    "ALTER TABLE inventory ADD FOREIGN KEY (film_id) REFERENCES film ON DELETE RESTRICT ON UPDATE CASCADE",
    "ALTER TABLE film_category ADD FOREIGN KEY (film_id) REFERENCES film ON DELETE RESTRICT ON UPDATE CASCADE",
    "ALTER TABLE film_actor ADD FOREIGN KEY (film_id) REFERENCES film ON DELETE RESTRICT ON UPDATE CASCADE",
    "ALTER TABLE rental ADD FOREIGN KEY (inventory_id) REFERENCES inventory ON DELETE RESTRICT ON UPDATE CASCADE",
    "ALTER TABLE payment ADD FOREIGN KEY (rental_id) REFERENCES rental ON DELETE SET NULL ON UPDATE CASCADE",
    "ALTER TABLE rental ALTER last_update SET DEFAULT now()",
    "ALTER TABLE payment ALTER last_update SET DEFAULT now()",
)


def domain_copy(folder: Path) -> Path:
    """The rental domain under a name of its own, and so with topics that no other test has."""
    name = f"rental_{uuid.uuid4().hex[:8]}"
    shutil.copytree(load_domain("rental").folder, folder / name)
    settings = folder / name / "domain.toml"
    text = settings.read_text()
    assert '"dvdrental"' in text
    settings.write_text(text.replace('"dvdrental"', f'"{name}"'))
    return folder / name


def transactions(rng: random.Random, worker: int) -> Iterator[list[str]]:
    """What one clerk does, without end. Clerks are not in each other's way: each has numbers of his own."""
    rental, payment = 1_000_000 * (worker + 1), 20_000 + 10_000 * worker
    mine: list[int] = []
    number = 0
    while True:
        number += 1
        what = rng.random()
        item = rng.randrange(1, 1500) * WORKERS + worker
        if what < 0.35 or not mine:
            rental += 1
            mine.append(rental)
            date = f"2006-02-{1 + number % 14:02d} {number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}"
            insert = "INSERT INTO rental (rental_id, rental_date, inventory_id, customer_id, staff_id) SELECT"
            values = f"{rental}, '{date}', inventory_id, {1 + number % 599}, {1 + worker % 2}"
            done = [f"{insert} {values} FROM inventory WHERE inventory_id = {item}"]
            if rng.random() < 0.5 and payment % 10_000 < 4_900:
                payment += 1
                done.append(
                    "INSERT INTO payment (payment_id, customer_id, staff_id, rental_id, amount, payment_date) "
                    f"SELECT {payment}, customer_id, staff_id, rental_id, {number % 9}.99, rental_date FROM rental "
                    f"WHERE rental_id = {rental}"
                )
        elif what < 0.55:
            done = [
                f"UPDATE rental SET return_date = '2006-02-14 {number % 24:02d}:30:00' WHERE rental_id = {mine[-1]}"
            ]
        elif what < 0.62:  # the payments follow, which MariaDB's binlog leaves out
            moved = mine.pop(rng.randrange(len(mine)))
            done = [f"UPDATE rental SET rental_id = {moved + 500_000} WHERE rental_id = {moved}"]
        elif what < 0.69:  # the payments lose their rental, untold as well
            done = [f"DELETE FROM rental WHERE rental_id = {mine.pop(rng.randrange(len(mine)))}"]
        elif what < 0.75:
            done = [
                f"DELETE FROM rental WHERE inventory_id = {item}",
                f"DELETE FROM inventory WHERE inventory_id = {item}",
            ]
        elif what < 0.80:  # items and categories follow
            film = rng.randrange(1, 333) * WORKERS + worker
            done = [f"UPDATE film SET film_id = {film + 20_000} WHERE film_id = {film}"]
        elif what < 0.85:
            done = [
                f"UPDATE film SET rental_duration = 3 + (film_id + {number}) % 5 WHERE film_id % 30 = {number % 10 * 3 + worker}"
            ]
        elif what < 0.90:
            customer = rng.randrange(1, 199) * WORKERS + worker
            done = [
                f"UPDATE payment SET amount = amount + 0.01 WHERE customer_id = {customer}",
                f"UPDATE customer SET active = NOT active WHERE customer_id = {customer}",
            ]
        elif what < 0.95:
            low = rng.randrange(16_000)
            done = [f"DELETE FROM payment WHERE payment_id BETWEEN {low} AND {low + 5}"]
        else:
            moved = 20_001 + 10_000 * worker + rng.randrange(100)
            done = [f"UPDATE payment SET payment_id = payment_id + 5000 WHERE payment_id = {moved}"]
        if rng.random() < 0.05:
            done.append("ROLLBACK")
        yield done


class _Clerks:
    """Several clerks at work at once, until told to stop; a context manager.

    They repeat what a deadlock or a server that restarts has undone.

    Args:
        pause: of each between two transactions, in seconds: as few as a slow machine follows, or what is to be caught up
            with grows faster than it goes.
    """

    failures: type[Exception]

    def __init__(self, seed: int, pause: float) -> None:
        self._seed = seed
        self._pause = pause
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._count = [0] * WORKERS
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(WORKERS)]

    def connect(self) -> Any:
        """A connection that begins transactions by itself, at read committed."""
        raise NotImplementedError

    def is_gone(self, error: Exception) -> bool:
        """Whether the connection is lost."""
        raise NotImplementedError

    def is_again(self, error: Exception) -> bool:
        """Whether an application repeats the transaction."""
        raise NotImplementedError

    def is_taken(self, error: Exception) -> bool:
        """Whether a key is there already."""
        raise NotImplementedError

    def _work(self, worker: int) -> None:
        connection: Any = None
        work = transactions(random.Random(self._seed * WORKERS + worker), worker)
        try:
            for statements in work:
                while not self._stop.wait(self._pause):
                    try:
                        connection = connection or self.connect()
                        self._execute(connection, statements)
                    except self.failures as error:
                        if not self.is_gone(error) and not self.is_again(error):
                            raise
                        connection = self._closed(connection)
                        continue
                    self._count[worker] += 1
                    break
                if self._stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self._errors.append(error)
        finally:
            self._closed(connection)

    def _closed(self, connection: Any) -> None:
        """What was open is rolled back with it."""
        if connection is not None:
            with suppress(self.failures):  # it may be broken
                connection.close()

    def _execute(self, connection: Any, statements: Sequence[str]) -> None:
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        except self.failures as error:
            # A payment's number may be taken by one that has moved: the whole transaction is given up.
            if not self.is_taken(error):
                raise
            connection.rollback()
        connection.commit()

    @property
    def count(self) -> int:
        """Transactions so far. Raises what has ended a clerk."""
        if self._errors:
            raise self._errors[0]
        return sum(self._count)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        if kind is None and self._errors:
            raise self._errors[0]


class Clerks(_Clerks):
    """Clerks at work on MariaDB."""

    failures = pymysql.err.MySQLError

    def __init__(self, server: MariaDB, database: str, seed: int, pause: float = 0.05) -> None:
        super().__init__(seed, pause)
        self._server = server
        self._database = database

    def connect(self) -> Any:
        connection = self._server.connect(self._database, autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        return connection

    def is_gone(self, error: Exception) -> bool:
        return error.args[0] in _GONE

    def is_again(self, error: Exception) -> bool:
        return error.args[0] in _AGAIN

    def is_taken(self, error: Exception) -> bool:
        return bool(error.args[0] == _TAKEN)


class PostgresClerks(_Clerks):
    """Clerks at work on PostgreSQL."""

    failures = psycopg.Error

    def __init__(self, dsn: str, seed: int, pause: float = 0.05) -> None:
        super().__init__(seed, pause)
        self._dsn = dsn

    def connect(self) -> Any:
        return psycopg.connect(self._dsn)

    def is_gone(self, error: Exception) -> bool:
        return isinstance(error, psycopg.errors.AdminShutdown) or (
            isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        )

    def is_again(self, error: Exception) -> bool:
        return isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure)

    def is_taken(self, error: Exception) -> bool:
        return isinstance(error, psycopg.errors.UniqueViolation)


def mirrored(dsn: str, schema: str, table: Table) -> set[tuple[Any, ...]]:
    """The rows of a table of the mirror, as values."""
    with psycopg.connect(dsn) as connection:
        listed = ", ".join(f'"{name}"' for name in table.names)
        return set(connection.execute(f'SELECT {listed} FROM "{schema}_source"."{table.name}"').fetchall())


def unequal(server: MariaDB, dsn: str, domain: Domain) -> dict[str, list[Any]]:
    """By table, rows that only the source or only the mirror has; a few of each. Both are of the domain's name."""
    found = {}
    for name, there in rows(server, domain.name, list(domain.tables.values())).items():
        differing = sorted(there ^ mirrored(dsn, domain.name, domain.tables[name]), key=repr)
        if differing:
            found[name] = differing[:6]
    return found
