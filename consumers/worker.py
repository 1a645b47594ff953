"""The worker: takes the log's units from a reader and has the engine apply them, until stopped or idle."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from connectors.event import Decoder
from connectors.failpoints import failpoint
from connectors.log import Record, TopicPartition
from connectors.log.marks import mark_of
from consumers.engine.engine import Applied, Engine
from consumers.engine.foreignkeys import Gap
from consumers.engine.units import Unit
from consumers.reader import Readable, Reader

log = structlog.get_logger()


class BatchStats(NamedTuple):
    """One committed batch: counts, seconds spent, how far business time is behind `now`, events behind the log's end."""

    units: int
    events: int
    parked: int
    seconds: float
    lag_ms: float | None
    keys: dict[str, int]


@dataclass
class Totals:
    """What a run has done so far."""

    batches: int = 0
    events: int = 0
    units: int = 0
    parked: int = 0
    ignored: int = 0
    incomplete: int = 0
    keys: dict[str, int] = field(default_factory=dict)


class _Tuning:
    """Lets two threads of which one mostly waits for the database get along.

    The reader's thread computes while the engine's waits; it must let go soon after an answer has come (Python's
    default is 5 ms, more than a small statement takes). And a batch makes many objects that live as long as it does:
    looking for cycles among them after every few hundred finds none, and after several batches has few to look at.

    Both are the process's: they stay while any worker of it runs, and go back to what they were with the last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = (0.0, gc.get_threshold())

    @contextmanager
    def use(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._before = (sys.getswitchinterval(), gc.get_threshold())
                sys.setswitchinterval(0.0005)
                gc.set_threshold(500_000, 20, 50)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    sys.setswitchinterval(self._before[0])
                    gc.set_threshold(*self._before[1])


_TUNING = _Tuning()


class Worker:
    """Works one instance off.

    Args:
        now_ms: business time now, in ms: only for ticks and lag, never for rows.
        tick: appends a heartbeat to the log so that business time passes without events.
    """

    def __init__(
        self,
        engine: Engine,
        source: Readable,
        decoder: Decoder,
        topics: Iterable[str],
        *,
        now_ms: Callable[[], int],
        tick: Callable[[int], None],
        on_batch: Callable[[BatchStats], None] | None = None,
        limit: int = 5000,
        max_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._engine = engine
        self._log = source
        self._decoder = decoder
        self._topics = tuple(topics)
        self._now_ms = now_ms
        self._tick = tick
        self._on_batch = on_batch
        self._limit = limit
        self._max_bytes = max_bytes
        self._ticked: int | None = None
        self._unfollowed: Sequence[Gap] = ()
        self._records: Sequence[Record] = ()  # of the chunk that is being applied
        engine.ledger.mark_of = self._mark
        self.totals = Totals()
        self.lag_ms: float | None = None
        self.source_lag_ms: float | None = None  # of the last batch with something of the source in it

    def start_positions(self) -> dict[TopicPartition, int]:
        """From where to read: the stored positions; what was never read, from the very first event.

        A log that no longer has its beginning is a gap, and reading says so.
        """
        return {place: self._engine.positions.get(place, 0) for place in self._log.extents(self._topics)}

    def run(self, stop: threading.Event, *, until_idle: bool = False) -> None:
        """Work until stopped, or until the end of the log is reached."""
        with _TUNING.use():
            self._run(stop, until_idle=until_idle)

    def _run(self, stop: threading.Event, *, until_idle: bool) -> None:
        reader = Reader(self._log, self._decoder, self.start_positions(), self._limit, self._max_bytes)
        pieces = False
        try:
            while not stop.is_set():
                chunk = reader.next()
                self._records = chunk.records
                if chunk.incomplete > self.totals.incomplete:
                    log.warning("transaction.released_incomplete", count=chunk.incomplete - self.totals.incomplete)
                    self.totals.incomplete = chunk.incomplete
                units: list[Unit] = []
                for unit in chunk.units:
                    if unit.complete and not unit.continued:
                        units.append(unit)
                        continue
                    self._apply(units)
                    units = []
                    pieces = self._piece(unit, begun=pieces)
                self._apply(units)
                if chunk.is_last:
                    if until_idle:
                        return
                    self._tick_if_due()
        finally:
            if pieces:
                self._engine.abandon()
            reader.close()

    def _mark(self, place: TopicPartition, offset: int) -> str | None:
        """The mark of the record before a position, where it is among those just read."""
        before = (place.topic, place.partition, offset - 1)
        return next((mark_of(record) for record in reversed(self._records) if record[:3] == before), None)

    def _apply(self, units: Sequence[Unit]) -> None:
        if not units:
            return
        failpoint("batch_read")
        began = time.perf_counter()
        applied = self._engine.apply(units)
        failpoint("after_commit")
        self._report(applied, time.perf_counter() - began, units[-1])

    def _piece(self, unit: Unit, *, begun: bool) -> bool:
        """Apply one piece of a transaction too large to hold. Returns whether more are to come."""
        began = time.perf_counter()
        if not begun:
            self._engine.begin_pieces(unit.ts_ms)
        self._engine.add_piece(unit)
        failpoint("piece_written")
        self.totals.events += unit.events
        if unit.complete:
            self._engine.end_pieces(unit)
            self._report(Applied(units=1, transactions=1), time.perf_counter() - began, unit)
        return not unit.complete

    def _report(self, applied: Applied, seconds: float, last: Unit) -> None:
        totals = self.totals
        totals.batches += applied.transactions
        totals.events += applied.events
        totals.units += applied.units
        totals.parked += applied.parked
        for name, count in applied.keys.items():
            totals.keys[name] = totals.keys.get(name, 0) + count
        self.lag_ms = None if last.ts_ms is None else max(0.0, float(self._now_ms() - last.ts_ms))
        self.source_lag_ms = self.source_lag_ms if self.lag_ms is None else self.lag_ms
        stats = BatchStats(applied.units, applied.events, applied.parked, seconds, self.lag_ms, applied.keys)
        if self._on_batch is not None:
            self._on_batch(stats)
        log.info(
            "batch.committed",
            units=stats.units,
            events=stats.events,
            parked=stats.parked,
            ms=round(seconds * 1000, 1),
            lag_ms=stats.lag_ms,
        )
        if applied.parked:
            log.warning("event.parked", count=applied.parked)
        if self._engine.unfollowed != self._unfollowed:
            self._unfollowed = self._engine.unfollowed
            for gap in self._unfollowed:
                log.warning("cascade.not_followed", key=gap.name, table=gap.table, reason=gap.reason, hint=gap.hint)

    def _tick_if_due(self) -> None:
        """Where a row falls due and no event comes, let the log say that time has passed."""
        due, now = self._engine.next_due, self._now_ms()
        if due is not None and due <= now * 1000 and self._ticked != due:
            self._ticked = due
            self._tick(now)
