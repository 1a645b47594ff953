"""PostgreSQL → Debezium → Kafka → Rowtide, all real: Sakila with traffic, in both layouts of topics; all types."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from debezium_route import TABLES, WITH_SCHEMAS, Route
from domain_folder import write_domain
from postgres_source import PostgresServer
from postgres_types import TYPES as ALL_TYPES
from routes_shop import POSTGRES, PostgresClerks

from connectors.debezium import Connect
from connectors.embedded import EmbeddedPostgres
from daemon.sakila import load_sakila
from deploy.stack.connect import KafkaConnect
from deploy.stack.kafka import KafkaBroker

PAIRS = 7_000_000  # rentals and payments from here on come in pairs
USER, PASSWORD = "debezium", "ein-Geheimnis"


# What Debezium itself does not tell: a time's own zone, and the inner parts of an array.
UNTOLD = {("timetz", "'12:00:00+02'"): "10:00:00+00", ("integer[]", "'{{1,2},{3,4}}'"): "{NULL,NULL}"}

QUOTED = str.maketrans({"'": "''", "\\": "\\\\"})
TYPES = [case for case in ALL_TYPES if case.source_type != "varbit"]  # nor how many bits there are


@pytest.fixture(scope="module")
def shop_server() -> Iterator[PostgresServer]:
    """A source server of its own, which asks Debezium's user for a password, behind a port."""
    server = PostgresServer()
    yield server
    server.close()


