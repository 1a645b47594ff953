"""Time as everything about QuickBooks sees it: given, never asked of the machine, so that tests can make an hour pass at once."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Where the moment and the waiting come from."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""

    def sleep(self, seconds: float, stop: threading.Event | None = None) -> None:
        """Wait so many seconds, or until `stop` is set; returns at once for nothing or less."""


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def sleep(self, seconds: float, stop: threading.Event | None = None) -> None:
        """Wait so many seconds, or until `stop` is set."""
        if seconds <= 0:
            return
        if stop is None:
            time.sleep(seconds)
        else:
            stop.wait(seconds)
