"""The dispatcher: a thread beside the worker that has what the pending models ask for done outside, and records it.

Nothing outside is done while a transaction on the state database is open. Each round is a list:

1. forget the deliveries whose pending row has gone,
2. take up pending rows that are due, while this process leads the instance, and commit that,
3. have them done,
4. record what came of each.

A kill anywhere leaves pending rows behind, and they say what to do. Doing a flag twice is harmless: each is written
only where the source still holds the value that the decision was made on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from connectors.capture.running import SourceUnavailableError
from connectors.errors import RowtideError
from connectors.failpoints import failpoint
from connectors.state import StateError, connect
from connectors.writeback import FlagWriter, Outcome, WriteBackBlockedError
from consumers.deliveries import Due, Sink, forget_foreign

log = structlog.get_logger()
_PAUSES = (0.5, 30.0)  # seconds, first and longest, while the source is away
_BLOCKED = 30.0  # seconds until it is seen whether a person has mended what blocks
_IDLE = 5.0  # seconds between rounds that nobody asked for
_ROOM = 0.25  # seconds after which the end of the term is noticed
_NOT_CURRENT = 0.5

Connection = psycopg.Connection[tuple[Any, ...]]


class NotLeadingError(Exception):
    """Another process leads the instance by now."""


@dataclass
class Counts:
    """What a dispatcher has done: rows of the source it changed, and outcomes by their state."""

    written: int = 0
    newer: int = 0
    refused: int = 0
    failed_rounds: int = 0


class Dispatcher:
    """Delivers for one instance, in one thread.

    Args:
        dsn: of the state database.
        sinks: what to deliver.
        writer: opens the way to the source.
        leads: whether this process still leads, asked in the transaction that takes deliveries up.
        is_current: whether the models are as the source is now; where not, nothing is delivered.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        dsn: str,
        sinks: Sequence[Sink],
        writer: FlagWriter,
        *,
        leads: Callable[[Connection], bool],
        is_current: Callable[[Connection], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dsn = dsn
        self._sinks = sinks
        self._writer = writer
        self._leads = leads
        self._is_current = is_current
        self._clock = clock
        self._woken = threading.Event()
        self._connection: Connection | None = None
        self._pause = 0.0
        self._said = ""
        self.counts = Counts()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def run(self, over: threading.Event) -> None:
        """Deliver until the term is over. Every failure of the outside is waited for; none ends the thread."""
        try:
            while not over.is_set():
                self._woken.clear()
                seconds = self._round_or_pause(over)
                until = self._clock() + seconds
                # While the source is away nobody's wish makes a difference.
                wait = over.wait if self._pause else self._woken.wait
                while not over.is_set() and (left := until - self._clock()) > 0:
                    if wait(min(left, _ROOM)):
                        break
        except NotLeadingError:
            log.warning("dispatcher.overtaken")
        finally:
            self.close()

    def close(self) -> None:
        """Let all connections go."""
        self._writer.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _round_or_pause(self, over: threading.Event) -> float:
        """A round; the seconds until the next."""
        try:
            seconds = self.round(over)
        except SourceUnavailableError as error:
            self._pause = min(max(self._pause * 2, _PAUSES[0]), _PAUSES[1])
            self._say("flag.waiting", error)
        except WriteBackBlockedError as error:
            self._pause = _BLOCKED
            self._say("flag.blocked", error)
        except (psycopg.Error, StateError) as error:
            # A rebuild's swap takes tables away under a statement; a state database restarts. The worker says so.
            self._disconnect()
            self._pause = _PAUSES[0]
            self._say("dispatcher.waiting", RowtideError(f"the state database: {type(error).__name__}"))
        else:
            if self._said:
                log.info("dispatcher.resumed")
            self._pause, self._said = 0.0, ""
            return seconds
        self.counts.failed_rounds += 1
        return self._pause

    def round(self, over: threading.Event) -> float:
        """Deliver what is due now, once. Returns the seconds until something may be due again.

        Raises what keeps deliveries from being done: SourceUnavailableError, WriteBackBlockedError, psycopg's errors;
        NotLeadingError where another process leads.
        """
        if self._connection is None:
            self._connection = connect(self._dsn)
            forget_foreign(self._connection, self._sinks[0].instance, self._sinks)
        if not self._is_current(self._connection):
            return _NOT_CURRENT
        soonest = _IDLE
        for sink in self._sinks:
            sink.forget_settled(self._connection)
            self._deliver(self._connection, sink, over)
            due = sink.next_due(self._connection)
            soonest = min(soonest, _IDLE if due is None else due)
        return soonest

    def _deliver(self, connection: Connection, sink: Sink, over: threading.Event) -> None:
        """All pending rows of a sink, page by page."""
        after: tuple[Any, ...] | None = None
        while not over.is_set():
            page = sink.page(connection, after)
            if page.due:
                self._perform(connection, sink, page.due)
            if page.last is None:
                return
            after = page.last

    def _perform(self, connection: Connection, sink: Sink, due: Sequence[Due]) -> None:
        with connection.transaction():
            if not self._leads(connection):
                raise NotLeadingError
            sink.take_up(connection, due)
        failpoint("delivery_taken_up")
        try:
            written = self._writer.write(sink.target, [one.update for one in due])
        except (SourceUnavailableError, WriteBackBlockedError) as error:
            sink.put_back(connection, due, error.message)
            raise
        failpoint("flag_written")
        sink.record(connection, due, written.outcomes)
        failpoint("delivery_recorded")
        self._report(sink, written.outcomes, written.changed)

    def _report(self, sink: Sink, outcomes: Sequence[Outcome], changed: int) -> None:
        states = [outcome.state for outcome in outcomes]
        self.counts.written += changed
        self.counts.newer += states.count("newer")
        self.counts.refused += states.count("refused")
        others = {state: states.count(state) for state in ("newer", "gone", "busy", "refused") if state in states}
        log.info("flag.written", sink=sink.name, rows=changed, deliveries=len(outcomes), **others)

    def _say(self, event: str, error: RowtideError) -> None:
        """Each reason once."""
        if error.message != self._said:
            self._said = error.message
            log.warning(event, reason=error.message, hint=error.hint)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
