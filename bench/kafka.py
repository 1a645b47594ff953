"""Kafka: the models from its topics against the embedded log, capture into it, and the whole way from MariaDB."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from bench.daemons import running, settings
from bench.end_to_end import RATE, latencies
from bench.floor import Floor
from bench.report import Goal, Outcome
from bench.run import Run
from bench.shop import Scale, Shop
from bench.stage import PLACE, Stage
from connectors.capture.mysql import MySQLCapture
from connectors.capture.postgres import PostgresCapture
from connectors.debezium import Connect
from connectors.log.kafka import KafkaLog
from connectors.table import Column, Table
from consumers.domain import load_domain
from consumers.engine.relations import schemas
from daemon.debezium import Wishes, connector
from daemon.settings import Settings
from deploy.stack.connect import KafkaConnect
from deploy.stack.jars import missing
from deploy.stack.kafka import KafkaBroker
from deploy.stack.mariadb import MariaDB, ensure_installed
from deploy.stack.process import ServerFailedError

RATIO = 0.9
LATENCY_MS = {"capture": 60.0, "debezium": 150.0}
DEBEZIUM_ROWS = 10_000  # events/s, its best on two cores like ours
# Transactions that nobody measures: after its snapshot a connector turns to the stream for two seconds or three, and a
# JVM needs some more until it has compiled what it runs.
_WARM = 800
_USER = "shop"
_SEGMENTS = 4
_BATCH = 5_000
_ROW = Table(
    "movement",
    (
        Column("id", "integer", nullable=False),
        Column("account_id", "integer", nullable=False),
        Column("amount", "numeric(9,2)"),
        Column("booked", "timestamp"),
        Column("note", "text"),
    ),
    ("id",),
)
_ROW_SQL = (
    "CREATE TABLE movement (id integer PRIMARY KEY, account_id integer NOT NULL, amount decimal(9,2), {moment}, "
    "note varchar(80))"
)
_VALUES = "{n}, {n} % 1000, 12.34, '2024-05-06 07:08:09', 'a note of some length, as people write them'"


def run(run: Run) -> Outcome:
    """Everything with one broker and one MariaDB; without them, a line that says so."""
    try:
        ensure_installed()
    except ServerFailedError as error:
        return Outcome({"left_out": error.message})
    if reason := missing():
        return Outcome({"left_out": reason})
    outcome = Outcome()
    with KafkaBroker() as broker, MariaDB() as mariadb:
        throughput = _throughput(run, broker)
        capture = {
            "postgresql": _capture_postgres(run, broker),
            "mariadb": _capture_mariadb(run, broker, mariadb),
        }
        by_way = {name: _latency(run, broker, mariadb, name, way) for name, way in _WAYS.items()}
    outcome.figures = {**throughput, "capture_rows_per_second": capture, "mariadb_to_model": by_way}
    slowest = min(rate for rates in capture.values() for rate in rates.values())
    outcome.goals = [
        Goal(
            "events/s from Kafka as a share of the embedded log's", throughput["ratio_to_embedded"], RATIO, "at least"
        ),
        Goal("captured rows/s, the slowest way", slowest, 2 * DEBEZIUM_ROWS, "at least"),
        *(
            Goal(f"p99 from MariaDB's commit to the visible row by {way}, ms", by_way[way]["p99_ms"], bound, "under")
            for way, bound in LATENCY_MS.items()
        ),
    ]
    return outcome


# --- from a topic to the models ---


def _throughput(run: Run, broker: KafkaBroker) -> dict[str, Any]:
    """The same records in both logs, worked off in turns by two instances; the floor beside them."""
    events = max(_SEGMENTS * 500, round(60_000 * run.scale))
    with run.databases("embedded", "kafka") as dsns, run.task(f"kafka: {events:,} events", _SEGMENTS + 1) as step:
        stages = {name: Stage(dsn) for name, dsn in zip(("embedded", "kafka"), dsns, strict=True)}
        stages["kafka"].log.close()
        stages["kafka"].log = KafkaLog(broker.servers)  # type: ignore[assignment]
        stages["kafka"].log.create_topic(PLACE.topic)
        scale = Scale.of(run.rentals)
        shops = {name: Shop(scale, seed=run.seed, pace=events) for name in stages}
        for name, stage in stages.items():
            stage.create()
            stage.append_history(shops[name])
            stage.work_off()
            stage.analyze()
        step()
        spent, done = dict.fromkeys(stages, 0.0), dict.fromkeys(stages, 0)
        own = stages["embedded"]
        with psycopg.connect(own.dsn) as connection:
            floor = Floor(connection, own.tables, schemas(own.name)[1], own.decoder())
            for segment in range(_SEGMENTS + 1):  # the first goes unmeasured: plans are made, pages are in memory
                at = own.end()
                for name in sorted(stages, reverse=bool(segment % 2)):
                    changes, records = stages[name].append_traffic(shops[name], events // _SEGMENTS)
                    seconds, count = _work_off(stages[name], round(_BATCH * records / changes))
                    if segment:
                        spent[name] += seconds
                        done[name] += count
                while records_ := own.log.read({PLACE: at}, limit=_BATCH):
                    floor.apply(records_)
                    at = records_[-1].offset + 1
                if not segment:
                    floor.events, floor.seconds = 0, dict.fromkeys(floor.seconds, 0.0)
                step()
        for stage in stages.values():
            stage.close()
    rates = {name: done[name] / spent[name] for name in stages}
    floor_rate = floor.events / sum(floor.seconds.values())
    return {
        "events": done["kafka"],
        "events_per_second": round(rates["kafka"]),
        "embedded_events_per_second": round(rates["embedded"]),
        "ratio_to_embedded": round(rates["kafka"] / rates["embedded"], 4),
        "ratio_to_floor": round(rates["kafka"] / floor_rate, 4),
    }


def _work_off(stage: Stage, limit: int) -> tuple[float, int]:
    """Seconds from the worker's start to its last commit, and the events."""
    ended = [0.0]
    with stage.engine() as (engine, _):
        worker = stage.worker(engine, limit=limit, on_batch=lambda _: ended.__setitem__(0, time.perf_counter()))
        began = time.perf_counter()
        worker.run(threading.Event(), until_idle=True)
        return ended[0] - began, worker.totals.events


