"""Turns a stream of decoded records into units.

Where the boundaries of transactions stand among the changes, each partition is put together by itself. Where they
have a topic of their own, whose name ends in `.transaction`, the partitions of that connector are woven together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from connectors.event import Boundary, Change, Event, Truncate
from connectors.log import Record, TopicPartition
from consumers.engine.partition import Partition, Waits
from consumers.engine.units import Parked, Unit, is_other_half
from consumers.engine.weaving import Ends, Limits, Line, Weaver

BOUNDARIES = ".transaction"
_OWN = "rowtide."  # our own topics know no transactions
_PIECES = 4  # how many pieces a transaction must have before it is not held whole, where partitions are woven


class Assembler:
    """Groups records into units.

    Args:
        piece: how many changes of an open transaction are held before they are handed on as a piece.
        places: all partitions that are read.
        tables: the names of the declared tables.
        limits: of what is held back where partitions are woven together.
        waits: for what has begun in a partition with boundaries of its own.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(
        self,
        piece: int = 5000,
        *,
        places: Iterable[TopicPartition] = (),
        tables: Iterable[str] = (),
        limits: Limits | None = None,
        waits: Waits | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._piece = piece
        self._waits = waits or Waits()
        self._now = now
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._woven: dict[tuple[str, int], Line | Ends] = {}
        self._weavers: list[Weaver] = []
        self._owner: object | None = None  # whose transaction is coming in pieces
        self._behind: list[tuple[object, Unit]] = []
        self._nowhere = Partition(TopicPartition("", -1), self._put, self._waits)
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
            any(partition.open for partition in self._partitions.values())
            or any(weaver.open for weaver in self._weavers)
            or bool(self._behind)
        )

    @property
    def incomplete(self) -> int:
        """How many transactions have been handed on in parts because the rest did not come."""
        woven = sum(weaver.incomplete for weaver in self._weavers)
        return woven + sum(partition.incomplete for partition in self._partitions.values())

    @property
    def paused(self) -> frozenset[TopicPartition]:
        """The partitions not to read on for now: what is held of them waits for others."""
        return frozenset(place for weaver in self._weavers for place in weaver.paused)

    def idle(self) -> list[Unit]:
        """The log has nothing more for now. Returns the units that have waited long enough for the rest of theirs."""
        units: list[Unit] = []
        for weaver in self._weavers:
            weaver.idle(units)
        self._wait(self._now(), units)
        return units

    def _wait(self, moment: float, units: list[Unit]) -> None:
        for partition in self._partitions.values():
            partition.wait(moment, units)

    def take(self, records: Iterable[tuple[Record, Event | Parked]]) -> list[Unit]:
        """Take records in their order. Returns the units and pieces that they complete.

        Every event of a daemon's life passes here, most of them a change inside a transaction: the loop is written
        for these.
        """
        units: list[Unit] = []
        moment = self._now()
        topic, number, here = "", -1, self._nowhere
        woven: Line | Ends | None = None
        for weaver in self._weavers:
            weaver.look()
        for record, event in records:
            if record.partition != number or record.topic != topic:
                topic, number = record.topic, record.partition
                woven = self._woven.get((topic, number))
                if woven is None:
                    here.left(moment, units)
                    here = self._partitions.get((topic, number)) or self._begin(topic, number)
            if woven is not None:
                woven.put(record, event, units)
                continue
            unit, kind = here.unit, event.__class__
            if kind is Boundary:
                here.boundary(record, event, moment, units)  # type: ignore[arg-type]
            elif unit is None:
                here.single(record, event, units)
            elif kind is Change:
                if unit.events >= self._piece and not is_other_half(unit, event):  # type: ignore[arg-type]
                    unit.positions[here.place] = record.offset
                    unit.complete = False
                    here.unit = Unit(cause=unit.cause, ts_ms=unit.ts_ms, continued=True)
                    self._put(here, unit, units)
                    unit = here.unit
                unit.change(record, event)  # type: ignore[arg-type]
            else:
                unit.add(record, event)
                if kind is Truncate and event.ends and here.ends(event.transaction):  # type: ignore[union-attr]
                    here.end(unit, units)
        here.left(moment, units)
        if self._behind:  # not only at the log's end: others wait behind the pieces of what is open
            self._wait(moment, units)
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

    def _begin(self, topic: str, number: int) -> Partition:
        place = TopicPartition(topic, number)
        return self._partitions.setdefault((topic, number), Partition(place, self._put, self._waits))
