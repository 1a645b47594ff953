"""MariaDB → Debezium → Kafka → Rowtide, all real: Sakila with traffic, in both layouts of topics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from debezium_route import PER_TABLE, TABLES, Route
from sakila_mariadb import NEW, Traffic, load, rows

from connectors.embedded import EmbeddedPostgres
from deploy.stack.connect import KafkaConnect
from deploy.stack.kafka import KafkaBroker
from deploy.stack.mariadb import MariaDB

SOURCE = "dbz_sakila"


@pytest.fixture
def routes(
    server: EmbeddedPostgres, broker: KafkaBroker, connect: KafkaConnect, mariadb: MariaDB, sakila: Path, tmp_path: Path
) -> Iterator[dict[str, Route]]:
    """One topic for all, and one for each table with tombstones, from one source; with schemas: see PostgreSQL's."""
    load(mariadb, sakila, SOURCE)
    dsn = mariadb.create_capture_user(TABLES, database=SOURCE, user="debezium").replace("mysql://", "mariadb://")
    made = {
        name: Route(name, tmp_path, server.ensure_database(name), dsn, broker, connect, extra)
        for name, extra in {"dbz_one": [], "dbz_many": PER_TABLE}.items()
    }
    yield made
    for route in made.values():
        route.close()


def grant(mariadb: MariaDB, route: Route) -> None:
    """Exactly what the command prints, as far as the user does not have it."""
    printed = route.command("config", "--grants").stdout.splitlines()
    statements = [line.rstrip(";") for line in printed if line.startswith("GRANT")]
    mariadb.execute("REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'debezium'@'%'", *statements, binlog=False)


def rented(route: Route) -> tuple[int, int]:
    """How many rentals the traffic has made, each with its payment in one transaction; and how many lack it."""
    made, alone = route.row(
        f"SELECT count(*), count(*) FILTER (WHERE p.payment_id IS NULL) FROM rental AS r LEFT JOIN payment AS p "
        f"ON p.payment_id = r.rental_id % 60000 + 4000 AND p.rental_id = r.rental_id "
        f"WHERE r.rental_id >= {NEW} AND r.rental_id % 10 < 3 AND r.rental_id % 60000 > 13000"
    )
    return made, alone


def grown(route: Route, count: int) -> bool:
    """Whether there are so many; never one without its payment."""
    made, alone = rented(route)
    assert alone == 0, f"{route.name}: {alone} of {made} rentals are seen without their payment"
    return made >= count


def test_sakila_with_traffic_in_both_layouts(
    routes: dict[str, Route], mariadb: MariaDB, connect: KafkaConnect, seed: int
) -> None:
    """Mirrors equal the source row for row, models verify clean, and transactions are seen whole.

    Connect is killed, a connector is set back so that most of the stream comes twice, another takes its snapshot over live
    rows.
    """
    print(f"seed {seed}")
    one, many = routes["dbz_one"], routes["dbz_many"]
    refused = one.register()
    assert refused.returncode == 1
    assert "The connector dbz_one failed" in refused.stderr, refused.stderr
    assert "LOCK TABLES" in refused.stderr
    assert "--grants" in refused.stderr
    grant(mariadb, one)
    with Traffic(mariadb, SOURCE, seed) as traffic:
        for route in (one, many):
            done = route.register()
            assert done.returncode == 0, done.stderr
            told = json.loads(done.stdout)
            assert told["snapshot"] == "completed"
            assert told["rows"] > 38_000
            route.start()
            if route is one:
                one.wait_until(one.streams, "no place in the stream is stored")
                begun = one.place()
        for route in (one, many):
            # The tables of a snapshot come one after the other; from its end on, every transaction is seen whole.
            def taken(route: Route = route) -> bool:
                made, alone = rented(route)
                return made > 20 and alone == 0

            route.wait_until(taken, "the snapshot is not taken in")
            goal = rented(route)[0] + 50
            route.wait_until(lambda route=route, goal=goal: grown(route, goal), "nothing streams")
        traffic.may_truncate.set()
        connect.kill()
        connect.start()
        sent = sum(traffic.counts.values())
        for route in (one, many):
            route.wait_until(lambda: sum(traffic.counts.values()) > sent + 150, "there is no traffic")
    assert traffic.failures == []
    assert set(traffic.counts) >= {"_rent", "_give_back", "_bulk", "_change_key", "_delete", "_film"}
    # Everything once more from a place at which the connector was long ago; and a snapshot over the rows that are there, of
    # a source in which nothing is deleted meanwhile.
    renamed = "UPDATE category SET name = 'the one before the last' WHERE category_id = 1"
    mariadb.execute(renamed, database=SOURCE)
    name = "SELECT name FROM category WHERE category_id = 1"
    for route in (one, many):
        route.wait_until(
            lambda route=route: route.row(name) == ("the one before the last",), "no end of the traffic comes"
        )
    one.set_back(begun)
    assert many.snapshots() == 1
    many.set_back(None)
    many.wait_until(lambda: many.snapshots() == 2, "no snapshot over live rows")
    # The last thing is a truncate, whose end Debezium does not tell.
    last = "UPDATE category SET name = 'the last one' WHERE category_id = 1"
    mariadb.execute(last, "TRUNCATE TABLE film_category", database=SOURCE)
    expected = rows(mariadb, SOURCE, TABLES)
    ended = "SELECT (SELECT name FROM category WHERE category_id = 1), (SELECT count(*) FROM film_category)"
    for route in (one, many):
        route.wait_until(lambda route=route: route.row(ended) == ("the last one", 0), "the end does not come")
        assert route.differing(expected) == {}, route.name
        route.assert_clean()
    streamed, twice = one.again()
    print(f"{twice} of {streamed} streamed changes came twice")
    assert twice >= 0.3 * streamed
