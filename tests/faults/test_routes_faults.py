"""Servers and links of the whole way fail under writes: nothing is lost, nothing is there twice, nobody has to come."""

from __future__ import annotations

import json
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import until
from routes_chain import Chain, Writer, chain

from connectors.embedded import EmbeddedPostgres
from connectors.log import Message, TopicPartition
from connectors.log.kafka import KafkaLog
from connectors.state import migrate
from daemon.app import open_app
from daemon.service import serve
from daemon.settings import load_settings
from deploy.stack.mariadb import MariaDB

MEMORY = 300 * 1024 * 1024
TWICE = 0.3  # of the records


@pytest.fixture(scope="module")
def way(kafka_jars: None, mariadb: MariaDB) -> Iterator[Chain]:
    with chain(mariadb) as made:
        yield made


@pytest.fixture
def writer(way: Chain) -> Iterator[Writer]:
    """Writes while a test runs; behind it every entry is in the topic once, and in the tables."""
    present = [entry for entry in way.source_entries() if entry < 1_000_000]
    with Writer(way.mariadb, way.name, first=max(present, default=0)) as made:
        until(lambda: made.last)
        way.reaches(made.last)
        yield made
    entries = way.source_entries()
    until(lambda: way.rows()[0] == len(entries))
    assert sorted(way.topic_entries()) == entries
    assert way.rows()[2]


def goes_on(way: Chain, writer: Writer) -> None:
    """What is committed from now on arrives."""
    committed = writer.last
    until(lambda: writer.last > committed)
    way.reaches(writer.last)


def test_a_broker_that_is_killed_and_started_again(way: Chain, writer: Writer) -> None:
    """Appends of unknown outcome are neither lost nor repeated; meanwhile status names the log."""
    way.broker.kill()
    status = way.status()
    assert status["state"] == "degraded"
    assert "Kafka" in status["reason"]
    way.broker.start()
    goes_on(way, writer)
    until(lambda: way.status()["state"] == "running")


def test_a_cut_between_daemon_and_broker(way: Chain, writer: Writer) -> None:
    """Connections break in the middle of transactions."""
    for _ in range(3):
        way.broker_link.cut()
        committed = writer.last
        until(lambda committed=committed: writer.last > committed + 10)
        way.broker_link.heal()
        goes_on(way, writer)


def test_a_source_that_is_killed_and_started_again(way: Chain, writer: Writer) -> None:
    """The binlog goes on in another file; what was committed before is read to its end."""
    way.mariadb.kill()
    status = way.status()
    assert (status["state"], status["source"]["reachable"]) == ("degraded", False)
    way.mariadb.start()
    goes_on(way, writer)


def test_a_cut_between_daemon_and_source(way: Chain, writer: Writer) -> None:
    """The stream is taken up where the log ends; meanwhile status says that the source does not answer."""
    way.source_link.cut()
    assert way.status()["source"]["reachable"] is False
    way.source_link.heal()
    goes_on(way, writer)
    assert way.status()["source"]["reachable"] is True


def test_a_state_database_that_is_restarted(way: Chain, writer: Writer) -> None:
    """Positions and tables are where they were; the daemon leads again by itself."""
    way.state.restart()
    goes_on(way, writer)


def test_a_paused_daemon_is_replaced_and_appends_nothing_more(way: Chain, writer: Writer) -> None:
    """What it had read before the pause was appended by the other: awake, it is fenced and stands by."""
    second = way.start("--domain", way.folder, "run")
    second.wait_for("daemon.standing_by")
    first = way.daemon
    first.signal(signal.SIGSTOP)
    second.wait_for("daemon.leading")
    goes_on(way, writer)
    first.signal(signal.SIGCONT)
    first.wait_for("daemon.standing_by")
    goes_on(way, writer)
    assert first.stop() == 0
    way.daemon = second


def test_a_huge_transaction(way: Chain, huge: int) -> None:
    """All of it or nothing is visible, in memory that does not grow with it: `--huge 1000000` takes a million rows."""
    before = way.rows()[0]
    patience = 60 + huge / 2000
    way.mariadb.execute(
        "SET autocommit = 0",
        f"INSERT INTO entry SELECT 1000000 + seq, seq % 2 FROM seq_1_to_{huge}",
        f"UPDATE account SET amount = amount + {huge // 2} WHERE id IN (0, 1)",
        "COMMIT",
        database=way.name,
    )
    seen: set[int] = set()

    def done() -> bool:
        count, _, whole = way.rows()
        assert whole
        seen.add(count)
        return count == before + huge

    until(done, patience)
    assert seen <= {before, before + huge}
    peak = most_memory(way.daemon.process.pid)
    print(f"{huge} rows, at most {peak >> 20} MiB")
    assert peak < MEMORY
    assert sorted(way.topic_entries()) == way.source_entries()


def most_memory(pid: int) -> int:
    """The most bytes that a process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_topic_in_which_much_is_there_twice(way: Chain, server: EmbeddedPostgres, seed: int) -> None:
    """Runs of transactions come again, as from a connector that was killed, at least 30 % of the records in all."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    log = KafkaLog(way.broker.servers)
    units: list[list[Message]] = [[]]
    at = {TopicPartition(way.name, 0): 0}
    while records := log.read(at, limit=10_000):
        at = {TopicPartition(way.name, 0): records[-1].offset + 1}
        for record in records:
            units[-1].append(Message(record.key, record.value, record.ts_ms))
            if b'"END"' in (record.value or b""):
                units.append([])
    repeated, messages, twice = "twice_" + way.name, list[Message](), set[int]()
    total = sum(len(unit) for unit in units)
    again, told = 0, 0
    for number, unit in enumerate(units):
        messages += unit
        told += len(unit)
        if number > 20 and (again < TWICE * told or rng.random() < 0.05):
            begin = number - rng.randrange(1, 10)
            messages += [message for earlier in units[begin : number + 1] for message in earlier]
            twice |= set(range(begin, number + 1))
            again = sum(len(units[n]) for n in twice)
    assert again >= TWICE * total
    print(f"{again} of {total} records came twice")
    folder = shutil.copytree(way.folder, way.folder.parent / repeated)
    log.create_topic(repeated)
    log.append(repeated, messages)
    log.close()
    dsn = server.ensure_database(repeated)
    migrate(dsn)
    environment = {**way.environment, "ROWTIDE_STATE__DSN": dsn, "ROWTIDE_SOURCE__KIND": "none"}
    with open_app(load_settings(None, environment, {"domain": str(folder)}).settings) as app:
        serve(app, threading.Event(), until_idle=True)
        assert all(check.clean for check in app.verify())
        assert app.status()["parked"] == 0
        query = "SELECT * FROM account_entries ORDER BY id"
        found = app.query("", query).rows
    looked = way.start("--domain", way.folder, "query", "--sql", query, "--json")
    assert looked.ended() == 0
    assert found == [tuple(row.values()) for row in json.loads(looked.output())]
