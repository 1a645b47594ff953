"""Capture from MariaDB is killed at named places and at random under writes: each commit is in the log once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from links import Proxy
from mariadb_source import MariadbSource
from sources import ITEM, ITEM_SQL, Topic, Traffic

from connectors.event import Boundary, Change
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate
from deploy.stack.mariadb import MariaDB

TABLES = (Traffic.ENTRY, ITEM)
KILLS = 8
_PROCESS = """
import sys, threading
from sources import ITEM, Traffic
from connectors.capture.mysql import MySQLCapture
from connectors.log.embedded import EmbeddedLog
source, state, name = sys.argv[1:]
log = EmbeddedLog(state)
MySQLCapture(source, [Traffic.ENTRY, ITEM], log, "t", name=name, heartbeat_seconds=0.1).run(threading.Event())
"""


@pytest.fixture
def source(mariadb: MariaDB) -> Iterator[MariadbSource]:
    with Proxy(("127.0.0.1", mariadb.port)) as link:
        made = MariadbSource(mariadb, link)
        made.execute(Traffic.ENTRY_SQL, ITEM_SQL)
        made.allow(TABLES)
        yield made
        made.close()


@pytest.fixture
def topic(database: str) -> Iterator[Topic]:
    migrate(database)
    log = EmbeddedLog(database)
    yield Topic(log, "t", TABLES)
    log.close()


def start(source: MariadbSource, state: str, failpoint: str | None) -> subprocess.Popen[bytes]:
    """A process that captures until it is killed."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests/conformance'}"}
    if failpoint is not None:
        environment["ROWTIDE_FAILPOINT"] = failpoint
    return subprocess.Popen(
        [sys.executable, "-c", _PROCESS, source.capture_dsn(), state, source.name],
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


def finish(source: MariadbSource, topic: Topic) -> None:
    """Capture what is left, in this process."""
    source.capture(TABLES, topic.log, "t").run_until_now(threading.Event())


def rows(start: int, count: int) -> str:
    return "INSERT INTO item VALUES " + ", ".join(f"({n}, 'x', {n})" for n in range(start, start + count))


def test_a_killed_stream_loses_nothing_and_repeats_nothing(
    source: MariadbSource, topic: Topic, database: str, seed: int
) -> None:
    """After kills at every place every commit is in the topic exactly once and whole, large transactions too."""
    print(f"seed {seed}")
    generator = random.Random(seed)
    finish(source, topic)
    advanced = 0
    with Traffic(source, pause=0.01) as traffic:
        for number in range(KILLS):
            with source.transaction() as session:  # larger than a piece
                session.execute(rows(100_000 * (number + 1), 7000))
            before = len(topic.records())
            place = f"{generator.choice(['before_append', 'appended', 'before_flush'])}:{generator.randint(1, 4)}"
            process = start(source, database, place if generator.random() < 0.7 else None)
            topic.wait(
                lambda before=before, process=process: len(topic.records()) > before or process.poll() is not None, "it"
            )
            end(process, generator.uniform(0.0, 0.4))
            advanced += len(topic.records()) > before
    finish(source, topic)
    assert advanced > KILLS // 2, f"seed {seed}: it gets on between kills"
    traffic.check(topic)
    large = [len(unit) for unit in topic.transactions() if len(unit) >= 5000]
    assert large == [7000] * KILLS
    assert topic.mirror("item") == source.rows(ITEM)


def test_a_killed_snapshot_goes_on(source: MariadbSource, topic: Topic, database: str) -> None:
    """Killed at its beginning, between portions and while it catches up, under writes: one unit, and equal at the end."""
    for number in range(6):
        source.execute(rows(100_000 + 2000 * number, 2000))
    with Traffic(source, pause=0.01) as traffic:
        for place in ("before_append:1", "appended:1", "before_append:2", "appended:2", "before_flush:1"):
            end(start(source, database, place), 30)
    finish(source, topic)
    assert topic.mirror("item") == source.rows(ITEM)
    assert topic.mirror("entry") == source.rows(Traffic.ENTRY)
    ends = [e.status for e in topic.events() if isinstance(e, Boundary) and e.transaction.startswith("snapshot:")]
    assert ends == ["BEGIN", "END"]
    streamed = [c.key for c in topic.changes("entry") if isinstance(c, Change) and c.op == "c"]
    assert len(streamed) == len(set(streamed))
    assert traffic.count() > 0
