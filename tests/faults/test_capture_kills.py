"""Captures are killed at named places and at random while their source is written to: each commit is in the log once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from links import Proxy
from mariadb_source import MariadbSource
from sources import ITEM, ITEM_SQL, Topic, Traffic

from connectors.capture.postgres import PostgresCapture
from connectors.embedded import EmbeddedPostgres
from connectors.event import Boundary, Change
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate
from deploy.stack.mariadb import MariaDB

TABLES = (Traffic.ENTRY, ITEM)
KILLS = 10
LARGE = 7000  # rows: more than one append takes
_PROCESS = """
import sys, threading
from sources import ITEM, Traffic
from connectors.capture.{module} import {kind}
from connectors.log.embedded import EmbeddedLog
source, state, name = sys.argv[1:]
log = EmbeddedLog(state)
{kind}(source, [Traffic.ENTRY, ITEM], log, "t", name=name, heartbeat_seconds=0.1).run(threading.Event())
"""


class Source(ABC):
    """A source of either kind, and the capture that is killed."""

    module = ""
    kind = ""
    places: tuple[str, ...] = ()  # at which a stream is killed
    snapshot_places: tuple[str, ...] = ()
    name = ""

    @abstractmethod
    def execute(self, *statements: str) -> None:
        """Run each statement in a transaction of its own."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Any]:
        """A transaction."""

    @abstractmethod
    def rows(self, wanted: Any) -> dict[Any, Any]:
        """A table as it is."""

    @abstractmethod
    def dsn_of_capture(self) -> str:
        """Where the capture connects."""

    @abstractmethod
    def finish(self, topic: Topic) -> None:
        """Capture what is left, in this process."""

    def start(self, state: str, failpoint: str | None) -> subprocess.Popen[bytes]:
        """A process that captures until it is killed."""
        root = Path(__file__).resolve().parents[2]
        environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests/conformance'}"}
        if failpoint is not None:
            environment["ROWTIDE_FAILPOINT"] = failpoint
        program = _PROCESS.format(module=self.module, kind=self.kind)
        return subprocess.Popen(
            [sys.executable, "-c", program, self.dsn_of_capture(), state, self.name],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


class FromPostgres(Source):
    """A database beside the state database."""

    module, kind, name = "postgres", "PostgresCapture", "killed"
    places = ("before_append", "appended", "piece", "confirmed")
    snapshot_places = ("slot_created", "before_append", "appended", "snapshot_chunk", "snapshot_read", "snapshot_chunk")

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._local = threading.local()

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self._dsn, autocommit=True)
        with self._local.connection.transaction():
            yield self._local.connection

    def rows(self, wanted: Any) -> dict[Any, Any]:
        listed = ", ".join(f'"{name}"::text' for name in wanted.names)
        with psycopg.connect(self._dsn) as connection:
            rows = connection.execute(f'SELECT {listed} FROM "{wanted.name}"').fetchall()
        return {tuple(row[place] for place in wanted.key_positions): row for row in rows}

    def dsn_of_capture(self) -> str:
        return self._dsn

    def finish(self, topic: Topic) -> None:
        PostgresCapture(self._dsn, list(TABLES), topic.log, "t", name=self.name).run_until_now(threading.Event())


class FromMariadb(Source):
    """A database of a MariaDB, with a capturing user of its own."""

    module, kind = "mysql", "MySQLCapture"
    places = ("before_append", "appended", "before_flush")
    snapshot_places = ("before_append", "appended", "before_append", "appended", "before_flush")

    def __init__(self, source: MariadbSource) -> None:
        self._source = source
        self.name = source.name

    def execute(self, *statements: str) -> None:
        self._source.execute(*statements)

    def transaction(self) -> AbstractContextManager[Any]:
        return self._source.transaction()

    def rows(self, wanted: Any) -> dict[Any, Any]:
        return self._source.rows(wanted)

    def dsn_of_capture(self) -> str:
        return self._source.capture_dsn()

    def finish(self, topic: Topic) -> None:
        self._source.capture(TABLES, topic.log, "t").run_until_now(threading.Event())


