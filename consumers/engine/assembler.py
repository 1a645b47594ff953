"""Turns a stream of decoded records into units.

Where the boundaries of transactions stand among the changes, each partition is put together by itself. Where they
have a topic of their own, whose name ends in `.transaction`, the partitions of that connector are woven together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from connectors.event import Boundary, Change, Event, Truncate
from connectors.log import Record, TopicPartition
from consumers.engine.units import Parked, Placed, Unit, is_half
from consumers.engine.weaving import Ends, Limits, Line, Weaver

BOUNDARIES = ".transaction"
_OWN = "rowtide."  # our own topics know no transactions
_PIECES = 4  # how many pieces a transaction must have before it is not held whole, where partitions are woven


class _Partition:
    """What is open in one partition: the unit of a transaction that has begun and not ended."""

    __slots__ = ("place", "transaction", "unit")

    def __init__(self, place: TopicPartition) -> None:
        self.place = place
        self.unit: Unit | None = None
        self.transaction = ""


class Assembler:
    """Groups records into units.

    Args:
        piece: how many changes of an open transaction are held before they are handed on as a piece.
        places: all partitions that are read.
        tables: the names of the declared tables.
        limits: of what is held back where partitions are woven together.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(
        self,
        piece: int = 5000,
        *,
        places: Iterable[TopicPartition] = (),
        tables: Iterable[str] = (),
        limits: Limits | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._piece = piece
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._woven: dict[tuple[str, int], Line | Ends] = {}
        self._weavers: list[Weaver] = []
        self._owner: object | None = None  # whose transaction is coming in pieces
        self._behind: list[tuple[object, Unit]] = []
        self._weave(sorted(set(places)), tuple(tables), limits or Limits(), now)

    def _weave(
        self, places: list[TopicPartition], tables: tuple[str, ...], limits: Limits, now: Callable[[], float]
    ) -> None:
        topics = sorted({place.topic for place in places if place.topic.endswith(BOUNDARIES)}, key=len, reverse=True)
        left = [place for place in places if place.topic not in topics and not place.topic.startswith(_OWN)]
        for topic in topics:
            # A connector's topics begin with its name; where there is but one, they may be called anything.
            prefix = topic.removesuffix("transaction") if len(topics) > 1 else ""
            lines = [place for place in left if place.topic.startswith(prefix)]
            left = [place for place in left if place not in lines]
            ends = [place for place in places if place.topic == topic]
            weaver = Weaver(ends, lines, tables, put=self._put, piece=self._piece * _PIECES, limits=limits, now=now)
            self._weavers.append(weaver)
            parts: list[Line | Ends] = [*weaver.ends, *weaver.lines]
            self._woven |= {(part.place.topic, part.place.partition): part for part in parts}

    @property
    def open(self) -> bool:
        """Whether a transaction has begun whose end has not been read."""
        return (
            any(partition.unit is not None for partition in self._partitions.values())
            or any(weaver.open for weaver in self._weavers)
            or bool(self._behind)
        )

    @property
    def incomplete(self) -> int:
        """How many transactions have been handed on in parts because the rest did not come."""
        return sum(weaver.incomplete for weaver in self._weavers)

    @property
    def paused(self) -> frozenset[TopicPartition]:
        """The partitions not to read on for now: what is held of them waits for others."""
        return frozenset(place for weaver in self._weavers for place in weaver.paused)

    def idle(self) -> list[Unit]:
        """The log has nothing more for now. Returns the units that have waited long enough for the rest of theirs."""
        units: list[Unit] = []
        for weaver in self._weavers:
            weaver.idle(units)
        return units

    def take(self, records: Iterable[tuple[Record, Event | Parked]]) -> list[Unit]:
        """Take records in their order. Returns the units and pieces that they complete.

        Every event of a daemon's life passes here, most of them a change inside a transaction: the loop is written
        for these.
        """
        units: list[Unit] = []
        topic, number, here = "", -1, _Partition(TopicPartition("", -1))
        woven: Line | Ends | None = None
        for weaver in self._weavers:
            weaver.look()
        for record, event in records:
            if record.partition != number or record.topic != topic:
                topic, number = record.topic, record.partition
                woven = self._woven.get((topic, number))
                if woven is None:
                    here = self._partitions.get((topic, number)) or self._begin(topic, number)
            if woven is not None:
                woven.put(record, event, units)
                continue
            unit, kind = here.unit, event.__class__
            if kind is Boundary:
                self._boundary(here, record, event, units)  # type: ignore[arg-type]
            elif unit is None:
                unit = Unit()
                unit.add(record, event)
                self._put(here, unit, units)
            elif kind is Change:
                if unit.events >= self._piece and not _is_other_half(unit, event):  # type: ignore[arg-type]
                    unit.positions[here.place] = record.offset
                    unit.complete = False
                    here.unit = Unit(cause=unit.cause, ts_ms=unit.ts_ms, continued=True)
                    self._put(here, unit, units)
                    unit = here.unit
                if not unit.changes and not unit.cause:
                    unit.add(record, event)
                    continue
                unit.changes.append(Placed(event, record))  # type: ignore[arg-type]
                unit.events += 1
                at = event.ts_ms  # type: ignore[union-attr]
                if unit.ts_ms is None or at > unit.ts_ms:
                    unit.ts_ms = at
            else:
                unit.add(record, event)
                if kind is Truncate and event.ends:  # type: ignore[union-attr]
                    here.unit = None
                    self._put(here, unit, units)
        for weaver in self._weavers:
            weaver.settle(units)
        return units

    def _put(self, owner: object, unit: Unit, units: list[Unit]) -> None:
        """Hand a unit on. What completes while another's transaction is coming in pieces goes behind its end."""
        if self._owner is not None and owner is not self._owner:
            self._behind.append((owner, unit))
            return
        units.append(unit)
        self._owner = None if unit.complete else owner
        if self._owner is None and self._behind:
            behind, self._behind = self._behind, []
            for other, held in behind:
                self._put(other, held, units)

    def _begin(self, topic: str, number: int) -> _Partition:
        return self._partitions.setdefault((topic, number), _Partition(TopicPartition(topic, number)))

    def _boundary(self, here: _Partition, record: Record, event: Boundary, units: list[Unit]) -> None:
        unit, nested = here.unit, False
        if unit is not None and here.transaction != event.transaction:
            nested = True
            if event.status == "BEGIN" and event.transaction.startswith("snapshot:"):
                # What was open will not end: its rows are read anew, and only with these it is whole.
                here.transaction, nested = event.transaction, False
            if event.status == "BEGIN" and not here.transaction.startswith("snapshot:"):
                # The transaction before never ended: its capture was set up anew. What it brought is kept.
                unit.positions[here.place] = record.offset
                self._put(here, unit, units)
                unit, nested = None, False
        done = False
        if unit is None:
            unit = Unit()
            if event.status == "BEGIN":
                here.unit, here.transaction = unit, event.transaction
            else:
                here.unit, done = None, True
        elif event.status == "END" and not nested:
            here.unit, done = None, True
        unit.positions[here.place] = record.offset + 1
        if event.ts_ms and (unit.ts_ms is None or event.ts_ms > unit.ts_ms):
            unit.ts_ms = event.ts_ms
        if done:
            self._put(here, unit, units)


def _is_other_half(unit: Unit, event: Change) -> bool:
    """Whether a key has changed from the unit's last change to this one."""
    last = unit.changes[-1].event
    return is_half(last) and isinstance(last, Change) and last.place == event.place
