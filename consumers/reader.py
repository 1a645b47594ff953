"""Reads the log ahead of the engine: records are read, decoded and put together in a thread of their own.

While the database works on one chunk, the next ones are made ready.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from connectors.event import Decoder, Event, EventRefusedError
from connectors.log import Extent, Record, TopicPartition
from consumers.engine.assembler import Assembler
from consumers.engine.units import Parked, Unit

_FEW = 64  # records: a reader at the end of the log gets no more at once
# Records of the first chunk after a lull; each that follows may be twice as large. Who waits for the first one of a large
# backlog waits for few, and meanwhile the next is made ready.
_FIRST = 1000
_LULL = 0.02  # seconds without news after which the end of the log is looked for


class Readable(Protocol):
    """What is needed of a log to read it; see `connectors.log.Log`."""

    def read(self, positions: Mapping[TopicPartition, int], *, limit: int, max_bytes: int = ...) -> Sequence[Record]:
        """Up to `limit` records from the positions on."""

    def wait(self, timeout: float) -> bool:
        """Block until something may have been appended or `timeout` seconds have passed."""

    def extents(self, topics: Iterable[str]) -> Mapping[TopicPartition, Extent]:
        """The retained offsets of every partition of the topics."""


class Chunk(NamedTuple):
    """What one read of the log gave.

    Args:
        units: complete units and pieces, in order.
        at_end: whether there was nothing more to read.
        open: whether a transaction has begun whose end has not been read.
        incomplete: transactions handed on in parts since reading began, because the rest of them did not come.
        records: what was read.
    """

    units: list[Unit]
    at_end: bool
    open: bool
    incomplete: int = 0
    records: Sequence[Record] = ()

    @property
    def is_last(self) -> bool:
        """Whether there is nothing more for now: neither to read nor held back for its rest."""
        return self.at_end and not self.open


class Reader:
    """Reads, decodes and assembles, at most a few chunks ahead.

    Args:
        positions: the next offset to read for each partition.
        limit: records of one chunk, at most.
    """

    def __init__(
        self, source: Readable, decoder: Decoder, positions: dict[TopicPartition, int], limit: int, max_bytes: int
    ) -> None:
        self._log = source
        self._decoder = decoder
        self._positions = positions
        self._limit = limit
        self._max_bytes = max_bytes
        self._assembler = Assembler(limit, places=positions, tables=decoder.tables)
        self._chunks: queue.Queue[Chunk | Exception] = queue.Queue(maxsize=2)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,  # its log lines tell of what this thread works on
            args=(self._run,),
            name="reader",
            daemon=True,
        )
        self._thread.start()

    def _run(self) -> None:
        first = min(_FIRST, self._limit)
        limit = first
        try:
            while not self._stop.is_set():
                records = self._log.read(self._wanted(), limit=limit, max_bytes=self._max_bytes)
                if not records:
                    self._hand(self._assembler.idle(), at_end=True)
                    self._log.wait(0.2)
                    continue
                units = self._assembler.take([(record, decode(self._decoder, record)) for record in records])
                self._hand(units, at_end=False, records=records)
                self._advance(records)
                if len(records) >= limit:
                    limit = min(limit * 2, self._limit)
                if len(records) <= _FEW:
                    limit = first
                    # The log tells of what comes next. To look for its end at once would only be in the engine's way.
                    self._log.wait(_LULL)
        except Exception as error:  # noqa: BLE001 - raised again where it is handled, in the worker's thread
            self._put(error)

    def _wanted(self) -> Mapping[TopicPartition, int]:
        """The positions of the partitions to read on: those far ahead of others wait for them."""
        paused = self._assembler.paused
        if not paused:
            return self._positions
        return {place: offset for place, offset in self._positions.items() if place not in paused}

    def _hand(self, units: list[Unit], *, at_end: bool, records: Sequence[Record] = ()) -> None:
        assembler = self._assembler
        self._put(Chunk(units, at_end and not units, assembler.open, assembler.incomplete, records))

    def _advance(self, records: Sequence[Record]) -> None:
        """Go on behind the records, which are in order within each partition."""
        last = {(record.topic, record.partition): record.offset for record in records}
        for place, offset in last.items():
            self._positions[TopicPartition(*place)] = offset + 1

    def _put(self, item: Chunk | Exception) -> None:
        while not self._stop.is_set():
            try:
                self._chunks.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def next(self) -> Chunk:
        """The next chunk. Raises what reading raised."""
        item = self._chunks.get()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=5)


def decode(decoder: Decoder, record: Record) -> Event | Parked:
    """The record's event, or the record with the reason why it is none."""
    try:
        return decoder.decode(record.key, record.value)
    except EventRefusedError as error:
        return Parked(record, error.message)
