"""Units: what must become visible together. Turns a stream of decoded records into units.

A unit is one source transaction where its boundaries are in the topic, else one event. A transaction too large to
hold comes in pieces; all pieces of a unit are applied in one transaction of the state database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from connectors.event import Boundary, Change, Event, ForeignKeys, Heartbeat, Ignored, Truncate
from connectors.log import Record, TopicPartition


class Parked(NamedTuple):
    """A record that could not become an event, with the reason."""

    record: Record
    reason: str


class Placed(NamedTuple):
    """A change with the record it came in."""

    event: Change | Truncate
    record: Record


@dataclass
class Unit:
    """Changes that belong together.

    Args:
        changes: in their order.
        ts_ms: business time of the unit: the latest commit time seen in it, in ms; None: it does not tell.
        cause: the first change, as `table@topic/partition/offset`.
        positions: the next offset to read behind this unit.
        complete: whether this piece is the last of its transaction.
        continued: whether this piece continues an earlier one.
        foreign_keys: the source's foreign keys that hold from here on, where the unit tells them.
    """

    changes: list[Placed] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    ts_ms: int | None = None
    cause: str = ""
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    complete: bool = True
    continued: bool = False
    events: int = 0
    foreign_keys: ForeignKeys | None = None

    def add(self, record: Record, event: Event | Parked) -> None:
        """Put one record into the unit."""
        self.positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        if isinstance(event, Parked):
            self.parked.append(event)
            return
        if isinstance(event, Ignored):
            return
        if event.ts_ms and (self.ts_ms is None or event.ts_ms > self.ts_ms):  # 0: it does not tell the time
            self.ts_ms = event.ts_ms
        if isinstance(event, ForeignKeys):
            self.foreign_keys = event
        if isinstance(event, Change | Truncate):
            self.events += 1
            self.changes.append(Placed(event, record))
            if not self.cause:
                self.cause = f"{event.table}@{record.topic}/{record.partition}/{record.offset}"


class _Open(NamedTuple):
    transaction: str
    unit: Unit


class Assembler:
    """Groups records into units, for each partition by itself.

    Args:
        piece: how many changes of an open transaction are held before they are handed on as a piece.
    """

    def __init__(self, piece: int = 5000) -> None:
        self._piece = piece
        self._open: dict[TopicPartition, _Open] = {}

    @property
    def open(self) -> bool:
        """Whether a transaction has begun whose end has not been read."""
        return bool(self._open)

    def feed(self, record: Record, event: Event | Parked) -> Iterator[Unit]:
        """Take one record; yields the unit or piece it completes, if any."""
        place = TopicPartition(record.topic, record.partition)
        current = self._open.get(place)
        if isinstance(event, Boundary):
            yield from self._boundary(place, current, record, event)
        elif current is None:
            unit = Unit()
            unit.add(record, event)
            yield unit
        else:
            current.unit.add(record, event)
            if len(current.unit.changes) >= self._piece:
                current.unit.complete = False
                following = Unit(cause=current.unit.cause, ts_ms=current.unit.ts_ms, continued=True)
                self._open[place] = _Open(current.transaction, following)
                yield current.unit

    def _boundary(
        self, place: TopicPartition, current: _Open | None, record: Record, event: Boundary
    ) -> Iterator[Unit]:
        nested = current is not None and current.transaction != event.transaction
        if (
            current is not None
            and nested
            and not current.transaction.startswith("snapshot:")
            and event.status == "BEGIN"
        ):
            # The transaction before never ended: its capture was set up anew. What it brought is kept.
            del self._open[place]
            yield current.unit
            current, nested = None, False
        if current is None:
            unit = Unit()
            unit.add(record, Heartbeat(event.ts_ms))
            if event.status == "BEGIN":
                self._open[place] = _Open(event.transaction, unit)
            else:
                yield unit
            return
        current.unit.add(record, Heartbeat(event.ts_ms))
        if event.status == "END" and not nested:
            del self._open[place]
            yield current.unit
