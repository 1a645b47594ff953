"""MariaDB → capture → Kafka → models, by the commands an operator types, under traffic; and the routes compared."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from daemons import Daemons, daemons, until
from debezium_route import Told
from links import Proxy
from pymysql.constants import CLIENT
from rental_oracle import KEYS, compute
from routes_shop import POSTGRES, Clerks, domain_copy, transactions, unequal
from sakila_mariadb import load, rows

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import Domain, load_domain
from daemon.app import App
from daemon.sakila import load_sakila as load_sakila_postgres
from daemon.service import serve
from daemon.settings import load_settings
from daemon.times import BusinessTime
from deploy.stack.connect import KafkaConnect
from deploy.stack.kafka import KafkaBroker
from deploy.stack.mariadb import MariaDB

MODELS = (*KEYS, "daily_summary")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return domain_copy(tmp_path)


@pytest.fixture
def domain(folder: Path) -> Domain:
    return load_domain(str(folder))


@pytest.fixture
def source(mariadb: MariaDB, sakila: Path, domain: Domain) -> Iterator[str]:
    """Sakila in a MariaDB database of the domain's name; the connection string of its capturing user."""
    load(mariadb, sakila, domain.name)
    yield mariadb.create_capture_user(list(domain.tables.values()), database=domain.name, user=f"u_{domain.name[-8:]}")
    mariadb.execute(f"DROP DATABASE {domain.name}")


def command(start: Daemons, *arguments: object) -> dict[str, Any]:
    """What a command says as JSON; it must end with 0."""
    ended = start(*arguments, "--json")
    assert ended.ended() == 0, "".join(ended.lines)
    return json.loads(ended.output().splitlines()[-1])


def test_sakila_under_traffic(
    mariadb: MariaDB,
    source: str,
    broker: KafkaBroker,
    database: str,
    folder: Path,
    domain: Domain,
    tmp_path: Path,
    seed: int,
) -> None:
    """While clerks work, the daemon takes the snapshot, is killed in it, streams, and a table is truncated.

    The mirror equals the source row for row, cascades included; the models equal their queries, and what plain Python
    computes from the source's rows; status tells what is the case.
    """
    print(f"seed {seed}")
    tables = list(domain.tables.values())
    environment = {
        "ROWTIDE_STATE__DSN": database,
        "ROWTIDE_SOURCE__DSN": source,
        "ROWTIDE_LOG__KIND": "kafka",
        "ROWTIDE_LOG__SERVERS": broker.servers,
        # The snapshot, and what it catches up with, comes in hundreds of pieces, cut at every kind of change.
        "ROWTIDE_WORKER__BATCH_EVENTS": "100",
    }
    with daemons(environment, tmp_path) as start:
        done = command(start, "--domain", folder, "init")["done"]
        assert f"created the topic {domain.name}" in done
        with Clerks(mariadb, domain.name, seed) as clerks:
            first = start("--domain", folder, "run", ROWTIDE_FAILPOINT="appended:4")
            assert first.ended() == -signal.SIGKILL
            daemon = start("--domain", folder, "run")
            daemon.wait_for("snapshot.completed")
            streamed = clerks.count
            until(lambda: clerks.count > streamed + 100)
            mariadb.execute("TRUNCATE TABLE payment", database=domain.name)
            until(lambda: clerks.count > streamed + 200)
            assert command(start, "--domain", folder, "status")["state"] == "running"
        until(lambda: not unequal(mariadb, database, domain), every=0.5)
        assert daemon.stop() == 0
        assert all(not any(t[k] for k in ("missing", "unexpected", "different")) for t in verified(start, folder))
        status = command(start, "--domain", folder, "status")
        assert (status["state"], status["parked"]) == ("idle", 0)
        assert all(topic["lag"] == 0 for topic in status["topics"].values())
        assert status["source"]["reachable"]
    raw = {
        name: [dict(zip(domain.tables[name].names, row, strict=True)) for row in found]
        for name, found in rows(mariadb, domain.name, tables).items()
    }
    assert any(film["film_id"] > 20_000 for film in raw["film"]), "keys moved"
    with psycopg.connect(database) as connection:
        now = connection.execute(f"SELECT now FROM {domain.name}_source.clock").fetchone()[0]
    for name, expected in compute(raw, now=now).items():
        if name in KEYS:
            columns = list(next(iter(expected.values())))
            assert models(database, domain, name, columns) == {
                key: tuple(row[column] for column in columns) for key, row in expected.items()
            }, name


def verified(start: Daemons, folder: Path) -> list[dict[str, Any]]:
    found = command(start, "--domain", folder, "verify")
    return list(found["tables"]) if isinstance(found, dict) else found


