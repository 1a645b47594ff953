"""Time for tests: it stands still while anybody works and jumps when everybody sleeps.

A thread takes part while it is inside `participant()`. Time advances to the earliest end of a sleep as soon as every
participant sleeps. A thread that is not a participant takes part only while it sleeps, so one thread alone never
waits. A participant that waits for another by other means than this clock says so with `joining()`, or with `blocked()`
where it cannot say for whom; otherwise time stands still, and after `guard` real seconds the sleepers fail.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from connectors.errors import RowtideError

# Real seconds between two looks at what wakes a sleeper beside time: an event, or nothing but a standstill to end.
_SLICE, _LONG_SLICE = 0.005, 0.05


class StuckClockError(RowtideError):
    """Simulated time did not advance, because a participant neither sleeps nor says that it is blocked."""


class _Sleeper:
    __slots__ = ("awake", "bell", "stop", "until")

    def __init__(self, until: float, stop: threading.Event | None, bell: threading.Condition) -> None:
        self.until = until
        self.stop = stop
        self.bell = bell  # of its own: the others sleep on when it wakes
        self.awake = False


class SimClock:
    """Simulated time, shared by threads.

    Args:
        start: seconds since 1970 at which it begins.
        guard: real seconds that a sleep may take before it fails.
        patience: where given, time also advances when nobody has touched the clock for so many real seconds, though
            a participant seems to work. Tests that cannot say who is blocked use it; they lose exactness, no more.
    """

    def __init__(self, start: float = 1_767_225_600.0, *, guard: float = 20.0, patience: float | None = None) -> None:
        self._now = start
        self._guard = guard
        self._patience = patience
        self._touched = time.monotonic()
        self._lock = threading.RLock()
        self._participants: dict[threading.Thread, int] = {}
        self._sleepers: dict[threading.Thread, _Sleeper] = {}
        self._joined: dict[threading.Thread, threading.Thread] = {}

    def now(self) -> float:
        """Seconds since 1970."""
        with self._lock:
            self._touched = time.monotonic()
            return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass, whoever works; wakes the sleepers whose time has come."""
        with self._lock:
            self._set(self._now + seconds)

    def sleep(self, seconds: float, stop: threading.Event | None = None) -> None:
        """Sleep until simulated time has passed, or the event is set. Raises StuckClockError."""
        if seconds <= 0 or (stop is not None and stop.is_set()):
            return
        me = threading.current_thread()
        deadline = time.monotonic() + self._guard
        with self._lock:
            mine = _Sleeper(self._now + seconds, stop, threading.Condition(self._lock))
            self._sleepers[me] = mine
            try:
                self._settle()
                while not mine.awake:
                    mine.bell.wait(_LONG_SLICE if stop is None and self._patience is None else _SLICE)
                    if mine.awake or (stop is not None and stop.is_set()):
                        return
                    self._settle()
                    if not mine.awake and time.monotonic() > deadline:
                        raise StuckClockError(
                            f"Simulated time stood still for {self._guard:g} s: of {len(self._participants)} "
                            f"participants {len(self._sleepers)} threads sleep.",
                            hint="A participant that waits for another thread does so inside clock.blocked().",
                        )
            finally:
                del self._sleepers[me]
                self._touched = time.monotonic()

    def wait(self, event: threading.Event, timeout: float) -> bool:
        """Wait for an event for at most so many simulated seconds; whether it was set."""
        self.sleep(timeout, event)
        return event.is_set()

    @contextmanager
    def participant(self) -> Iterator[None]:
        """Time stands still while this thread works."""
        me = threading.current_thread()
        with self._lock:
            self._participants[me] = self._participants.get(me, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._participants[me] -= 1
                if not self._participants[me]:
                    del self._participants[me]
                self._settle()

    @contextmanager
    def joining(self, other: threading.Thread) -> Iterator[None]:
        """This thread waits for the end of another: it holds time as soon as that one takes part no more."""
        me = threading.current_thread()
        with self._lock:
            self._joined[me] = other
            self._settle()
        try:
            yield
        finally:
            with self._lock:
                del self._joined[me]

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """This thread waits for others by means that the clock does not see: it does not hold time meanwhile.

        Nor between their end and its waking: time may jump then. Where it waits for one thread, `joining` is exact.
        """
        me = threading.current_thread()
        with self._lock:
            depth = self._participants.pop(me, 0)
            self._settle()
        try:
            yield
        finally:
            with self._lock:
                if depth:
                    self._participants[me] = depth

    def thread(self, target: Callable[[], object], *, name: str | None = None) -> threading.Thread:
        """A started thread that is a participant from before it runs until it ends."""
        begun = threading.Event()

        def run() -> None:
            with self.participant():
                begun.set()
                target()

        started = threading.Thread(target=run, name=name, daemon=True)
        started.start()
        begun.wait(self._guard)
        return started

    def _settle(self) -> None:
        """Advance where every participant sleeps."""
        for thread in [thread for thread in self._participants if not thread.is_alive()]:
            del self._participants[thread]
        called = [sleeper for sleeper in self._sleepers.values() if sleeper.stop and sleeper.stop.is_set()]
        for sleeper in called:
            sleeper.bell.notify()
        if called or any(sleeper.awake for sleeper in self._sleepers.values()):
            return  # somebody is about to work
        working = any(
            thread not in self._sleepers and self._joined.get(thread) not in self._participants
            for thread in self._participants
        )
        impatient = self._patience is not None and time.monotonic() > self._touched + self._patience
        if self._sleepers and (not working or impatient):
            self._set(min(sleeper.until for sleeper in self._sleepers.values()))

    def _set(self, now: float) -> None:
        self._now = max(self._now, now)
        self._touched = time.monotonic()
        for sleeper in self._sleepers.values():
            if sleeper.until <= self._now:
                sleeper.awake = True
                sleeper.bell.notify()
