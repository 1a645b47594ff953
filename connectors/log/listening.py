"""Waiting for appends to the embedded log: the server tells of other processes' ones, a signal of our own."""

from __future__ import annotations

import math
import select
import threading
import time
from typing import Any

import psycopg

from connectors.log.appending import CHANNEL
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

    def wait(self, timeout: float, own: int | None) -> bool:
        """Block until something may have been appended (True) or `timeout` seconds have passed (False).

        `own` is the number of the server's process for the connection that this process appends by: the server tells of
        that one's appends too, and the handover has done so before. Raises psycopg.OperationalError.
        """
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._dsn, autocommit=True)
                self._connection.execute(f"LISTEN {CHANNEL}")
                return True  # what was appended before listening began notified nobody
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
