"""Sakila in a real MariaDB, and what its users do to it."""

from __future__ import annotations

import gzip
import random
import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pymysql

from connectors.table import Table
from deploy.stack.mariadb import MariaDB

NEW = 2_000_000  # rentals and payments from here on are the traffic's

# What transactions at once may be refused for: they wait for each other, or a foreign or unique key forbids it, be it
# that of a row which a cascade would change.
_IN_THE_WAY = frozenset({1205, 1213, 1062, 1451, 1452, 1761, 1762})


def load(server: MariaDB, folder: Path, database: str) -> None:
    """The tables with their foreign keys, and all rows; views, triggers and procedures stay behind."""
    schema = (folder / "sakila-schema.sql").read_text(encoding="utf-8")
    tables = re.findall(r"^CREATE TABLE .*?;$", schema, re.DOTALL | re.MULTILINE)
    with gzip.open(folder / "sakila-data.sql.gz", "rt", encoding="utf-8") as file:
        rows = re.sub(r"^USE sakila;$", "", file.read(), flags=re.MULTILINE)
    server.create_database(database)
    script = ["SET NAMES utf8mb4; SET FOREIGN_KEY_CHECKS = 0; SET UNIQUE_CHECKS = 0;", *tables, rows]
    # A film takes its categories along.
    script.append(
        "ALTER TABLE film_category DROP FOREIGN KEY fk_film_category_film; ALTER TABLE film_category ADD CONSTRAINT "
        "fk_film_category_film FOREIGN KEY (film_id) REFERENCES film (film_id) ON DELETE CASCADE ON UPDATE CASCADE;"
    )
    subprocess.run(
        ["mariadb", "--no-defaults", f"--socket={server.socket}", "-uroot", database],
        input="\n".join(script),
        text=True,
        check=True,
        capture_output=True,
        timeout=120,
    )


