"""The limits of the API, in windows that slide, and what was seen of them.

A request is counted at the moment it arrives. One that is refused is not counted against the limit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """How many requests are let through; None lets all through.

    Attributes:
        requests_per_minute: of a company.
        requests_per_second: of a company by one app.
        batches_per_minute: of a company by one app.
        batches_per_minute_of_all: of a company by all apps.
        concurrent: of a company at the same time.
        penalty_seconds: how long every request is refused after one was.
    """

    requests_per_minute: int | None = 500
    requests_per_second: int | None = 10
    batches_per_minute: int | None = 40
    batches_per_minute_of_all: int | None = 120
    concurrent: int | None = None
    penalty_seconds: float = 0.0


@dataclass
class Window:
    """One sliding window: what was let through in the last `length` seconds."""

    limit: int | None
    length: float
    worst: int = 0  # the most requests let through that any window held
    asked: int = 0  # the most requests, refused ones with them
    _passed: deque[float] = field(default_factory=deque)
    _asked: deque[float] = field(default_factory=deque)

    def full(self, now: float) -> bool:
        """Whether one more would be too many; notes that it was asked for."""
        while self._passed and self._passed[0] <= now - self.length:
            self._passed.popleft()
        while self._asked and self._asked[0] <= now - self.length:
            self._asked.popleft()
        self._asked.append(now)
        self.asked = max(self.asked, len(self._asked))
        return self.limit is not None and len(self._passed) >= self.limit

    def take(self, now: float) -> None:
        """Count one that is let through."""
        self._passed.append(now)
        self.worst = max(self.worst, len(self._passed))


class Throttle:
    """Lets requests through, or does not. Not thread-safe: the simulator holds its lock."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.refused = 0
        self.passed = 0
        self.running = 0
        self.most_running = 0
        self._windows: dict[tuple[str, str], Window] = {}
        self._penalty: dict[str, float] = {}

    def admit(self, realm: str, app: str, *, batch: bool, now: float) -> bool:
        """Whether the request may pass; counts it if so."""
        limits = self.limits
        wanted = [
            (("minute", realm), limits.requests_per_minute, 60.0),
            (("second", f"{realm} {app}"), limits.requests_per_second, 1.0),
        ]
        if batch:
            wanted += [
                (("batches", f"{realm} {app}"), limits.batches_per_minute, 60.0),
                (("batches of all", realm), limits.batches_per_minute_of_all, 60.0),
            ]
        windows = [self._windows.setdefault(key, Window(limit, length)) for key, limit, length in wanted]
        full = [window.full(now) for window in windows]
        crowded = limits.concurrent is not None and self.running > limits.concurrent
        if any(full) or crowded or now < self._penalty.get(realm, 0.0):
            self.refused += 1
            self._penalty[realm] = now + limits.penalty_seconds
            return False
        for window in windows:
            window.take(now)
        self.passed += 1
        return True

    def worst(self, kind: str) -> int:
        """The most requests of a kind that any window held: minute, second, batches, batches of all."""
        return max((window.worst for (name, _), window in self._windows.items() if name == kind), default=0)

    def rate(self, now: float, length: float = 1.0) -> int:
        """How many were let through in the last `length` seconds, at most a minute."""
        return sum(
            sum(1 for at in window._passed if at > now - length)  # noqa: SLF001 - of this module
            for (name, _), window in self._windows.items()
            if name == "minute"
        )

    def summary(self) -> dict[str, Any]:
        """What was seen."""
        kinds = ("minute", "second", "batches", "batches of all")
        return {
            "passed": self.passed,
            "refused": self.refused,
            "most_running": self.most_running,
            "worst": {kind: self.worst(kind) for kind in kinds},
            "asked": {
                kind: max((w.asked for (name, _), w in self._windows.items() if name == kind), default=0)
                for kind in kinds
            },
        }
