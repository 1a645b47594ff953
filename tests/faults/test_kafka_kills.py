"""Kills and pauses of the broker, and kills of a capture that appends: nothing is lost and nothing comes twice."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from connectors.log import FencedError, LogUnreachableError, Message, TopicPartition
from connectors.log.kafka import KafkaLog, cluster
from deploy.stack.kafka import KafkaBroker

DEADLINE = 120.0


@pytest.fixture(scope="module")
def fragile(kafka_jars: None) -> Iterator[KafkaBroker]:
    """A broker of our own: killing the one of all tests would disturb them."""
    with KafkaBroker() as running:
        yield running


class Traffic:
    """A capture that appends and a reader that follows, each in a thread, each going on by itself after an outage.

    Args:
        patience: seconds after which a log gives up: short, so that giving up and going on is what is tested.
    """

    def __init__(self, servers: str, topic: str, *, patience: float) -> None:
        self._logs = [KafkaLog(servers, patience=patience) for _ in range(2)]
        self._topic = topic
        self._changed = threading.Condition()
        self._ending = self._appended_all = False
        self._threads = [
            threading.Thread(target=self._work, args=(work, log), name=work.__name__, daemon=True)
            for work, log in zip((self._append, self._read), self._logs, strict=True)
        ]
        self.appended = 0
        self.seen: list[int] = []
        self.outages = {"append": 0, "read": 0}
        self.errors: list[Exception] = []
        for thread in self._threads:
            thread.start()

    def _work(self, work, log: KafkaLog) -> None:
        try:
            while not work(log):
                pass
        except Exception as error:  # noqa: BLE001 - told by the test
            with self._changed:
                self.errors.append(error)
                self._changed.notify_all()

    def _append(self, log: KafkaLog) -> bool:
        try:
            done = int(log.source_position(self._topic) or 0)
            while not self._ending:
                following = done + 1 + done % 5
                messages = [Message(None, b"%d" % n, 1) for n in range(done, following)]
                log.append(self._topic, messages, source_position=str(following))
                done = following
                self._tell(appended=done)
        except (LogUnreachableError, FencedError):
            # What was asked of a broker that did not answer is answered later: the name may be taken by an attempt that was
            # given up. As the daemon does, ask where the topic stands and go on.
            self._tell(outage="append")
            return False
        return True

    def _read(self, log: KafkaLog) -> bool:
        positions = {TopicPartition(self._topic, 0): getattr(self, "_position", 0)}
        try:
            while not (self._appended_all and len(self.seen) >= self.appended):
                records = log.read(positions, limit=100)
                for record in records:
                    self._position = record.offset + 1
                    positions[TopicPartition(self._topic, 0)] = self._position
                self._tell(seen=[int(record.value or b"") for record in records])
                if not records:
                    log.wait(0.05)
        except LogUnreachableError:
            self._tell(outage="read")
            return False
        return True

    def _tell(self, *, appended: int | None = None, seen: list[int] | None = None, outage: str | None = None) -> None:
        with self._changed:
            self.appended = self.appended if appended is None else appended
            self.seen += seen or []
            if outage is not None:
                self.outages[outage] += 1
            self._changed.notify_all()

    def until(self, reached) -> None:
        """Wait until the condition holds; fails when a thread failed or time is up."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.errors or reached(), timeout=DEADLINE):
                frames = sys._current_frames()
                stacks = {thread.name: frames.get(thread.ident or 0) for thread in self._threads}
                raise AssertionError(
                    "\n".join(
                        f"{name} stands at:\n{''.join(traceback.format_stack(s))}" for name, s in stacks.items() if s
                    )
                )
        assert self.errors == []

    def progress(self, count: int) -> None:
        """Wait until so many more numbers were appended and read."""
        appended, seen = self.appended + count, len(self.seen) + count
        self.until(lambda: self.appended >= appended and len(self.seen) >= seen)

    def end(self) -> None:
        """Stop appending, and read what is left."""
        self._ending = True
        for thread in self._threads:  # first the one that appends: what it is at may still count
            thread.join(timeout=DEADLINE)
            self._appended_all = True
        for log in self._logs:
            log.close()
        assert self.errors == []
        assert not any(thread.is_alive() for thread in self._threads)


