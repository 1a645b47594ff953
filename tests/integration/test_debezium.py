"""MariaDB → Debezium → Kafka → Rowtide, all real: Sakila with traffic, in both layouts of topics."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sakila_mariadb import NEW, Traffic, load, rows

from connectors.embedded import EmbeddedPostgres
from consumers.domain import BUILT_IN, load_domain
from daemon.app import open_app
from daemon.settings import load_settings
from deploy.stack.connect import KafkaConnect
from deploy.stack.kafka import KafkaBroker
from deploy.stack.mariadb import MariaDB

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "dbz_sakila"
TABLES = list(load_domain("rental").tables.values())
PATIENCE = 90.0  # seconds; the machine may be busy with other tests


class Route:
    """One instance of the rental domain behind a connector of its own.

    Args:
        extra: more arguments of `rowtide debezium`.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        state: str,
        dsn: str,
        broker: KafkaBroker,
        connect: KafkaConnect,
        extra: list[str],
    ) -> None:
        self.name, self.state, self._connect, self._extra = name, state, connect, extra
        self._folder = folder
        shutil.copytree(BUILT_IN / "rental", folder / name)
        self._dsn, self._servers = dsn, broker.servers
        self.config = folder / f"{name}.toml"
        self.secret = folder / f"{name}.properties"
        self.secret.write_text(f"password={urlsplit(dsn).password}\n")
        self.write([])
        told = self.command("config", "--topics")
        self.write(json.loads(told.stdout.partition("=")[2]))
        self._stop, self._news = threading.Event(), threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def write(self, topics: list[str]) -> None:
        """The settings file."""
        self.config.write_text(
            f'domain = "{self._folder / self.name}"\n[state]\ndsn = "{self.state}"\n'
            f'[source]\nkind = "none"\ndsn = "{self._dsn}"\n'
            f'[log]\nkind = "kafka"\nservers = "{self._servers}"\ntopics = {json.dumps(topics or [self.name + "-events"])}\n'
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`rowtide debezium …` as a user runs it."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith("ROWTIDE_")}
        command = [
            sys.executable,
            "-c",
            "from daemon.cli import main; main()",
            "--config",
            str(self.config),
            "debezium",
        ]
        return subprocess.run(
            [*command, *arguments, "--password-from", f"file:{self.secret}:password", *self._extra],
            env={**kept, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def register(self) -> subprocess.CompletedProcess[str]:
        return self.command("register", "--connect", self._connect.url, "--json")

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            with open_app(load_settings(self.config, {}).settings) as app:
                app.run(self._stop, on_batch=lambda _: self._news.set())
        except BaseException as error:  # noqa: BLE001 - told where it is waited for
            self.failure = error
            self._news.set()

    def wait_until(self, fulfilled: Callable[[], bool], what: str) -> None:
        """Look after each batch, until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not fulfilled():
            assert self.failure is None, self.failure
            assert time.monotonic() < deadline, f"{self.name}: {what}"
            self._news.wait(0.5)
            self._news.clear()

    def row(self, query: str) -> tuple[Any, ...]:
        with psycopg.connect(self.state, autocommit=True) as connection:
            connection.execute(f"SET search_path = {self.name}, {self.name}_source")
            found = connection.execute(query).fetchone()
        assert found is not None
        return found

    def mirror(self) -> dict[str, set[tuple[Any, ...]]]:
        with psycopg.connect(self.state, autocommit=True) as connection:
            return {
                table.name: set(
                    connection.execute(
                        f"SELECT {', '.join(table.names)} FROM {self.name}_source.{table.name}"
                    ).fetchall()
                )
                for table in TABLES
            }

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(60)


@pytest.fixture
def routes(
    server: EmbeddedPostgres, broker: KafkaBroker, connect: KafkaConnect, mariadb: MariaDB, sakila: Path, tmp_path: Path
) -> Iterator[dict[str, Route]]:
    """One topic for all, and one for each table with schemas and tombstones, from one source."""
    load(mariadb, sakila, SOURCE)
    dsn = mariadb.create_capture_user(TABLES, database=SOURCE, user="debezium").replace("mysql://", "mariadb://")
    made = {
        name: Route(name, tmp_path, server.ensure_database(name), dsn, broker, connect, extra)
        for name, extra in {
            "dbz_one": [],
            "dbz_many": [
                "--per-table",
                "--set", "key.converter.schemas.enable=true",
                "--set", "value.converter.schemas.enable=true",
                "--set", "tombstones.on.delete=true",
            ],
        }.items()
    }  # fmt: skip
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
    """Mirrors equal the source row for row, models verify clean, and transactions are seen whole, over a killed Connect."""
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
    # The last thing is a truncate, whose end Debezium does not tell.
    last = "UPDATE category SET name = 'the last one' WHERE category_id = 1"
    mariadb.execute(last, "TRUNCATE TABLE film_category", database=SOURCE)
    expected = rows(mariadb, SOURCE, TABLES)
    ended = "SELECT (SELECT name FROM category WHERE category_id = 1), (SELECT count(*) FROM film_category)"
    for route in (one, many):
        route.wait_until(lambda route=route: route.row(ended) == ("the last one", 0), "the end does not come")
        actual = route.mirror()
        for table in TABLES:
            assert actual[table.name] == expected[table.name], (
                f"{route.name}.{table.name}, seed {seed}: missing {sorted(expected[table.name] - actual[table.name])[:3]}, "
                f"too many {sorted(actual[table.name] - expected[table.name])[:3]}"
            )
        route.close()
        assert route.failure is None
        with open_app(load_settings(route.config, {}).settings) as app:
            assert [check for check in app.verify() if not check.clean] == []
            assert app.status()["parked"] == 0
