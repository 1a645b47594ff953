"""Spreads instances over daemons: who leads much leaves the next instance to others for a moment.

Nothing is agreed on: each daemon counts what it leads itself and, in the state database, who else is there. A free
instance is taken at once by a daemon that leads none, later by one that leads some, and last by one that has its
part already. What is led stays where it is.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

STEP = 1.0  # seconds that an instance stays free for others, for each one led here
MOST = 4.0  # with the lease (8 s) this is how long an instance may stay without a leader: less than 15 s
_PREFIX = "rowtide daemon "


class Share:
    """What this process leads of its instances. Used by the threads that try to lead them.

    Args:
        instances: how many this process serves.
        clock: seconds that only rise.
    """

    def __init__(self, instances: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._instances = instances
        self._clock = clock
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._led = 0
        self._free_since: dict[str, float] = {}
        self.name = _PREFIX + secrets.token_hex(8)

    def present(self, connection: psycopg.Connection[Any]) -> None:
        """Let the other daemons count this one by the session."""
        connection.execute("SELECT set_config('application_name', %s, false)", [self.name])

    def led_elsewhere(self, name: str) -> None:
        """The instance has been seen with a leader."""
        self._free_since.pop(name, None)

    @contextmanager
    def turn(self, connection: psycopg.Connection[Any], name: str) -> Iterator[bool]:
        """Whether to try for the free instance now; inside, no other thread of this process does."""
        since = self._free_since.setdefault(name, self._clock())
        with self._turn:
            yield self._clock() - since >= self.hold(daemons(connection) if self._led else 1)

    def hold(self, daemons: int) -> float:
        """Seconds that an instance must have been free before this process takes it."""
        part = -(-self._instances // max(1, daemons))
        return min(self._led * STEP, MOST) if self._led < part else MOST

    def taken(self, name: str) -> None:
        """One more is led here."""
        self._free_since.pop(name, None)
        with self._counting:
            self._led += 1

    def given_back(self) -> None:
        """One less is led here."""
        with self._counting:
            self._led -= 1


def daemons(connection: psycopg.Connection[Any]) -> int:
    """How many daemons with several instances have sessions in the state database."""
    row = connection.execute(
        "SELECT count(DISTINCT application_name) FROM pg_stat_activity "
        "WHERE datname = current_database() AND starts_with(application_name, %s)",
        [_PREFIX],
    ).fetchone()
    return int(row[0]) if row else 0
