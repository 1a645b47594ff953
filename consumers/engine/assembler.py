"""Turns a stream of decoded records into units, for each partition by itself."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.event import Boundary, Change, Event
from connectors.log import Record, TopicPartition
from consumers.engine.units import Parked, Placed, Unit


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
    """

    def __init__(self, piece: int = 5000) -> None:
        self._piece = piece
        self._partitions: dict[tuple[str, int], _Partition] = {}

    @property
    def open(self) -> bool:
        """Whether a transaction has begun whose end has not been read."""
        return any(partition.unit is not None for partition in self._partitions.values())

    def take(self, records: Iterable[tuple[Record, Event | Parked]]) -> list[Unit]:
        """Take records in their order. Returns the units and pieces that they complete.

        Every event of a daemon's life passes here, most of them a change inside a transaction: the loop is written
        for these.
        """
        units: list[Unit] = []
        topic, number, here = "", -1, _Partition(TopicPartition("", -1))
        for record, event in records:
            if record.partition != number or record.topic != topic:
                topic, number = record.topic, record.partition
                here = self._partitions.get((topic, number)) or self._begin(topic, number)
            unit, kind = here.unit, event.__class__
            if kind is Boundary:
                self._boundary(here, record, event, units)  # type: ignore[arg-type]
            elif unit is None:
                unit = Unit()
                unit.add(record, event)
                units.append(unit)
            elif kind is Change:
                if not unit.changes and not unit.cause:
                    unit.add(record, event)
                    continue
                unit.changes.append(Placed(event, record))  # type: ignore[arg-type]
                unit.events += 1
                at = event.ts_ms  # type: ignore[union-attr]
                if unit.ts_ms is None or at > unit.ts_ms:
                    unit.ts_ms = at
                if unit.events >= self._piece:
                    unit.positions[here.place] = record.offset + 1
                    unit.complete = False
                    here.unit = Unit(cause=unit.cause, ts_ms=unit.ts_ms, continued=True)
                    units.append(unit)
            else:
                unit.add(record, event)
        return units

    def _begin(self, topic: str, number: int) -> _Partition:
        return self._partitions.setdefault((topic, number), _Partition(TopicPartition(topic, number)))

    def _boundary(self, here: _Partition, record: Record, event: Boundary, units: list[Unit]) -> None:
        unit, nested = here.unit, False
        if unit is not None and here.transaction != event.transaction:
            nested = True
            if event.status == "BEGIN" and not here.transaction.startswith("snapshot:"):
                # The transaction before never ended: its capture was set up anew. What it brought is kept.
                unit.positions[here.place] = record.offset
                units.append(unit)
                unit, nested = None, False
        if unit is None:
            unit = Unit()
            if event.status == "BEGIN":
                here.unit, here.transaction = unit, event.transaction
            else:
                here.unit = None
                units.append(unit)
        elif event.status == "END" and not nested:
            here.unit = None
            units.append(unit)
        unit.positions[here.place] = record.offset + 1
        if event.ts_ms and (unit.ts_ms is None or event.ts_ms > unit.ts_ms):
            unit.ts_ms = event.ts_ms
