"""Two daemons on one configuration: one works, the other takes over, and the first can no longer commit."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from counting import TAKEOVER, append
from daemons import Daemon, Daemons, until
from links import Proxy
from psycopg.conninfo import conninfo_to_dict

from connectors.embedded import EmbeddedPostgres
from daemon import lead


def total(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        return int(connection.execute("SELECT coalesce(sum(n), 0) FROM counted.total").fetchone()[0])


def epoch(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        return int(connection.execute("SELECT epoch FROM rowtide.instance WHERE name = 'counted'").fetchone()[0])


@pytest.fixture
def pair(start: Daemons, counted: Path, database: str) -> tuple[Daemon, Daemon]:
    first = start("--domain", counted, "run")
    first.wait_for("daemon.leading")
    append(database, "counted", 0)
    until(lambda: total(database) == 1)
    second = start("--domain", counted, "run")
    second.wait_for("daemon.standing_by")
    return first, second


def test_a_killed_leader_is_replaced(pair: tuple[Daemon, Daemon], database: str) -> None:
    """After SIGKILL the standby leads within 15 s and takes in what came meanwhile, once."""
    first, second = pair
    first.signal(signal.SIGKILL)
    began = time.monotonic()
    append(database, "counted", 1, 10)
    second.wait_for("daemon.leading")
    assert time.monotonic() - began < TAKEOVER
    until(lambda: total(database) == 11)


def test_a_clean_stop_hands_over_at_once(pair: tuple[Daemon, Daemon], database: str) -> None:
    """SIGTERM ends the leader with code 0, the standby goes on; a standby too stops within five seconds."""
    first, second = pair
    assert first.stop() == 0
    second.wait_for("daemon.leading")
    append(database, "counted", 1, 5)
    until(lambda: total(database) == 6)
    assert second.stop() == 0


def test_a_paused_leader_is_replaced_and_can_no_longer_commit(
    pair: tuple[Daemon, Daemon], database: str, start: Daemons
) -> None:
    """After SIGSTOP the standby leads within 15 s; the first one, woken, commits nothing and stands by."""
    first, second = pair
    first.signal(signal.SIGSTOP)
    began = time.monotonic()
    append(database, "counted", 1, 10)
    second.wait_for("daemon.leading")
    assert time.monotonic() - began < TAKEOVER
    until(lambda: total(database) == 11)
    led = epoch(database)
    first.signal(signal.SIGCONT)
    first.wait_for("daemon.standing_by")
    append(database, "counted", 11, 10)
    until(lambda: total(database) == 21)
    assert epoch(database) == led, "the woken daemon has not taken the lead back"
    second.signal(signal.SIGKILL)
    first.wait_for("daemon.leading")
    append(database, "counted", 21, 10)
    until(lambda: total(database) == 31)


def test_a_leader_paused_in_the_middle_of_a_transaction_holds_nobody_up(
    start: Daemons, counted: Path, database: str
) -> None:
    """Its open transaction is ended with its session, though it holds the instance's row."""
    first = start("--domain", counted, "run")
    first.wait_for("daemon.leading")
    second = start("--domain", counted, "run")
    second.wait_for("daemon.standing_by")
    with psycopg.connect(database, autocommit=True) as connection:
        paused = False
        stop = threading.Event()

        def load() -> None:
            number = 0
            while not stop.is_set():
                append(database, "counted", number, 200)
                number += 200

        thread = threading.Thread(target=load)
        thread.start()
        try:
            until(lambda: _stop_in_transaction(connection, first), every=0.001)
            paused = True
        finally:
            stop.set()
            thread.join()
        began = time.monotonic()
        second.wait_for("daemon.leading")
        assert paused
        assert time.monotonic() - began < TAKEOVER
        row = connection.execute("SELECT next_offset FROM rowtide.log_partition ORDER BY next_offset DESC").fetchone()
        until(lambda: total(database) == row[0])


def _stop_in_transaction(connection: psycopg.Connection[Any], daemon: Daemon) -> bool:
    """Stop the process; whether that met it with the instance's row locked. If not, it goes on."""
    daemon.signal(signal.SIGSTOP)
    until(lambda: psutil.Process(daemon.process.pid).status() == psutil.STATUS_STOPPED, every=0.001)
    held = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in transaction%%'",
        [lead.writer_name("counted")],
    ).fetchone()
    if held[0]:
        return True
    daemon.signal(signal.SIGCONT)
    return False


def test_a_leader_cut_off_from_the_state_database_is_replaced_and_can_no_longer_commit(
    start: Daemons, counted: Path, database: str, server: EmbeddedPostgres
) -> None:
    """Its network is gone in the middle of work: the standby leads within 15 s; back again, the first commits nothing."""
    with Proxy(server.folder / ".s.PGSQL.5432") as link:
        name = conninfo_to_dict(database)["dbname"]
        first = start(
            "--domain", counted, "run", ROWTIDE_STATE__DSN=f"postgresql://postgres@127.0.0.1:{link.port}/{name}"
        )
        first.wait_for("daemon.leading")
        second = start("--domain", counted, "run")
        second.wait_for("daemon.standing_by")
        appended, stop = [0], threading.Event()

        def load() -> None:
            while not stop.is_set():
                append(database, "counted", appended[0], 50)
                appended[0] += 50

        thread = threading.Thread(target=load)
        thread.start()
        try:
            until(lambda: total(database) > 500)
            link.freeze()
            began = time.monotonic()
            second.wait_for("daemon.leading")
            assert time.monotonic() - began < TAKEOVER
            seen = total(database)
            until(lambda: total(database) > seen + 200)
            led = epoch(database)
            link.thaw()
            first.wait_for("daemon.standing_by")
            seen = total(database)
            until(lambda: total(database) > seen + 200)
        finally:
            stop.set()
            thread.join()
        until(lambda: total(database) == appended[0])
        assert epoch(database) == led, "the daemon that was cut off has not taken the lead back"
        second.signal(signal.SIGKILL)
        first.wait_for("daemon.leading")
        append(database, "counted", appended[0], 10)
        until(lambda: total(database) == appended[0] + 10)


def test_a_state_database_that_restarts_is_waited_for(start: Daemons, counted: Path, tmp_path: Path) -> None:
    """A leader that loses its database goes on when it is back, without a person."""
    folder = Path(tempfile.mkdtemp(prefix="rowtide-test-"))
    try:
        with EmbeddedPostgres(folder / "pg") as server:
            dsn = server.ensure_database("state")
            daemon = start("--domain", counted, "run", ROWTIDE_STATE__DSN=dsn)
            daemon.wait_for("daemon.leading")
            append(dsn, "counted", 0)
            until(lambda: total(dsn) == 1)
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'state'")
            server.restart()
            daemon.wait_for("daemon.leading")
            append(dsn, "counted", 1, 4)
            until(lambda: total(dsn) == 5)
            assert daemon.stop() == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_until_idle_does_not_compete_with_a_daemon(pair: tuple[Daemon, Daemon], start: Daemons, counted: Path) -> None:
    """`run --until-idle` beside a daemon is refused with the reason; status says running."""
    refused = start("--domain", counted, "run", "--until-idle")
    assert refused.ended() == 1
    assert "Another daemon works on counted" in "".join(refused.lines)
    looked = start("--domain", counted, "status", "--json")
    assert looked.ended() == 0
    assert '"state": "running"' in looked.output()
