"""A snapshot that begins while something is open: what was open becomes visible with it, or not at all."""

from __future__ import annotations

import pytest
from assembling import taken

from connectors.event import Boundary, Change, Event, Truncate
from connectors.log import TopicPartition
from consumers.engine.assembler import Assembler

PLACE = TopicPartition("t", 0)


def change(key: str, transaction: str | None = None, op: str = "c") -> Change:
    return Change("item", op, (key,), (key,), 1, transaction)  # type: ignore[arg-type]


def boundary(status: str, transaction: str) -> Boundary:
    return Boundary(status, transaction, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("open_", ["7", "snapshot:1"])
def test_a_snapshot_takes_what_is_open_into_its_unit(open_: str) -> None:
    """Half a transaction, or half of the snapshot before, is never visible without the rows that are read anew."""
    assembler = Assembler()
    begun: list[Event] = [boundary("BEGIN", open_), change("half", open_)]
    anew: list[Event] = [boundary("BEGIN", "snapshot:2"), Truncate("item", 1), change("1", op="r"), change("2", op="r")]
    assert taken(assembler, PLACE, [*begun, *anew]) == []
    (unit,) = taken(assembler, PLACE, [boundary("END", "snapshot:2")], first=6)
    assert [placed.event for placed in unit.changes] == [begun[1], *anew[1:]]
    assert unit.positions == {PLACE: 7}
    (after,) = taken(assembler, PLACE, [boundary("BEGIN", "8"), change("3", "8"), boundary("END", "8")], first=7)
    assert (after.events, after.positions) == (1, {PLACE: 10})
    assert not assembler.open


def test_streamed_transactions_within_a_snapshot_stay_in_its_unit() -> None:
    """While it catches up, whole transactions come inside: nobody sees them before its end."""
    assembler = Assembler()
    events: list[Event] = [
        boundary("BEGIN", "snapshot:1"),
        change("1", op="r"),
        boundary("BEGIN", "7"),
        change("1", "7"),
        boundary("END", "7"),
    ]
    assert taken(assembler, PLACE, events) == []
    (unit,) = taken(assembler, PLACE, [boundary("END", "snapshot:1")], first=5)
    assert unit.events == 2
