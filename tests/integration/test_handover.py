"""The embedded log's reader takes what its own process has appended without asking the server; against a real one."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psycopg
import pytest

from connectors.log import FencedError, Message, Record, TopicPartition, appending
from connectors.log.appending import CHANNEL
from connectors.log.embedded import EmbeddedLog
from connectors.log.handover import Handover, Row
from connectors.state import migrate

TOPICS = ("a", "b")
PLACES = {TopicPartition("a", 0): 0, TopicPartition("a", 1): 0}


@pytest.fixture
def dsn(database: str) -> str:
    migrate(database)
    return database


@pytest.fixture
def log(dsn: str) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(dsn)
    for topic in TOPICS:
        opened.create_topic(topic, 2)
    yield opened
    opened.close()


def row(number: int, size: int = 1) -> Row:
    return number, 1, 0, number, 0, None, b"x" * size


def drain(log: EmbeddedLog, positions: dict[TopicPartition, int], limit: int = 1000) -> list[Record]:
    found: list[Record] = []
    while records := log.read(positions, limit=limit):
        found += records
        for record in records:
            positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
    return found


def test_appends_of_several_processes_come_in_their_order(dsn: str, log: EmbeddedLog, seed: int) -> None:
    """However own and foreign appends, refused ones, topics, sizes and reads alternate: what comes is what the log has."""
    with ExitStack() as stack:
        other, fresh = EmbeddedLog(dsn), EmbeddedLog(dsn)
        stack.callback(other.close)
        stack.callback(fresh.close)
        print(f"seed {seed}")
        rng, positions, found, number = random.Random(seed), dict(PLACES), [], 0
        for _ in range(300):
            for _ in range(rng.randint(1, 3)):
                messages = [
                    Message(rng.choice([None, b"k"]), b"%d" % n, n, rng.randint(0, 1))
                    for n in range(number, number + rng.choice([0, 1, 1, 2, 5, 250]))
                ]
                number += len(messages)
                writer = rng.choice([log, log, other])
                if rng.random() < 0.1:
                    with pytest.raises(FencedError):
                        writer.append("a", messages, source_position="s", expect="never")
                writer.append(rng.choice(["a", "a", "b"]), messages)
            if rng.random() < 0.8:
                found += drain(log, positions, rng.choice([1, 3, 1000]))
        found += drain(log, positions)
        assert drain(fresh, dict(PLACES)) == found
        assert len(found) > 100


def test_a_reader_does_not_wait_for_the_disk(dsn: str, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended is read, here and in other processes, before `append` returns; that waits for the disk."""
    monkeypatch.setattr(appending, "TO_DISK", "SELECT pg_advisory_xact_lock(7)")
    with ExitStack() as stack:
        disk = stack.enter_context(psycopg.connect(dsn))
        other = EmbeddedLog(dsn)
        stack.callback(other.close)
        positions = dict(PLACES)
        assert not drain(log, positions)
        disk.execute("SELECT pg_advisory_xact_lock(7)")
        thread = threading.Thread(target=log.append, args=("a", [Message(None, b"1", 1)]))
        thread.start()
        found: list[Record] = []
        while not found:
            assert log.wait(30)
            found = drain(log, positions)
        assert drain(other, dict(PLACES)) == found
        assert thread.is_alive()
        disk.rollback()
        thread.join(30)
        assert not thread.is_alive()


def test_own_appends_are_not_asked_for(log: EmbeddedLog) -> None:
    """A reader at the end is woken by its own process, and given the records though the server does not answer it."""
    positions = dict(PLACES)
    log.append("a", [Message(b"k", b"v", 1)])
    assert len(drain(log, positions)) == 1
    while log.wait(0.01):
        pass
    thread = threading.Thread(target=log.append, args=("a", [Message(None, b"1", 2), Message(b"k", None, 3, 1)]))
    thread.start()
    assert log.wait(30)
    thread.join(30)
    assert log._reader is not None
    with log._reader.lock:
        found = []
        asking = threading.Thread(target=lambda: found.extend(log.read(positions, limit=9)), daemon=True)
        asking.start()
        asking.join(30)
        assert [(r.partition, r.offset, r.ts_ms, r.key, r.value) for r in found] == [
            (0, 1, 2, None, b"1"),
            (1, 0, 3, b"k", None),
        ]


@pytest.mark.parametrize("appends", [True, False], ids=["appends-too", "only-reads"])
def test_who_listens_is_told_by_other_processes(dsn: str, log: EmbeddedLog, appends: bool) -> None:
    """Also one whose connections were lost, once it has new ones."""
    with ExitStack() as stack, psycopg.connect(dsn, autocommit=True) as admin:
        other = EmbeddedLog(dsn)
        stack.callback(other.close)
        for _ in range(2):
            if appends:
                other.append("b", [Message(None, b"own", 1)])
            while other.wait(0.01):
                pass
            appending = threading.Thread(target=log.append, args=("a", [Message(None, b"1", 2)]))
            appending.start()
            assert other.wait(30)
            appending.join(30)
            pids = [c.info.backend_pid for c in (other._writer, other._listener._connection) if c is not None]
            admin.execute("SELECT pg_terminate_backend(pid, 30000) FROM unnest(%s) AS p(pid)", [pids])
            with suppress(psycopg.OperationalError):
                other.wait(30)
            with suppress(psycopg.OperationalError):
                other.append("b", [Message(None, b"lost", 1)])


def test_nobody_is_told_where_nobody_listens(dsn: str, log: EmbeddedLog) -> None:
    """A notification costs much of a small append: a process that has everything to itself sends none."""
    with psycopg.connect(dsn, autocommit=True) as hearing:
        hearing.execute(f"LISTEN {CHANNEL}")  # without the listeners' lock, so that nobody sees it
        log.append("a", [Message(None, b"1", 1)])
        while log.wait(0.01):
            pass
        log.append("a", [Message(None, b"2", 2)])
        assert log.wait(30)
        other = EmbeddedLog(dsn)
        other.wait(0.01)
        log.append("a", [Message(None, b"3", 3)])
        told = [*hearing.notifies(timeout=30, stop_after=1), *hearing.notifies(timeout=0.01)]
        assert len(told) == 1
        other.close()


def test_what_has_a_hole_is_not_handed_over() -> None:
    """Rows are given only to who has read up to the one before them, and only without a hole between them."""
    handover = Handover()
    handover.put([row(4), row(5)])
    handover.put([row(6)])
    assert handover.heard()
    assert not handover.heard()
    assert handover.take(3) == [row(4), row(5), row(6)]
    assert handover.take(3) == []
    handover.put([row(7), row(8)])
    assert handover.take(7) == [row(8)]
    handover.put([row(9)])
    assert handover.take(7) == []
    handover.put([row(9)])
    handover.put([])  # nobody knows what came here
    handover.put([row(11)])
    assert handover.take(8) == []
    handover.put([row(12), row(14)])
    assert handover.take(11) == []
    handover.put([row(12)])
    handover.put([row(13, 2_000_000)])
    assert handover.take(11) == []
    handover.put([row(number) for number in range(12, 900)])
    handover.put([row(number) for number in range(900, 1100)])
    assert handover.take(11) == []
    handover.put([row(20)])
    assert handover.take(20) == []
    handover.put([row(21)])
    handover.forget()
    assert handover.take(20) == []
    handover.close()
    handover.close()
