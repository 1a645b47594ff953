"""Units: what must become visible together.

A unit is one source transaction where its boundaries are in the topic, else one event. A transaction too large to
hold comes in pieces; all pieces of a unit are applied in one transaction of the state database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from connectors.event import Change, Event, ForeignKeys, Ignored, Truncate
from connectors.log import Record, TopicPartition


class Parked(NamedTuple):
    """A record that could not become an event, with the reason."""

    record: Record
    reason: str


class Placed(NamedTuple):
    """A change with the record it came in."""

    event: Change | Truncate
    record: Record


@dataclass(slots=True)
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
        if isinstance(event, (Change, Truncate)):  # a union would be made anew at each event
            self.change(record, event)
            return
        if event.ts_ms and (self.ts_ms is None or event.ts_ms > self.ts_ms):  # 0: it does not tell the time
            self.ts_ms = event.ts_ms
        if isinstance(event, ForeignKeys):
            self.foreign_keys = event

    def change(self, record: Record, event: Change | Truncate) -> None:
        """Put a change into the unit; the position behind it is told later, by whoever ends the unit."""
        at = event.ts_ms
        if at and (self.ts_ms is None or at > self.ts_ms):
            self.ts_ms = at
        self.events += 1
        self.changes.append(Placed(event, record))
        if not self.cause:
            self.cause = f"{event.table}@{record.topic}/{record.partition}/{record.offset}"


Put: TypeAlias = Callable[[object, Unit, list[Unit]], None]  # hands a unit on to a list; told on whose behalf


def is_half(event: object) -> bool:
    """Whether an event may be the first half of a changed key, whose other half comes next.

    MySQL and MariaDB tell a changed key as a deletion and a creation of one place in their log. Between the two nothing may
    be cut: a deletion alone has other effects on what refers to the row.
    """
    return isinstance(event, Change) and event.op == "d" and event.place is not None


def is_other_half(unit: Unit, event: Change) -> bool:
    """Whether a key has changed from the unit's last change to this one."""
    last = unit.changes[-1].event if unit.changes else None
    if event.op != "c" or not isinstance(last, Change) or not is_half(last):
        return False
    return last.place == event.place and last.table == event.table