def models(dsn: str, domain: Domain, name: str, columns: list[str]) -> dict[Any, tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        listed = ", ".join(f'"{column}"' for column in columns)
        found = connection.execute(f'SELECT "{KEYS[name]}", {listed} FROM {domain.name}.{name}').fetchall()
    return {row[0]: row[1:] for row in found}


# --- the same history by different ways ---

START = datetime(2006, 2, 14, 16, tzinfo=UTC)
CLOCKS = (datetime(2006, 2, 15, 3, tzinfo=UTC), datetime(2006, 3, 1, tzinfo=UTC))


def open_route(folder: Path, dsn: str, **environment: str) -> App:
    """An app whose business time stands still but for the clock it is told."""
    migrate(dsn)
    given = {"ROWTIDE_STATE__DSN": dsn, "ROWTIDE_WEB__ENABLED": "false", **environment}
    settings = load_settings(None, given, {"domain": str(folder)}).settings
    return App(settings, dsn, load_domain(str(folder)), BusinessTime(int(START.timestamp() * 1000), 0.0))


def told(dsn: str, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of models and histories, without what names places in a log."""
    with psycopg.connect(dsn) as connection:
        found = {}
        for name in (*MODELS, "inventory_audit"):
            cursor = connection.execute(f"SELECT * FROM {schema}.{name}")
            kept = [n for n, column in enumerate(cursor.description or ()) if column.name not in ("id", "cause", "seq")]
            found[name] = sorted((tuple(row[n] for n in kept) for row in cursor), key=repr)
    return found


def test_every_route_leads_to_the_same_models(
    mariadb: MariaDB,
    source: str,
    broker: KafkaBroker,
    server: EmbeddedPostgres,
    connect: KafkaConnect,
    sakila: Path,
    folder: Path,
    domain: Domain,
    tmp_path: Path,
    seed: int,
) -> None:
    """One history in PostgreSQL and in MariaDB, by captures and by Debezium, the embedded log and Kafka: equal models.

    Histories are equal too; Debezium's snapshot is no one step, so that those of its routes begin behind it.
    """
    print(f"seed {seed}")
    postgres = server.ensure_database(f"{domain.name}_source")
    load_sakila_postgres(sakila, postgres)
    with psycopg.connect(postgres, autocommit=True) as connection:
        for statement in POSTGRES:
            connection.execute(statement)
    # They put the present in place of the times that are given, where they are there.
    triggers = ("rental_date", "payment_date", "customer_create_date")
    mariadb.execute(*(f"DROP TRIGGER IF EXISTS {name}" for name in triggers), database=domain.name)
    kafka = {"ROWTIDE_LOG__KIND": "kafka", "ROWTIDE_LOG__SERVERS": broker.servers}
    routes = {
        name: open_route(folder, server.ensure_database(f"{domain.name}_{name}"), ROWTIDE_SOURCE__DSN=dsn, **log)
        for name, dsn, log in (("postgres", postgres, {}), ("kafka", source, kafka))
    }
    link = Proxy(server.folder / ".s.PGSQL.5432")
    reached = {
        "debezium_mariadb": source.replace("mysql://", "mariadb://"),
        "debezium_postgres": f"postgresql://postgres:none@127.0.0.1:{link.port}/{domain.name}_source",
    }
    for name, dsn in reached.items():
        state = server.ensure_database(f"{domain.name}_{name}")
        routes[name] = open_route(folder, state, ROWTIDE_SOURCE__KIND="none", ROWTIDE_SOURCE__DSN=dsn)
        routes[name].init()
    relays = [
        Told(routes[name], dsn, name.removeprefix("debezium_"), tmp_path, broker, connect)
        for name, dsn in reached.items()
    ]
    mariadb.execute(
        *(statement.rstrip(";").replace("'debezium'", f"'u_{domain.name[-8:]}'") for statement in relays[0].grants),
        binlog=False,
    )
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(next(line for line in relays[1].grants if "PUBLICATION" in line))
    work = [transactions(random.Random(seed + n), n) for n in range(2)]
    application = mariadb.connect(domain.name, client_flag=CLIENT.FOUND_ROWS)
    begun: dict[str, Counter[tuple[Any, ...]]] = {}
    try:
        for relay in relays:
            relay.begin()
        for number, clock in enumerate(CLOCKS):
            for name, app in routes.items():
                serve(app, threading.Event(), until_idle=True)
                begun.setdefault(name, Counter(told(app.dsn, domain.name)["inventory_audit"]))
            for _ in range(80):
                for worker in work:
                    run_in_both(next(worker), application, postgres)
            run_in_both([f"UPDATE category SET name = 'part {number}' WHERE category_id = 1"], application, postgres)
            for relay in relays:
                relay.until(f"part {number}")
            for app in routes.values():
                serve(app, threading.Event(), until_idle=True)
                serve(app, threading.Event(), until_idle=True, clock=clock)
        expected = told(routes["postgres"].dsn, domain.name)
        for name, app in routes.items():
            assert [check for check in app.verify() if not check.clean] == [], name
            assert app.status()["parked"] == 0
            for table, found in told(app.dsn, domain.name).items():
                if name in reached and table == "inventory_audit":
                    later = Counter(expected[table]) - begun["postgres"]
                    assert Counter(found) - begun[name] == later, name
                    assert later.total() > 20
                else:
                    assert found == expected[table], (name, table)
        assert unequal(mariadb, routes["kafka"].dsn, domain) == {}
        assert len(expected["inventory_audit"]) > 4581
        assert len(expected["daily_summary"]) >= 14
    finally:
        application.close()
        for relay in relays:
            relay.close()
        link.close()
        for app in routes.values():
            app.close()
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
            )
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            for name in ("source", *routes):
                connection.execute(f"DROP DATABASE IF EXISTS {domain.name}_{name} WITH (FORCE)")


def run_in_both(statements: list[str], application: Any, postgres: str) -> None:
    application.begin()
    with application.cursor() as cursor, psycopg.connect(postgres) as connection:
        for statement in statements:
            changed = cursor.execute(statement)
            assert connection.execute(statement).rowcount in (changed, -1), statement
    application.commit()