class Pairs:
    """An application that enters a rental and its payment in one transaction each; a context manager."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        number = PAIRS
        with psycopg.connect(self._dsn) as connection:
            while not self._stop.wait(0.05):
                number += 1
                customer = number % 599 + 1
                connection.execute(
                    "INSERT INTO rental (rental_id, rental_date, inventory_id, customer_id, staff_id) "
                    f"VALUES ({number}, '2006-02-14 10:00:00', 4581, {customer}, 1)"
                )
                connection.execute(
                    "INSERT INTO payment (payment_id, customer_id, staff_id, rental_id, amount, payment_date) "
                    f"VALUES ({number}, {customer}, 1, {number}, 1.99, '2006-02-14 10:00:00')"
                )
                connection.commit()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(30)


@pytest.fixture
def routes(
    shop_server: PostgresServer,
    server: EmbeddedPostgres,
    broker: KafkaBroker,
    connect: KafkaConnect,
    sakila: Path,
    tmp_path: Path,
) -> Iterator[dict[str, Route]]:
    """One topic for all, and one for each table with schemas and tombstones, from one source."""
    owner = shop_server.embedded.ensure_database("sakila")
    load_sakila(sakila, owner)
    execute(
        owner,
        *POSTGRES,
        "ALTER TABLE payment ALTER payment_id TYPE integer",
        f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}' IN ROLE secured",
    )
    dsn = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{shop_server.link.port}/sakila"
    made = {
        name: Route(name, tmp_path, server.ensure_database(name), dsn, broker, connect, extra)
        for name, extra in {"dbz_pg_one": [], "dbz_pg_many": WITH_SCHEMAS}.items()
    }
    yield made
    for route in made.values():
        route.close()
        Connect(connect.url).delete(route.name)


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(dsn: str) -> dict[str, set[tuple[Any, ...]]]:
    """What the source has of the declared tables; columns that it lacks are NULL."""
    with psycopg.connect(dsn) as connection:
        there = set(
            connection.execute(
                "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            ).fetchall()
        )
        return {
            table.name: set(
                connection.execute(
                    f"SELECT {', '.join(n if (table.name, n) in there else 'NULL' for n in table.names)} FROM {table.name}"
                ).fetchall()
            )
            for table in TABLES
        }


def paired(route: Route) -> int:
    """How many pairs are seen; never half of one."""
    made, alone = route.row(
        "SELECT count(*), count(*) FILTER (WHERE p.payment_id IS NULL OR r.rental_id IS NULL) FROM "
        f"(SELECT * FROM rental WHERE rental_id > {PAIRS}) AS r FULL JOIN "
        f"(SELECT * FROM payment WHERE payment_id > {PAIRS}) AS p ON p.payment_id = r.rental_id"
    )
    assert alone == 0, f"{route.name}: {alone} of {made} pairs are seen by half"
    return int(made)


def test_sakila_with_traffic_in_both_layouts(
    routes: dict[str, Route], shop_server: PostgresServer, connect: KafkaConnect, seed: int
) -> None:
    """Mirrors equal the source row for row, models verify clean, and transactions are seen whole, over a killed Connect."""
    print(f"seed {seed}")
    owner = shop_server.embedded.dsn("sakila")
    refused = routes["dbz_pg_one"].register()
    assert refused.returncode == 1
    assert "--grants" in refused.stderr, refused.stderr
    for route in routes.values():
        # Exactly what the command prints; the role is there already, with its password.
        printed = route.command("config", "--grants").stdout.splitlines()
        statements = [line for line in printed if line.startswith(("GRANT", "CREATE PUBLICATION"))]
        execute(owner, f"ALTER ROLE {USER} REPLICATION", *statements)
    with PostgresClerks(owner, seed, pause=0.1) as clerks:
        for route in routes.values():
            done = route.register()
            assert done.returncode == 0, done.stderr
            told = json.loads(done.stdout)
            assert told["snapshot"] == "completed"
            assert told["rows"] > 38_000
            route.start()
        with Pairs(owner):
            for route in routes.values():
                route.wait_until(lambda route=route: paired(route) > 50, "nothing streams")
            connect.kill()
            connect.start()
            seen = {route: paired(route) + 50 for route in routes.values()}
            for route, goal in seen.items():
                route.wait_until(lambda route=route, goal=goal: paired(route) >= goal, "nothing streams any more")
        assert clerks.count > 100
    execute(owner, "TRUNCATE film_category", "UPDATE category SET name = 'the last one' WHERE category_id = 1")
    expected = rows(owner)
    ended = "SELECT (SELECT name FROM category WHERE category_id = 1), (SELECT count(*) FROM film_category)"
    for route in routes.values():
        route.wait_until(lambda route=route: route.row(ended) == ("the last one", 0), "the end does not come")
        assert route.differing(expected) == {}, route.name
        route.assert_clean()


def test_every_type(
    shop_server: PostgresServer, server: EmbeddedPostgres, broker: KafkaBroker, connect: KafkaConnect, tmp_path: Path
) -> None:
    """What a domain may declare comes as it is, by the snapshot and streamed, large values that an update leaves too."""
    owner = shop_server.embedded.ensure_database("types")
    columns = [f"c{number} {case.source_type}" for number, case in enumerate(TYPES)]
    execute(owner, f"CREATE TABLE everything (id integer PRIMARY KEY, large text, {', '.join(columns)})")
    longest = max(len(case.values) for case in TYPES)

    def insert(first: int) -> None:
        for number in range(longest):
            values = ", ".join(case.values[min(number, len(case.values) - 1)][0] for case in TYPES)
            execute(owner, f"INSERT INTO everything VALUES ({first + number}, repeat('ab漢', 40000), {values})")

    insert(0)
    declared = [f"c{number} {case.declared}" for number, case in enumerate(TYPES)]
    folder = write_domain(
        tmp_path / "dbz_pg_types",
        f"CREATE TABLE everything (id integer PRIMARY KEY, large text, {', '.join(declared)});",
        {"sizes": "-- key: id\nSELECT id, length(large) AS size FROM everything"},
    )
    execute(owner, "DO $$ BEGIN CREATE ROLE typist LOGIN REPLICATION PASSWORD 'geheim' IN ROLE secured; END $$")
    dsn = f"postgresql://typist:geheim@127.0.0.1:{shop_server.link.port}/types"
    route = Route(folder.name, tmp_path, server.ensure_database(folder.name), dsn, broker, connect)
    printed = route.command("config", "--grants").stdout.splitlines()
    execute(owner, *(line for line in printed if line.startswith(("GRANT", "CREATE PUBLICATION"))))
    try:
        done = route.register()
        assert done.returncode == 0, done.stderr
        route.start()
        insert(100)
        execute(owner, "UPDATE everything SET c0 = 7 WHERE id = 100", "INSERT INTO everything (id) VALUES (999)")
        route.wait_until(lambda: route.row("SELECT count(*) FROM everything WHERE id = 999") == (1,), "nothing streams")
        assert route.row("SELECT array_agg(reason) FROM rowtide.parked_event") == (None,)
        assert route.row("SELECT min(size), max(size) FROM sizes") == (120_000, 120_000)
        assert route.row("SELECT c0 FROM everything WHERE id = 100") == (7,)
        for number, case in enumerate(TYPES):
            for place, (given, told) in enumerate(case.values):
                expected = UNTOLD.get((case.source_type, given), told)
                expected_text = "NULL" if expected is None else f"""E'{expected.translate(QUOTED)}'"""
                for first in (0, 100):
                    if (number, first + place) != (0, 100):
                        found = route.row(
                            f"SELECT c{number}::text, ({expected_text}::{case.declared})::text FROM everything "
                            f"WHERE id = {first + place}"
                        )
                        assert found[0] == found[1], (case.name, given, first)
        route.assert_clean()
    finally:
        route.close()
        Connect(connect.url).delete(route.name)