@pytest.fixture
def topic(fragile: KafkaBroker) -> str:
    name = f"k-{uuid.uuid4().hex[:12]}"
    log = KafkaLog(fragile.servers, patience=30)
    log.create_topic(name)
    log.close()
    return name


def test_a_killed_broker(fragile: KafkaBroker, topic: str) -> None:
    """The broker is killed twice while a capture appends and a reader reads; both go on with the next number.

    One outage is shorter than their patience, so that one call outlives it; one is longer.
    """
    traffic = Traffic(fragile.servers, topic, patience=5)
    try:
        traffic.progress(50)
        fragile.kill()
        fragile.start()
        traffic.progress(50)
        fragile.kill()
        before = dict(traffic.outages)
        traffic.until(lambda: all(traffic.outages[who] > before[who] for who in before))
        fragile.start()
        traffic.progress(50)
    finally:
        traffic.end()
    assert traffic.seen == list(range(traffic.appended))


def test_a_paused_broker(fragile: KafkaBroker, topic: str) -> None:
    """A broker that neither answers nor hangs up, for longer than patience: told, and all goes on afterwards."""
    traffic = Traffic(fragile.servers, topic, patience=3)
    try:
        traffic.progress(50)
        fragile.pause()
        try:
            traffic.until(lambda: all(traffic.outages.values()))
        finally:
            fragile.resume()
        traffic.progress(50)
    finally:
        traffic.end()
    assert traffic.seen == list(range(traffic.appended))


class Forgetful(AdminClient):
    """Of these clients the first never answers about topics, as the library's at times after an outage."""

    made = lost = 0

    def __init__(self, *settings: Any, **more: Any) -> None:
        super().__init__(*settings, **more)
        Forgetful.made += 1
        self._is_first = Forgetful.made == 1

    def describe_topics(self, *asked: Any, **more: Any) -> dict[str, Future[Any]]:
        found = super().describe_topics(*asked, **more)
        if not self._is_first:
            return found
        Forgetful.lost += 1
        return {name: Future() for name in found}


def test_a_request_that_the_client_loses(broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked anew by another client; the one that has lost it is asked nothing more."""
    monkeypatch.setattr(cluster, "AdminClient", Forgetful)
    monkeypatch.setattr(cluster, "_LOST", 0.1)
    topic = f"k-{uuid.uuid4().hex[:12]}"
    log = KafkaLog(broker.servers, patience=30)
    log.create_topic(topic)
    assert log.append(topic, [Message(None, b"1", 1)], source_position="1") == 1
    assert log.source_position(topic) == "1"
    # There may be a third: a topic that is just made has its leader made known in steps, which renews the client too.
    assert Forgetful.lost == 1
    log.close()


def test_a_killed_capture(broker: KafkaBroker, seed: int) -> None:
    """A capture killed in the middle of its appends, again and again: every number is in the topic once, in order."""
    print(f"ROWTIDE_SEED={seed}")
    choose = random.Random(seed)
    count, topic = 5000, f"k-{uuid.uuid4().hex[:12]}"
    log = KafkaLog(broker.servers, patience=60)
    log.create_topic(topic)
    command = [sys.executable, str(Path(__file__).with_name("appender.py")), broker.servers, topic, str(count)]
    kills = 0
    for attempt in range(7):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert process.stdout is not None
        stop = choose.randrange(1, 12) if attempt < 6 else None
        for lines, line in enumerate(process.stdout, start=1):
            if lines == stop and line.strip() != "done":
                threading.Event().wait(choose.random() * 0.03)  # where in the append it dies is what is random
                process.kill()
                kills += 1
                break
        process.stdout.close()
        process.wait(timeout=60)
    assert process.returncode == 0
    assert kills >= 3
    positions, found = {TopicPartition(topic, 0): 0}, []
    deadline = time.monotonic() + DEADLINE
    while len(found) < count and time.monotonic() < deadline:
        for record in log.read(positions, limit=1000):
            found.append(int(record.value or b""))
            positions[TopicPartition(topic, 0)] = record.offset + 1
    assert found == list(range(count))
    assert list(log.read(positions, limit=10)) == []
    assert log.source_position(topic) == str(count)
    log.close()