# --- capture ---


def _rates(
    log: KafkaLog,
    topic: str,
    capture: Callable[[], PostgresCapture | MySQLCapture],
    rows: int,
    stream: Callable[[], None],
) -> dict[str, int]:
    """Rows/s of a snapshot and of a stream of as many rows, each from the call to the last append."""
    log.create_topic(topic)
    rates = {}
    for name in ("snapshot", "stream"):
        if name == "stream":
            stream()
        began = time.perf_counter()
        capture().run_until_now(threading.Event())
        rates[name] = round(rows / (time.perf_counter() - began))
    return rates


def _rows(run: Run) -> int:
    return max(1_000, round(100_000 * run.scale) // 100 * 100)


def _capture_postgres(run: Run, broker: KafkaBroker) -> dict[str, int]:
    rows = _rows(run)
    with (
        run.databases("movements") as (dsn,),
        run.task(f"kafka: {2 * rows:,} rows from PostgreSQL", 1),
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        connection.execute(_ROW_SQL.format(moment="booked timestamp"))

        def insert(first: int, count: int) -> None:
            values = _VALUES.format(n="n").replace("'2024-05-06 07:08:09'", "timestamp '2024-05-06 07:08:09'")
            connection.execute(
                f"INSERT INTO movement SELECT {values} FROM generate_series({first}, {first + count - 1}) AS n"
            )

        insert(1, rows)
        log = KafkaLog(broker.servers)

        def stream() -> None:
            for first in range(rows + 1, 2 * rows + 1, 100):
                insert(first, 100)

        rates = _rates(
            log,
            "movements_pg",
            lambda: PostgresCapture(dsn, [_ROW], log, "movements_pg", name="bench"),
            rows,
            stream,
        )
        log.close()
    return rates


def _capture_mariadb(run: Run, broker: KafkaBroker, mariadb: MariaDB) -> dict[str, int]:
    rows = _rows(run)
    with run.task(f"kafka: {2 * rows:,} rows from MariaDB", 1):
        mariadb.create_database("movements")
        mariadb.execute(_ROW_SQL.format(moment="booked datetime"), database="movements")
        dsn = mariadb.create_capture_user([_ROW], database="movements", user="movements")
        values = _VALUES.format(n="seq")

        def stream() -> None:
            mariadb.execute(
                *(
                    f"INSERT INTO movement SELECT {values} FROM seq_{first}_to_{first + 99}"
                    for first in range(rows + 1, 2 * rows + 1, 100)
                ),
                database="movements",
            )

        mariadb.execute(f"INSERT INTO movement SELECT {values} FROM seq_1_to_{rows}", database="movements")
        log = KafkaLog(broker.servers)
        rates = _rates(
            log, "movements_my", lambda: MySQLCapture(dsn, [_ROW], log, "movements_my", name="bench"), rows, stream
        )
        log.close()
    return rates


# --- the whole way ---


Way = Callable[[KafkaBroker, MariaDB, str, str], AbstractContextManager[dict[str, str]]]


def _latency(run: Run, broker: KafkaBroker, mariadb: MariaDB, name: str, way: Way) -> dict[str, Any]:
    """MariaDB → Kafka → models, the daemon in a process of its own, as `end-to-end` from PostgreSQL."""
    count = max(20, round(400 * run.scale))
    with ExitStack() as stack:
        (state,) = stack.enter_context(run.databases("state"))
        step = stack.enter_context(run.task(f"kafka: rounds of {count} MariaDB transactions at {RATE:g}/s, {name}", 2))
        shop = Shop(Scale.of(run.rentals), seed=run.seed, start=datetime.now(UTC))
        dsn = _create_source(mariadb, shop)
        # The topic of the throughput's shop is another one's.
        folder = stack.enter_context(_own_topic(f"shop_{name}"))
        source = stack.enter_context(way(broker, mariadb, dsn, folder))
        environment = settings(state) | source
        environment |= {"ROWTIDE_LOG__KIND": "kafka", "ROWTIDE_LOG__SERVERS": broker.servers, "ROWTIDE_DOMAIN": folder}
        with running(environment) as daemon, mariadb.connect("shop", autocommit=False) as connection:
            figures = latencies(
                lambda rng, number: _transaction(connection, rng, shop.scale, number),
                state,
                shop,
                daemon.poll,
                step,
                warm=_WARM,
                count=count,
            )
            step()
    return figures


@contextmanager
def _captured(_broker: KafkaBroker, _mariadb: MariaDB, dsn: str, _folder: str) -> Iterator[dict[str, str]]:
    """The daemon's own capture."""
    yield {"ROWTIDE_SOURCE__DSN": dsn}


@contextmanager
def _connected(broker: KafkaBroker, mariadb: MariaDB, dsn: str, folder: str) -> Iterator[dict[str, str]]:
    """Debezium, configured as `rowtide debezium config` prints it."""
    domain, source = load_domain(folder), dsn.replace("mysql://", "mariadb://")
    (topic,) = domain.topics
    log = KafkaLog(broker.servers)
    log.create_topic(topic)
    log.close()
    with KafkaConnect(broker.servers) as connect, tempfile.TemporaryDirectory(prefix="rowtide-bench-") as secrets:
        secret = Path(secrets) / "source.properties"
        secret.write_text(f"password={unquote(urlsplit(source).password or '')}\n")
        given = {"source": {"kind": "none", "dsn": source}, "log": {"kind": "kafka", "servers": broker.servers}}
        wishes = Wishes("mariadb", topic, password=f"file:{secret}:password")
        made = connector(Settings.model_validate(given), domain, wishes)
        rights = (line.rstrip(";") for line in made.grants(domain) if line.startswith("GRANT"))
        mariadb.execute(*(right.replace("'debezium'", f"'{_USER}'") for right in rights), binlog=False)
        Connect(connect.url).put(topic, {**made.config, "transforms.one.replacement": topic})
        yield {"ROWTIDE_SOURCE__KIND": "none", "ROWTIDE_SOURCE__DSN": source}


_WAYS: dict[str, Way] = {"capture": _captured, "debezium": _connected}


@contextmanager
def _own_topic(topic: str) -> Iterator[str]:
    """The rental domain with a topic that nothing else is in."""
    with tempfile.TemporaryDirectory(prefix="rowtide-bench-") as folder:
        copy = Path(folder) / "rental"
        shutil.copytree(load_domain("rental").folder, copy)
        text = (copy / "domain.toml").read_text()
        (copy / "domain.toml").write_text(text.replace(f'"{PLACE.topic}"', f'"{topic}"'))
        yield str(copy)


def _create_source(mariadb: MariaDB, shop: Shop) -> str:
    """The rental domain's source tables with a shop's past in them; the capturing user's connection string."""
    domain = load_domain("rental")
    mariadb.execute("DROP DATABASE IF EXISTS shop")
    mariadb.create_database("shop")
    kinds = {"text": "varchar(190)", "boolean": "boolean", "integer": "integer", "timestamp": "datetime"}
    for table in domain.tables.values():
        columns = ", ".join(
            f"{c.name} {kinds.get(c.type.split('(')[0].split(' without')[0], c.type)}"
            f"{' NOT NULL' if c.name in table.key else ''}"
            for c in table.columns
        )
        mariadb.execute(f"CREATE TABLE {table.name} ({columns}, PRIMARY KEY ({', '.join(table.key)}))", database="shop")
    order = {name: number for number, name in enumerate(domain.tables)}
    writes = sorted(shop.history(), key=lambda write: order[write.table])
    with mariadb.connect("shop", autocommit=False) as connection, connection.cursor() as cursor:
        for name, rows in groupby(writes, key=lambda write: write.table):
            marks = ", ".join(["%s"] * len(domain.tables[name].columns))
            cursor.executemany(f"INSERT INTO {name} VALUES ({marks})", [_mysql_row(write.row or ()) for write in rows])
        connection.commit()
    return mariadb.create_capture_user(list(domain.tables.values()), database="shop", user=_USER)


def _mysql_row(row: Any) -> list[Any]:
    truths = {"true": 1, "false": 0}
    return [truths.get(value, value) for value in row]


def _transaction(connection: Any, rng: random.Random, scale: Scale, rental: int) -> None:
    """As `end_to_end`'s: a rental; in two of five an earlier one comes back and is paid in the same transaction."""
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rental VALUES (%s, %s, %s, %s, NULL, 1)",
            (rental, now, rng.randint(1, scale.items), rng.randint(1, scale.customers)),
        )
        if rng.random() < 0.4:
            back = rng.randint(max(1, rental - 2_000), rental)
            cursor.execute("UPDATE rental SET return_date = %s WHERE rental_id = %s", (now, back))
            cursor.execute(
                "INSERT INTO payment SELECT %s, customer_id, 1, rental_id, 2.99, %s FROM rental WHERE rental_id = %s",
                (10_000_000 + rental, now, back),
            )
    connection.commit()
