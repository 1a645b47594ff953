"""One topic of a connector that is killed anywhere, as often as it likes: readers see states that the source had."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
from assembling import Clock

from connectors.event import Boundary, Change, Event
from connectors.log import Record, TopicPartition
from consumers.engine.assembler import Assembler
from consumers.engine.partition import Waits
from consumers.engine.units import Unit

PLACE = TopicPartition("t", 0)
State = dict[str, str]


class Source:
    """Transactions over a few rows, each of which enters two rows of its own besides, and the states they lead to."""

    def __init__(self, rng: random.Random, count: int) -> None:
        self.transactions: list[list[tuple[str, str]]] = []
        self.times: list[int] = []
        self.states: list[State] = [{}]
        ts_ms = 1000
        for number in range(count):
            shared = [(f"row{rng.randrange(4)}", str(number)) for _ in range(rng.randrange(4))]
            changes = [(f"first{number}", ""), *shared, (f"second{number}", "")]
            ts_ms += rng.choice([0, 1, 1000])
            self.transactions.append(changes)
            self.times.append(ts_ms)
            self.states.append({**self.states[-1], **dict(changes)})


def told(rng: random.Random, source: Source) -> list[Event]:
    """What a connector tells of it that is killed now and then, and goes back to where it had last stored its place."""
    events: list[Event] = []
    number, stored = 0, 0
    while number < len(source.transactions):
        name, ts_ms = f"0-1-{number}", source.times[number]
        changes = source.transactions[number]
        killed = rng.randrange(len(changes) + 2) if rng.random() < 0.15 else None
        body: list[Event] = [
            Change("item", "u", (key,), (key, value), ts_ms, name, order=order)
            for order, (key, value) in enumerate(changes, 1)
        ]
        events += [Boundary("BEGIN", name, ts_ms), *body, Boundary("END", name, ts_ms)][
            : None if killed is None else killed + 1
        ]
        if killed is None:
            number += 1
            stored = number if rng.random() < 0.4 else stored
        elif rng.random() < 0.2:  # it has stored its place within the transaction, and goes on from there
            events += [*body[killed:], Boundary("END", name, ts_ms)]
            number += 1
        else:
            number = stored
    return events


def chunks(rng: random.Random, events: Sequence[Event], first: int) -> Iterator[list[tuple[Record, Event]]]:
    while first < len(events):
        count = rng.choice([1, 3, 20])
        part = events[first : first + count]
        yield [(Record(*PLACE, first + n, 1, None, None), event) for n, event in enumerate(part)]
        first += count


def apply(state: State, unit: Unit) -> None:
    for placed in unit.changes:
        assert isinstance(placed.event, Change)
        assert placed.event.row is not None
        state[placed.event.key[0]] = str(placed.event.row[1])


def seen(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """What becomes visible together: a unit, or all pieces of one."""
    together: list[Unit] = []
    for unit in units:
        together.append(unit)
        if unit.complete:
            yield together
            together = []


@pytest.mark.parametrize("piece", [5000, 2])
@pytest.mark.parametrize("round_", range(40))
def test_readers_see_states_that_the_source_had(seed: int, round_: int, piece: int) -> None:
    """Each state that is seen is the source's behind some transaction, and none before one seen already."""
    rng = random.Random(seed + round_)
    source = Source(rng, 40)
    events = told(rng, source)
    target = Assembler(piece, now=Clock())
    units = [unit for chunk in chunks(rng, events, 0) for unit in target.take(chunk)]
    state: State = {}
    at = 0
    for together in seen(units):
        for unit in together:
            apply(state, unit)
        at = next((n for n in range(at, len(source.states)) if source.states[n] == state), -1)
        assert at >= 0, f"seed {seed + round_}: a state that the source never had"
    assert at == len(source.transactions)
    assert target.incomplete == 0
    assert not target.open
    assert units[-1].positions == {PLACE: len(events)}


@pytest.mark.parametrize("round_", range(40))
def test_no_half_is_seen_over_restarts(seed: int, round_: int) -> None:
    """Who begins at the stored position, remembering nothing, sees both rows of a transaction or none of them."""
    rng = random.Random(seed + round_)
    source = Source(rng, 40)
    events = told(rng, source)
    state: State = {}
    position = 0
    while position < len(events):
        target = Assembler(rng.choice([2, 5000]), now=Clock())
        units = [unit for chunk in chunks(rng, events, position) for unit in target.take(chunk)]
        for together in list(seen(units))[: rng.choice([1, 2, 10, 50])]:
            for unit in together:
                apply(state, unit)
            assert together[-1].positions[PLACE] > position
            position = together[-1].positions[PLACE]
            firsts = {key[5:] for key in state if key.startswith("first")}
            assert firsts == {key[6:] for key in state if key.startswith("second")}, f"seed {seed + round_}"
    assert state == source.states[-1]


@pytest.mark.parametrize("round_", range(40))
def test_whatever_comes_goes_on_in_the_end(seed: int, round_: int) -> None:
    """Transactions whose rest never comes, in any order, at any times: everything goes on, once, in its order."""
    rng = random.Random(seed + round_)
    events: list[Event] = []
    for _ in range(60):
        name, ts_ms = str(rng.randrange(20)), rng.choice([0, 1000, rng.randrange(5000)])
        changes = [Change("item", "u", ("k",), ("k", ""), ts_ms, name, order=n + 1) for n in range(rng.randrange(4))]
        whole = [Boundary("BEGIN", name, ts_ms), *changes, Boundary("END", name, ts_ms)]
        events += whole[rng.choice([0, 0, 0, 1]) : rng.choice([None, None, -1])]
    clock = Clock()
    target = Assembler(rng.choice([2, 5000]), now=clock)
    units: list[Unit] = []
    for chunk in chunks(rng, events, 0):
        clock.seconds += rng.choice([0, 0, 1, 40])
        units += target.take(chunk) + (target.idle() if rng.random() < 0.2 else [])
    clock.seconds += Waits().silence
    units += target.idle()
    assert not target.open
    placed = [placed.record.offset for unit in units for placed in unit.changes]
    assert placed == [offset for offset, event in enumerate(events) if isinstance(event, Change)]
    ends = [together[-1].positions[PLACE] for together in seen(units)]
    assert ends == sorted(ends)
    assert ends[-1] == len(events)
