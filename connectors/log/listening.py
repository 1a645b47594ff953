"""Waiting for appends to the embedded log: the server tells of other processes' ones, a signal of our own."""

from __future__ import annotations

import math
import select
import threading
import time
from typing import Any

import psycopg

from connectors.log.appending import CHANNEL, LISTENERS_LOCK
from connectors.log.handover import Handover


class Listener:
    """Waits on a connection of its own, which begins with the first wait.

    Args:
        dsn: of the state database.
        handover: whose signal tells of this process's appends.
    """

    def __init__(self, dsn: str, handover: Handover) -> None:
        self._dsn = dsn
        self._handover = handover
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._locked: bool | None = None  # whether the listeners' lock is held here; None: just connected

    def wait(self, timeout: float, own: int | None) -> bool:
        """Block until something may have been appended (True) or `timeout` seconds have passed (False).

        `own` is the number of the server's process for the connection that this process appends by: the server tells of
        that one's appends too, where others listen, and the handover has done so before. That connection holds the
        listeners' lock; where there is none this one does. Raises psycopg.OperationalError.
        """
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection, self._locked = psycopg.connect(self._dsn, autocommit=True), None
                self._connection.execute(f"LISTEN {CHANNEL}")
            if self._locked != (own is None):
                self._hold(self._connection, own is None)
                return True  # who appended before this began notified nobody
            deadline = time.monotonic() + timeout
            told = select.poll()
            told.register(self._handover, select.POLLIN)
            told.register(self._connection.pgconn.socket, select.POLLIN)
            while not self._heard(self._connection, own):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                told.poll(math.ceil(remaining * 1000))
        return True

    def _hold(self, connection: psycopg.Connection[tuple[Any, ...]], wanted: bool) -> None:
        """Take the listeners' lock, or give it back."""
        if wanted or self._locked:
            verb = "lock" if wanted else "unlock"
            connection.execute(f"SELECT pg_advisory_{verb}_shared(%s)", [LISTENERS_LOCK])
        self._locked = wanted

    def _heard(self, connection: psycopg.Connection[tuple[Any, ...]], own: int | None) -> bool:
        found = self._handover.heard()
        connection.pgconn.consume_input()
        while (told := connection.pgconn.notifies()) is not None:
            found = found or told.be_pid != own
        return found

    def close(self) -> None:
        """Release the connection."""
        if self._connection is not None:
            self._connection.close()
