"""One session on the customers of an instance in the state database, and the claims that end with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from connectors.state import connect
from consumers.push import CustomerPush

Connection = psycopg.Connection[tuple[Any, ...]]
CLAIM_SPACE = 0x72776375  # of the records' locks
_IDLE = 600_000  # ms of silence after which the server ends a session that may hold claims


@dataclass
class CustomerSession:
    """One session on an instance's customers. Safe to use from several threads; each call is one transaction.

    Args:
        dsn: of the state database.
        instance: whose models are read.
        push: the models.
        realm_id: the company.
        now: seconds since 1970.
    """

    dsn: str
    instance: str
    push: CustomerPush
    realm_id: str
    now: Callable[[], float]
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The session. Claims live as long as it does."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self.dsn)
            self._connection.execute(f"SET idle_session_timeout = {_IDLE}")
        return self._connection

    def close(self) -> None:
        """End the session, and with it every claim."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._lock, self.connection.transaction():
            yield self.connection

    def _take(self, records: Sequence[str]) -> list[str]:
        """Claim records. Returns those that nobody else has."""
        rows = self.connection.execute(
            "SELECT r FROM unnest(%s::text[]) AS r WHERE pg_try_advisory_lock(%s, hashtext(%s || r))",
            [list(records), CLAIM_SPACE, self._claims],
        ).fetchall()
        return [row[0] for row in rows]

    def release(self, records: Sequence[str]) -> None:
        """Give claims back."""
        with self._lock:
            if records and self._connection is not None and not self._connection.closed:
                self._connection.execute(
                    "SELECT pg_advisory_unlock(%s, hashtext(%s || r)) FROM unnest(%s::text[]) AS r",
                    [CLAIM_SPACE, self._claims, list(records)],
                )

    @property
    def _claims(self) -> str:
        return f"{self.realm_id}/{self.instance}/"