def rows(server: MariaDB, database: str, tables: Sequence[Table]) -> dict[str, set[tuple[Any, ...]]]:
    """The rows of the declared tables, in Python's types; columns that the source does not have are None."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    connection = server.connect(database)
    try:
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"SHOW COLUMNS FROM `{table.name}`")
                there = {column[0] for column in cursor.fetchall()}
                listed = ", ".join(f"`{name}`" if name in there else "NULL" for name in table.names)
                cursor.execute(f"SELECT {listed} FROM `{table.name}`")
                booleans = [column.type == "boolean" for column in table.columns]
                found[table.name] = {
                    tuple(bool(v) if b and v is not None else v for v, b in zip(row, booleans, strict=True))
                    for row in cursor.fetchall()
                }
    finally:
        connection.close()
    return found


class Traffic:
    """Random transactions of a shop's day, by two threads, until told to stop: few enough that a slow machine follows."""

    def __init__(self, server: MariaDB, database: str, seed: int) -> None:
        self._server = server
        self._database = database
        self._stop = threading.Event()
        self.may_truncate = threading.Event()  # a snapshot of Debezium's does not survive it
        self.counts: dict[str, int] = {}
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(random.Random(seed * 10 + n), n)) for n in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def _work(self, rng: random.Random, number: int) -> None:
        connection = self._server.connect(self._database, autocommit=False)
        serial = NEW + number * 1_000_000
        kinds: list[tuple[int, Callable[..., None]]] = [
            (40, self._rent), (30, self._give_back), (6, self._bulk), (8, self._change_key), (8, self._delete),
            (6, self._film), (2, self._truncate),
        ]  # fmt: skip
        try:
            while not self._stop.wait(0.05):
                (kind,) = rng.choices([k for _, k in kinds], [weight for weight, _ in kinds])
                serial += 10
                if kind == self._truncate and not self.may_truncate.is_set():
                    continue
                try:
                    with connection.cursor() as cursor:
                        kind(cursor, rng, serial)
                    connection.commit()
                except (pymysql.err.OperationalError, pymysql.err.IntegrityError) as error:
                    connection.rollback()
                    if error.args[0] not in _IN_THE_WAY:
                        self.failures.append(repr(error))
                        return
                else:
                    self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
        finally:
            connection.close()

    @staticmethod
    def _rent(cursor: Any, rng: random.Random, serial: int) -> None:
        """Rentals and their payments, in one transaction over two tables."""
        for number in range(serial, serial + rng.choice([1, 1, 3])):
            values = (number, rng.randrange(1, 4500), rng.randrange(1, 600))
            cursor.execute(
                "INSERT INTO rental (rental_id, rental_date, inventory_id, customer_id, staff_id) VALUES (%s, now(), %s, %s, 1)",
                values,
            )
            cursor.execute(
                "INSERT INTO payment (payment_id, customer_id, staff_id, rental_id, amount, payment_date) "
                "VALUES (%s, %s, 1, %s, %s, now())",
                (number % 60_000 + 4_000, values[2], number, rng.choice(["0.99", "2.99", "4.99"])),
            )

    @staticmethod
    def _give_back(cursor: Any, rng: random.Random, serial: int) -> None:
        cursor.execute(
            "UPDATE rental SET return_date = now() WHERE return_date IS NULL ORDER BY rental_id LIMIT %s",
            (rng.randrange(1, 4),),
        )

    @staticmethod
    def _bulk(cursor: Any, rng: random.Random, serial: int) -> None:
        cursor.execute(
            "UPDATE film SET rental_duration = %s WHERE film_id %% 20 = %s", (rng.randrange(3, 8), rng.randrange(20))
        )
        cursor.execute("UPDATE payment SET amount = amount + 0.01 WHERE payment_id %% 300 = %s", (rng.randrange(300),))

    @staticmethod
    def _change_key(cursor: Any, rng: random.Random, serial: int) -> None:
        """Keys that others refer to: rentals', customers' and films', whose rows follow without being told."""
        kind = rng.randrange(3)
        if kind == 0:
            cursor.execute(
                "UPDATE rental SET rental_id = %s WHERE rental_id < 100000 AND rental_id > %s ORDER BY rental_id LIMIT 1",
                (serial + 5, rng.randrange(15_000)),
            )
        elif kind == 1:
            cursor.execute(
                "UPDATE customer SET customer_id = customer_id + 10000 + %s WHERE customer_id = %s",
                (rng.randrange(40_000), rng.randrange(1, 600)),
            )
        else:
            cursor.execute(
                "UPDATE film SET film_id = film_id + 10000 + %s WHERE film_id = %s",
                (rng.randrange(40_000), rng.randrange(1, 1000)),
            )

    @staticmethod
    def _delete(cursor: Any, rng: random.Random, serial: int) -> None:
        """Rentals go, whose payments stay without one."""
        cursor.execute("DELETE FROM rental WHERE rental_id > %s ORDER BY rental_id LIMIT 2", (rng.randrange(16_000),))
        if rng.random() < 0.3:
            cursor.execute("DELETE FROM payment WHERE payment_id = %s", (rng.randrange(16_000),))

    @staticmethod
    def _film(cursor: Any, rng: random.Random, serial: int) -> None:
        """A film comes with its categories; another goes and takes its own along."""
        film = 52_000 + serial % 13_000
        cursor.execute(
            "INSERT INTO film (film_id, title, language_id) VALUES (%s, 'NEW FILM', 1) ON DUPLICATE KEY UPDATE title = 'AGAIN'",
            (film,),
        )
        cursor.execute("INSERT IGNORE INTO film_category (film_id, category_id) VALUES (%s, 1), (%s, 2)", (film, film))
        cursor.execute("DELETE FROM film WHERE film_id >= 52000 AND film_id < %s LIMIT 1", (film,))

    @staticmethod
    def _truncate(cursor: Any, rng: random.Random, serial: int) -> None:
        cursor.execute("TRUNCATE TABLE film_category")
        cursor.execute(
            "INSERT INTO film_category (film_id, category_id) SELECT film_id, 1 + mod(film_id, 16) FROM film LIMIT 300"
        )
