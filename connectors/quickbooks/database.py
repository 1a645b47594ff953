"""Connections to the state database for threads that talk to QuickBooks: kept, lent one at a time, replaced when broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from connectors.state import connect

Connection = psycopg.Connection[tuple[Any, ...]]


class Connections:
    """Thread-safe; as many as are used at once.

    Args:
        dsn: of the state database.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """One in autocommit mode, for this thread alone. Raises StateError where the database does not answer."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None or connection.closed:
            connection = connect(self.dsn)
        try:
            yield connection
        except BaseException:
            # Whatever was under way is not finished on a connection that somebody else gets.
            if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.close()
            self._back(connection)
            raise
        self._back(connection)

    def _back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; what is lent closes on its return."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
