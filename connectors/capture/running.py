"""Keeping a capture running: what is tried again, what stops, and what an operator hears of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from connectors.errors import RowtideError

log = structlog.get_logger()

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 10.0
_STEADY = 10.0  # who was connected this long begins with the shortest wait again
_PROGRESS_SECONDS = 5.0


class CaptureStoppedError(RowtideError):
    """Capture cannot go on without a person."""


class SourceUnavailableError(RowtideError):
    """The source, or the way to it, is gone for now: to be tried again. The message holds no secret."""


class Progress(NamedTuple):
    """How far a snapshot is: rows done of about so many of a table."""

    table: str
    rows: int
    estimate: int


class Reporter:
    """Tells a snapshot's progress: each portion to `on_progress`, a log line every few seconds.

    Args:
        source: the source's name in the log lines.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        source: str,
        on_progress: Callable[[Progress], None] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._on_progress = on_progress
        self._clock = clock
        self._told = clock()

    def advanced(self, table: str, rows: int, estimate: int) -> None:
        """So many rows of the table are in the log; `estimate` is the source's guess of all."""
        progress = Progress(table, rows, max(estimate, rows))
        if self._on_progress is not None:
            self._on_progress(progress)
        if self._clock() - self._told >= _PROGRESS_SECONDS:
            self._told = self._clock()
            log.info("snapshot.progressed", source=self._source, **progress._asdict())

    def completed(self, table: str, rows: int) -> None:
        """The table is read."""
        if self._on_progress is not None:
            self._on_progress(Progress(table, rows, rows))
        log.info("snapshot.table_read", source=self._source, table=table, rows=rows)


def keep_running(
    once: Callable[[Callable[[], None]], None],
    stop: threading.Event,
    *,
    source: str,
    wait: Callable[[float], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Call `once` until it returns or `stop` is set; while the source is unavailable, again and again.

    `once` is handed a function to call when it is connected. The waits double from a tenth of a second to ten.
    One line tells that the connection is lost, with the reason, one each time the reason becomes another, and
    one that it is back.

    Args:
        once: connects and captures.
        stop: ends it.
        source: the source's name in the log lines.
        wait: how a pause is made, in seconds; by default a stop ends it.
        clock: seconds that only rise.
    """
    pause = wait or stop.wait
    seconds = _FIRST_WAIT
    told: str | None = None
    since: float | None = None

    def connected() -> None:
        nonlocal told, since
        since = clock()
        log.info("capture.connected", source=source, again=told is not None)
        told = None

    while not stop.is_set():
        since = None
        try:
            once(connected)
        except SourceUnavailableError as error:
            if since is not None and clock() - since >= _STEADY:
                seconds = _FIRST_WAIT
            if error.message != told:
                told = error.message
                log.warning("capture.reconnecting", source=source, reason=error.message)
            pause(seconds)
            seconds = min(seconds * 2, _LONGEST_WAIT)
        else:
            return
