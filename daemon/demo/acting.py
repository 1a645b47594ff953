"""Somebody at work in a source, while people look: transactions chosen at random, some more often than others."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from daemon.times import BusinessTime

# Returns whether there was anything to do it to.
Action = Callable[[datetime], bool]


class Acting(ABC):
    """Each call of `act` is one transaction.

    Args:
        connection: to the source, in autocommit mode.
        now: the source's wall time.
        rng: chooses what happens.
    """

    def __init__(self, connection: psycopg.Connection[Any], now: Callable[[], datetime], rng: random.Random) -> None:
        self._connection = connection
        self._now = now
        self._rng = rng
        self.done: dict[str, int] = {}

    @property
    @abstractmethod
    def actions(self) -> Sequence[tuple[Action, int]]:
        """What can happen, and how often each in proportion."""

    def act(self) -> str:
        """Do one thing. Returns its name."""
        action = self._rng.choices([a for a, _ in self.actions], [w for _, w in self.actions])[0]
        with self._connection.transaction():
            happened = action(self._now().replace(microsecond=0))
        name: str = getattr(action, "__name__", "").strip("_")
        if happened:
            self.done[name] = self.done.get(name, 0) + 1
        return name

    def _one(self, query: str, *values: Any) -> Any:
        return self._connection.execute(query, values).fetchone()


def keep_acting(
    dsn: str,
    time: BusinessTime,
    stop: threading.Event,
    make: Callable[[psycopg.Connection[Any], Callable[[], datetime], random.Random], Acting],
    *,
    rate: float,
    seed: int,
) -> None:
    """Act about `rate` times a second until stopped."""
    rng = random.Random(seed)  # noqa: S311 - sample data

    def now() -> datetime:
        return datetime.fromtimestamp(time.now_ms() / 1000, UTC).replace(tzinfo=None)

    with psycopg.connect(dsn, autocommit=True) as connection:
        acting = make(connection, now, rng)
        while not stop.wait(rng.expovariate(rate)):
            acting.act()
