"""Business time: the real one, or one that runs faster for the demo."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BusinessTime:
    """A clock that began at `start_ms` and runs `rate` times as fast as real time.

    With the defaults it is real time.
    """

    start_ms: int | None = None
    rate: float = 1.0
    wall: Callable[[], float] = time.time
    began: float = field(default_factory=time.time)

    def now_ms(self) -> int:
        """Business time now, in ms since the epoch."""
        return self.of_source_ms(round(self.wall() * 1000))

    def of_source_ms(self, source_ms: int) -> int:
        """The business time of a moment of real time."""
        if self.start_ms is None:
            return source_ms
        return self.start_ms + round((source_ms - self.began * 1000) * self.rate)
