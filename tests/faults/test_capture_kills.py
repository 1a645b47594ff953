"""The capture is killed at named places and at random while the source is written to: each commit is in the log once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sources import ITEM, ITEM_SQL, Topic, Traffic

from connectors.capture.postgres import PostgresCapture
from connectors.embedded import EmbeddedPostgres
from connectors.event import Boundary, Change
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate

FAILPOINTS = ["before_append", "appended", "piece", "confirmed"]
SNAPSHOT_FAILPOINTS = ["slot_created", "before_append", "appended", "snapshot_chunk", "snapshot_read"]
KILLS = 12
_PROCESS = """
import sys, threading
from sources import ITEM, Traffic
from connectors.capture.postgres import PostgresCapture
from connectors.log.embedded import EmbeddedLog
source, state = sys.argv[1:]
log = EmbeddedLog(state)
PostgresCapture(source, [Traffic.ENTRY, ITEM], log, "t", name="killed", heartbeat_seconds=0.1).run(threading.Event())
"""


class Shop:
    """The source's owner, as `Traffic` and `Topic` want it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._local = threading.local()

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self.dsn, autocommit=True)
        with self._local.connection.transaction():
            yield self._local.connection

    def rows(self, wanted) -> dict:
        listed = ", ".join(f'"{name}"::text' for name in wanted.names)
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(f'SELECT {listed} FROM "{wanted.name}"').fetchall()
        return {tuple(row[place] for place in wanted.key_positions): row for row in rows}


@pytest.fixture
def shop(server: EmbeddedPostgres, database: str) -> Iterator[Shop]:
    """A source beside the state database; its slot goes with it."""
    name = f"killed_{random.SystemRandom().randrange(10**9)}"
    made = Shop(server.ensure_database(name))
    made.execute(Traffic.ENTRY_SQL, ITEM_SQL)
    yield made
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = %s AND active",
            [name],
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [name]
        )
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def start(shop: Shop, state: str, failpoint: str | None) -> subprocess.Popen[bytes]:
    """A process that captures until it is killed."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests/conformance'}"}
    if failpoint is not None:
        environment["ROWTIDE_FAILPOINT"] = failpoint
    return subprocess.Popen(
        [sys.executable, "-c", _PROCESS, shop.dsn, state],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the process's own death at its failpoint, or kill it when the time is over."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    assert process.wait() == -signal.SIGKILL, "the capture ended by itself"


def finish(shop: Shop, topic: Topic) -> None:
    """Capture what is left, in this process."""
    tables = list(topic.tables.values())
    PostgresCapture(shop.dsn, tables, topic.log, "t", name="killed").run_until_now(threading.Event())


@pytest.fixture
def topic(database: str) -> Iterator[Topic]:
    migrate(database)
    log = EmbeddedLog(database)
    yield Topic(log, "t", [Traffic.ENTRY, ITEM])
    log.close()


def test_a_killed_stream_loses_nothing_and_repeats_nothing(shop: Shop, topic: Topic, database: str, seed: int) -> None:
    """After kills at every place every commit is in the topic exactly once, whole, in the order of the commits."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    finish(shop, topic)
    advanced = 0
    with Traffic(shop, pause=0.01) as traffic:
        for number in range(KILLS):
            if number % 4 == 0:  # larger than a piece
                large(shop, number)
            before = len(topic.records())
            place = f"{rng.choice(FAILPOINTS)}:{rng.randint(1, 5)}" if rng.random() < 0.7 else None
            process = start(shop, database, place)
            topic.wait(
                lambda before=before, process=process: len(topic.records()) > before or process.poll() is not None, "it"
            )
            end(process, rng.uniform(0.0, 0.4))
            advanced += len(topic.records()) > before
    finish(shop, topic)
    assert advanced > KILLS // 2, f"seed {seed}: it gets on between kills"
    traffic.check(topic)
    assert topic.transactions(), "every transaction has its beginning and its end"
    assert topic.mirror("item") == shop.rows(ITEM), f"seed {seed}"
    assert topic.mirror("entry") == shop.rows(Traffic.ENTRY), f"seed {seed}"
    lsns = order(topic)
    assert lsns == sorted(lsns), "the order of the commits"


def large(shop: Shop, number: int) -> None:
    """A transaction of more rows than one append takes."""
    start = 10_000_000 + number * 10_000
    shop.execute(
        f"INSERT INTO item SELECT g, 'large', g FROM generate_series({start}, {start + 6000}) AS g",
    )


def order(topic: Topic) -> list[int]:
    """The commit's place in the source's WAL of every streamed change."""
    import json

    sources = [json.loads(r.value).get("source") for r in topic.records() if r.value]
    return [s["lsn"] for s in sources if s and "snapshot" not in s]


def test_a_killed_snapshot_ends_right(shop: Shop, topic: Topic, database: str, seed: int) -> None:
    """Killed while it reads, under writes: the snapshot is one unit at the end, and the tables are the source's."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    shop.execute("INSERT INTO item SELECT g, 'old', g FROM generate_series(100000, 130000) AS g")
    with Traffic(shop, pause=0.01) as traffic:
        for place in [*SNAPSHOT_FAILPOINTS, "snapshot_chunk", "before_append", None]:
            if topic.snapshot_done():
                break
            process = start(shop, database, f"{place}:{rng.randint(1, 2)}" if place else None)
            end(process, 3 if place else 0.5)
            shop.execute(
                f"UPDATE item SET name = 'changed', amount = NULL WHERE id BETWEEN 100000 AND 130000 AND id % 97 = {rng.randrange(97)}",
                f"DELETE FROM item WHERE id BETWEEN 100000 AND 130000 AND id % 89 = {rng.randrange(89)}",
                f"UPDATE item SET id = id + 100000 WHERE id BETWEEN 100000 AND 130000 AND id % 83 = {rng.randrange(83)}",
            )
    finish(shop, topic)
    assert traffic.count() > 0
    ends = [e for e in topic.events() if isinstance(e, Boundary) and e.transaction.startswith("snapshot:")]
    assert [e.status for e in ends] == ["BEGIN", "END"]
    assert topic.mirror("item") == shop.rows(ITEM), f"seed {seed}"
    assert topic.mirror("entry") == shop.rows(Traffic.ENTRY), f"seed {seed}"
    assert {c.op for c in topic.events() if isinstance(c, Change)} >= {"r", "u", "d"}
