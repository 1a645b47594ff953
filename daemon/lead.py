"""Leading an instance: one daemon works, the others stand by and take over within seconds.

The leader holds an advisory lock in a session of the state database that the server itself ends when it is silent
for LEASE seconds: a leader that was killed, stopped or cut off loses the lock without anybody's help. What it may
still try to commit is refused by the epoch that the next leader has raised.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog

from connectors.errors import RowtideError
from connectors.state import StateError, connect
from daemon.share import Share

log = structlog.get_logger()
LEASE = 8.0  # seconds of silence after which the server ends the leader's session
BEAT = 2.0  # seconds between signs of life: three may be lost
_TRY = 0.5  # seconds between a standby's attempts
_SPACE = 0x726F7774  # the lock's first key; the second is the instance's name, hashed
_REBUILD_SPACE = 0x72627764


class LedElsewhereError(RowtideError):
    """Another process works on the instance."""


class Term:
    """A time of leading.

    Args:
        connection: holds the lock.
        stop: ends the term, as the loss of the lock does; then `over` is set.
        waited: whether another process led when this one came.
    """

    def __init__(self, connection: psycopg.Connection[Any], stop: threading.Event, *, waited: bool) -> None:
        self.over = threading.Event()
        self.waited = waited
        self._connection = connection
        self._stop = stop
        self._left = False
        beat = contextvars.copy_context().run  # its log lines belong to the instance of this thread
        threading.Thread(target=beat, args=(self._beat,), name="lead", daemon=True).start()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                self._connection.execute("SELECT 1")
            except psycopg.Error:
                if not self._left:
                    log.warning("lead.lost")
                break
            if self._left:
                break
        self.over.set()

    @property
    def session(self) -> int:
        """The server's process id of the session that holds the lock."""
        return self._connection.info.backend_pid

    def leave(self) -> None:
        """Give the lock back."""
        self._left = True
        self._connection.close()


@contextmanager
def leading(
    dsn: str,
    name: str,
    stop: threading.Event,
    revive: Callable[[], None] | None = None,
    share: Share | None = None,
) -> Iterator[Term | None]:
    """Wait until this process leads the instance. Yields None where `stop` came first.

    A state database that does not answer is waited for as well, which is said once; `revive` starts one of our own.
    With a `share` the process leaves instances to others while it leads its part of them.
    """
    term: Term | None = None
    said = ""
    while term is None and not stop.is_set():
        try:
            connection = connect(dsn)
        except StateError as error:
            if said != error.message:
                log.warning("lead.waiting", instance=name, reason=error.message)
                said = error.message
            if revive is not None:
                revive()
            stop.wait(_TRY)
            continue
        term = _acquire(connection, name, stop, share)
    try:
        yield term
    finally:
        if term is not None:
            term.leave()
            if share is not None:
                share.given_back()


def _acquire(connection: psycopg.Connection[Any], name: str, stop: threading.Event, share: Share | None) -> Term | None:
    """Try for the lock until it is ours (a Term), or until stopped or the database is gone (None)."""
    said = False
    taken = False
    try:
        if share is not None:
            share.present(connection)
        while not stop.is_set():
            taken = _take(connection, name, share)
            if taken:
                connection.execute(f"SET idle_session_timeout = {round(LEASE * 1000)}")
                _evict(connection, name)
                return Term(connection, stop, waited=said)
            if not said and is_led(connection, name):
                log.info("daemon.standing_by", instance=name)
                said = True
            stop.wait(_TRY)
    except psycopg.OperationalError:
        log.warning("lead.waiting", instance=name, reason="the state database closed the connection")
        if taken and share is not None:
            share.given_back()
    connection.close()
    return None


def _take(connection: psycopg.Connection[Any], name: str, share: Share | None) -> bool:
    if share is None:
        return try_lead(connection, name)
    if is_led(connection, name):
        share.led_elsewhere(name)
        return False
    with share.turn(connection, name) as granted:
        if granted and try_lead(connection, name):
            share.taken(name)
            return True
    return False


def try_lead(connection: psycopg.Connection[Any], name: str) -> bool:
    """Take the instance's lock in this session if nobody has it."""
    return _locked(connection, _SPACE, name)


def is_led(connection: psycopg.Connection[Any], name: str) -> bool:
    """Whether some process works on the instance."""
    return _is_locked(connection, _SPACE, name)


@contextmanager
def rebuilding(dsn: str, name: str) -> Iterator[None]:
    """Hold the right to rebuild the instance. Raises LedElsewhereError where another process has it."""
    with connect(dsn) as connection:
        if not _locked(connection, _REBUILD_SPACE, name):
            raise LedElsewhereError(
                f"Another process is rebuilding {name}.", hint="Wait for it to end; see `rowtide status`."
            )
        yield


def is_rebuilt(connection: psycopg.Connection[Any], name: str) -> bool:
    """Whether a rebuild of the instance is under way."""
    return _is_locked(connection, _REBUILD_SPACE, name)


def _locked(connection: psycopg.Connection[Any], space: int, name: str) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [space, name]).fetchone()
    return bool(row and row[0])


def is_led_by(connection: psycopg.Connection[Any], name: str, session: int) -> bool:
    """Whether that session of the state database still leads the instance."""
    return _is_locked(connection, _SPACE, name, session)


def _is_locked(connection: psycopg.Connection[Any], space: int, name: str, session: int | None = None) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database()) AND classid::bigint = %s "
        "AND objid::bigint = hashtext(%s)::bigint & 4294967295 AND pid = coalesce(%s, pid))",
        [space, name, session],
    ).fetchone()
    return bool(row and row[0])


def writer_name(name: str) -> str:
    """The application_name of the session that writes the instance."""
    return f"rowtide writer {name}"[:63]


def capture_name(name: str) -> str:
    """The application_name of the sessions by which the instance's capture appends to the embedded log."""
    return f"rowtide capture {name}"[:63]


def _evict(connection: psycopg.Connection[Any], name: str) -> None:
    """End the sessions of a former leader, which may hold a transaction open or be about to append.

    Whoever holds the lock is the only one who may have such sessions, and has not opened them yet.
    """
    ended = connection.execute(
        "SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity WHERE application_name IN (%s, %s) "
        "AND datname = current_database() AND pid <> pg_backend_pid()",
        [writer_name(name), capture_name(name)],
    ).fetchone()
    if ended and ended[0]:
        log.warning("lead.ended_former_sessions", instance=name, sessions=ended[0])