@pytest.fixture(params=["postgres", "mariadb"])
def source(request: pytest.FixtureRequest) -> Iterator[Source]:
    made: Source
    if request.param == "mariadb":
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        with Proxy(("127.0.0.1", mariadb.port)) as link:
            there = MariadbSource(mariadb, link)
            made = FromMariadb(there)
            made.execute(Traffic.ENTRY_SQL, ITEM_SQL)
            there.allow(TABLES)
            yield made
            there.close()
        return
    server: EmbeddedPostgres = request.getfixturevalue("server")
    name = f"killed_{random.SystemRandom().randrange(10**9)}"
    made = FromPostgres(server.ensure_database(name))
    made.execute(Traffic.ENTRY_SQL, ITEM_SQL)
    yield made
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        slots = "FROM pg_replication_slots WHERE database = %s"
        connection.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active", [name])
        connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}", [name])
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def topic(database: str) -> Iterator[Topic]:
    migrate(database)
    log = EmbeddedLog(database)
    yield Topic(log, "t", TABLES)
    log.close()


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the process's own death at its failpoint, or kill it when the time is over."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    assert process.wait() == -signal.SIGKILL, "the capture ended by itself"


def inserts(start: int, count: int) -> str:
    return "INSERT INTO item VALUES " + ", ".join(f"({n}, 'x', {n})" for n in range(start, start + count))


def order(topic: Topic) -> list[int]:
    """The commit's place in PostgreSQL's WAL of every streamed change."""
    sources = [json.loads(r.value).get("source") for r in topic.records() if r.value]
    return [s["lsn"] for s in sources if s and "lsn" in s and "snapshot" not in s]


def test_a_killed_stream_loses_nothing_and_repeats_nothing(
    source: Source, topic: Topic, database: str, seed: int
) -> None:
    """After kills at every place every commit is in the topic exactly once, whole, in order; large transactions too."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    source.finish(topic)
    advanced, large = 0, 0
    with Traffic(source, pause=0.01) as traffic:
        for number in range(KILLS):
            if number % 2 == 0:
                with source.transaction() as session:
                    session.execute(inserts(10_000_000 + number * 10_000, LARGE))
                large += 1
            before = len(topic.records())
            place = f"{rng.choice(source.places)}:{rng.randint(1, 5)}" if rng.random() < 0.7 else None
            process = source.start(database, place)
            topic.wait(
                lambda before=before, process=process: len(topic.records()) > before or process.poll() is not None, "it"
            )
            end(process, rng.uniform(0.0, 0.4))
            advanced += len(topic.records()) > before
    source.finish(topic)
    assert advanced > KILLS // 2, f"seed {seed}: it gets on between kills"
    traffic.check(topic)
    assert [len(unit) for unit in topic.transactions() if len(unit) >= LARGE] == [LARGE] * large
    assert topic.mirror("item") == source.rows(ITEM), f"seed {seed}"
    assert topic.mirror("entry") == source.rows(Traffic.ENTRY), f"seed {seed}"
    assert order(topic) == sorted(order(topic)), "the order of the commits"


def test_a_killed_snapshot_ends_right(source: Source, topic: Topic, database: str, seed: int) -> None:
    """Killed while it reads and catches up, under writes: one unit at the end, and the tables are the source's."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    for number in range(10):
        source.execute(inserts(100_000 + 2000 * number, 2000))
    old = "id BETWEEN 100000 AND 120000 AND id"
    with Traffic(source, pause=0.01) as traffic:
        for place in source.snapshot_places:
            if topic.snapshot_done():
                break
            end(source.start(database, f"{place}:{rng.randint(1, 2)}"), 5)
            source.execute(
                f"UPDATE item SET name = 'changed', amount = NULL WHERE {old} % 97 = {rng.randrange(97)}",
                f"DELETE FROM item WHERE {old} % 89 = {rng.randrange(89)}",
                f"UPDATE item SET id = id + 100000 WHERE {old} % 83 = {rng.randrange(83)}",
            )
    source.finish(topic)
    assert traffic.count() > 0
    ends = [e.status for e in topic.events() if isinstance(e, Boundary) and e.transaction.startswith("snapshot:")]
    assert ends == ["BEGIN", "END"]
    assert topic.mirror("item") == source.rows(ITEM), f"seed {seed}"
    assert topic.mirror("entry") == source.rows(Traffic.ENTRY), f"seed {seed}"
    assert {c.op for c in topic.events() if isinstance(c, Change)} >= {"r", "u", "d"}
    created = [c.key for c in topic.changes("entry") if isinstance(c, Change) and c.op == "c"]
    assert len(created) == len(set(created))
