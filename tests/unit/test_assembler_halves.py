"""Where no boundaries are told, the two halves of a changed key still go together."""

from __future__ import annotations

import pytest
from assembling import Clock, ops, taken

from connectors.event import Boundary, Change, Event, Ignored
from connectors.log import Record, TopicPartition
from consumers.engine.assembler import Assembler
from consumers.engine.partition import Waits
from consumers.engine.units import Parked, Unit

PLACE, OTHER = TopicPartition("shop.item", 0), TopicPartition("shop.rental", 0)
TOMBSTONE = Ignored("tombstone")


def deletion(place: int | None, table: str = "item") -> Change:
    at = None if place is None else ("binlog.1", place, 0)
    return Change(table, "d", (str(place),), None, 1, cascades=True, place=at)


def creation(place: int, table: str = "item") -> Change:
    return Change(table, "c", ("9",), ("9",), 1, cascades=True, place=("binlog.1", place, 0))


@pytest.mark.parametrize("chunk", [1, 2, 3, 9])
@pytest.mark.parametrize("tombstones", [False, True])
def test_a_changed_key_is_one_unit(chunk: int, tombstones: bool) -> None:
    """However the log is read, with tombstones and without; deletions in their own right stay alone."""
    changes = [creation(1), deletion(2), creation(2), deletion(3), deletion(4), creation(4), creation(5)]
    events: list[Event] = []
    for event in changes:
        events += [event, TOMBSTONE] if tombstones and event.op == "d" else [event]
    target, units = Assembler(now=Clock()), list[Unit]()
    for first in range(0, len(events), chunk):
        units += taken(target, PLACE, events[first : first + chunk], first)
    assert ops([unit for unit in units if unit.changes]) == ["c", "dc", "d", "dc", "c"]
    positions = [unit.positions[PLACE] for unit in units]
    assert positions == sorted(positions)
    assert positions[-1] == len(events)
    assert not target.open


def test_a_deletion_alone_waits_for_a_moment() -> None:
    """At the log's end it goes on after a second; nothing stands behind it until then."""
    clock = Clock()
    target = Assembler(now=clock)
    assert taken(target, PLACE, [deletion(1), TOMBSTONE]) == []
    clock.seconds += Waits().half - 0.1
    assert target.idle() == []
    assert target.open
    clock.seconds += 0.2
    (unit,) = target.idle()
    assert (ops([unit]), unit.positions) == (["d"], {PLACE: 2})
    assert not target.open
    assert target.incomplete == 0


@pytest.mark.parametrize(
    "after", [creation(2), creation(1, "other"), deletion(1), Boundary("BEGIN", "7", 1), Parked(Record(*PLACE, 1, 1, None, None), "")]
)  # fmt: skip
def test_another_event_lets_it_go(after: Event) -> None:
    """What is not its other half stays a unit of its own."""
    target = Assembler(now=Clock())
    first = taken(target, PLACE, [deletion(1), after])[0]
    assert (ops([first]), first.positions) == (["d"], {PLACE: 1})


def test_where_there_are_no_halves_nothing_waits() -> None:
    """PostgreSQL's deletions, and what other partitions bring meanwhile."""
    target = Assembler(now=Clock())
    assert ops(taken(target, PLACE, [deletion(None)])) == ["d"]
    assert taken(target, PLACE, [deletion(1)], 1) == []
    assert ops(taken(target, OTHER, [creation(1, "rental")])) == ["c"]
    assert ops(taken(target, PLACE, [creation(1)], 2)) == ["dc"]
