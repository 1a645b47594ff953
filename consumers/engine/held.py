"""What is held of a transaction that is spread over partitions: its changes in one of them, and what its topic tells."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from operator import itemgetter

from connectors.event import Change, Event, Ignored, Truncate
from connectors.log import Record, TopicPartition
from consumers.engine.units import Parked, Placed, Unit, is_half

Item = tuple[int, Record, Event | Parked]  # by its place in the transaction


class Run:
    """Changes of one transaction that follow each other in a partition.

    Args:
        counts: the different changes of each table; one that is repeated counts once.
    """

    __slots__ = ("arrival", "counts", "ends", "items", "next_offset", "size", "top", "touched", "transaction")

    def __init__(self, transaction: str | None, arrival: int) -> None:
        self.transaction = transaction
        self.arrival = arrival
        self.items: list[Item] = []
        self.counts: dict[str, int] = {}
        self.top = 0
        self.next_offset = 0
        self.size = 0
        self.touched = 0.0
        self.ends = False

    def add(self, record: Record, event: Event | Parked) -> int:
        """Returns the bytes that are held for it."""
        if isinstance(event, Change | Truncate):
            order = self.top + 1 if event.order is None else event.order
            if order > self.top:
                self.top = order
                self.counts[event.table] = self.counts.get(event.table, 0) + 1
            self.ends = self.ends or (isinstance(event, Truncate) and event.ends)
        size = _size(record)
        # A change that is repeated keeps its place in the partition: the order there is never changed.
        self.items.append((self.top, record, event))
        self.next_offset = record.offset + 1
        self.size += size
        return size

    def take(self) -> list[Item]:
        """What is held of it; the first half of a changed key at its end stays, for the other half comes next."""
        last = len(self.items) - 1
        while last > 0 and isinstance(self.items[last][2], Ignored):  # a tombstone goes with its deletion
            last -= 1
        until = last if last > 0 and is_half(self.items[last][2]) else len(self.items)
        taken, self.items = self.items[:until], self.items[until:]
        self.size = sum(_size(record) for _, record, _ in self.items)
        return taken


class Occurrence:
    """A transaction as its topic tells it: from its beginning to its end."""

    __slots__ = ("arrival", "begun", "counts", "ended", "extra", "positions", "touched", "transaction", "ts_ms")

    def __init__(self, transaction: str, arrival: int) -> None:
        self.transaction = transaction
        self.arrival = arrival
        self.positions: dict[TopicPartition, int] = {}
        self.extra: list[tuple[Record, Event | Parked]] = []
        self.ended = False
        self.counts: Mapping[str, int] | None = None
        self.ts_ms = 0
        self.touched = 0.0
        self.begun = False  # whether pieces of it have gone on


def fill(unit: Unit, items: Iterable[Item]) -> None:
    """Put records into a unit; its positions are the caller's business but for what is parked."""
    for _, record, event in items:
        if isinstance(event, Change) and unit.changes:
            unit.changes.append(Placed(event, record))
            unit.events += 1
            if unit.ts_ms is None or event.ts_ms > unit.ts_ms:
                unit.ts_ms = event.ts_ms
        else:
            unit.add(record, event)


def merged(runs: Iterable[Iterable[Item]]) -> Iterable[Item]:
    """The items of several partitions in the order of the transaction."""
    return heapq.merge(*runs, key=itemgetter(0))


def _size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"")
