"""A transaction too large to hold goes on in pieces, which never part the two halves of a changed key."""

from __future__ import annotations

import pytest
from assembling import ops, taken

from connectors.event import Boundary, Change, Event
from connectors.log import TopicPartition
from consumers.engine.assembler import Assembler

OWN, ENDS = TopicPartition("shop.item", 0), TopicPartition("shop.transaction", 0)


def deletion(place: int, order: int | None = None) -> Change:
    return Change("item", "d", (str(place),), None, 1, "7", cascades=True, place=("binlog.1", place, 0), order=order)


def creation(place: int, order: int | None = None) -> Change:
    return Change("item", "c", ("9",), ("9",), 1, "7", cascades=True, place=("binlog.1", place, 0), order=order)


@pytest.mark.parametrize("chunk", [1, 2, 9])
def test_halves_of_a_key_go_together(chunk: int) -> None:
    """However the log is read; deletions in their own right are cut where the piece is full."""
    changes = [creation(1), creation(2), deletion(3), creation(3), creation(4), deletion(5), deletion(6), deletion(7)]
    events: list[Event] = [Boundary("BEGIN", "7", 1), *changes, Boundary("END", "7", 1)]
    assembler, units = Assembler(3), []
    for first in range(0, len(events), chunk):
        units += taken(assembler, OWN, events[first : first + chunk], first)
    assert ops(units) == ["ccdc", "cdd", "d"]
    assert [unit.positions for unit in units] == [{OWN: 5}, {OWN: 8}, {OWN: 10}]
    assert [(unit.continued, unit.complete) for unit in units] == [(False, False), (True, False), (True, True)]


def test_halves_of_a_key_go_together_where_partitions_are_woven() -> None:
    """The first half waits in its partition for the other one."""
    assembler = Assembler(1, places=[OWN, ENDS], tables=["item"])
    changes: list[Event] = [
        creation(1, 1),
        creation(2, 2),
        creation(3, 3),
        deletion(4, 4),
        creation(4, 5),
        deletion(6, 6),
    ]
    units = taken(assembler, ENDS, [Boundary("BEGIN", "7", 1)])
    units += taken(assembler, OWN, changes[:4])
    assert ops(units) == ["ccc"]
    units += taken(assembler, OWN, changes[4:], 4)
    units += taken(assembler, ENDS, [Boundary("END", "7", 1, (("item", 6),))], 1)
    assert ops(units) == ["ccc", "dcd"]
    assert units[-1].positions == {OWN: 6, ENDS: 2}
    assert not assembler.open
