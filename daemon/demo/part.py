"""A domain on show: its app at work in a thread, what goes on in its source in another, and what is seen of both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rich.console import RenderableType

from daemon.app import App
from daemon.demo.view import Rates, head, rows_table
from daemon.service import in_thread, serve_instance


class Part:
    """A domain that was set up.

    Args:
        app: its instance.
        traffic: writes to the source until the event is set.
        speed: how many times as fast as real time its business time runs.
    """

    def __init__(self, app: App, traffic: Callable[[threading.Event], None], *, speed: float = 1.0) -> None:
        self.app = app
        self.speed = speed
        self.rates = Rates()
        self.result: dict[str, Any] = {}
        self._traffic = traffic
        self._threads: dict[str, threading.Thread] = {}

    def start(self, quiet: threading.Event, stop: threading.Event, failed: list[Exception]) -> None:
        """Begin both; a failure of either is noted and ends the traffic of all."""

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - raised again in the main thread
                failed.append(error)
                quiet.set()

        def serve() -> None:
            self.result.update(serve_instance(self.app, stop, None, on_batch=self.rates.add))

        self._threads["service"] = in_thread(f"{self.app.name} service", guarded, serve)
        self._threads["traffic"] = in_thread(f"{self.app.name} traffic", guarded, lambda: self._traffic(quiet))

    def join(self, which: str) -> None:
        """Wait for the end of its `service` or its `traffic`."""
        if which in self._threads:
            self._threads[which].join()

    def behind(self) -> int:
        """How many events the worker has not taken in."""
        return sum(self.app.status()["lag_events"].values())

    def waits(self) -> str | None:
        """What is still to be done before everything has come through; None where nothing is."""
        behind = self.behind()
        return f"{behind} events" if behind else None

    def lags(self) -> list[float]:
        """How old changes were when they were taken in, in real ms."""
        return [lag / self.speed for lag in self.rates.lags]

    def draw(self) -> list[RenderableType]:
        """What is shown of it: a line, then tables."""
        status = self.app.status()
        return [head(self.app.domain.title, status, self.rates), rows_table(status)]

    def line(self) -> str:
        """The same in one line of text."""
        status = self.app.status()
        events, _, mean = self.rates.recent()
        rows = ", ".join(f"{name} {count}" for name, count in status["rows"].items())
        return f"{self.app.name}: {status['clock']}  {events:.0f} events/s, {mean:.1f} ms a batch  {rows}"
