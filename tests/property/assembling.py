"""What tests of putting transactions together share."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.event import Event
from connectors.log import Record, TopicPartition
from consumers.engine.assembler import Assembler
from consumers.engine.units import Unit


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def taken(target: Assembler, place: TopicPartition, events: Sequence[Event], first: int = 0) -> list[Unit]:
    """The units of events that stand at offsets from `first` on."""
    return target.take((Record(*place, first + n, 1, None, None), event) for n, event in enumerate(events))


def ops(units: Sequence[Unit]) -> list[str]:
    """The operations of each unit, a letter for each change."""
    return ["".join(placed.event.op for placed in unit.changes) for unit in units]  # type: ignore[union-attr]
