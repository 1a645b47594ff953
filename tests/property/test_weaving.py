"""Transactions over topics that nothing orders against each other: woven together whole, whatever comes when."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import pytest
from assembling import Clock

from connectors.event import Boundary, Change, Event, Ignored, Truncate
from connectors.log import Record, TopicPartition
from consumers.engine.assembler import Assembler
from consumers.engine.units import Unit
from consumers.engine.weaving import Limits

ENDS = TopicPartition("s.transaction", 0)
OWN = TopicPartition("rowtide.shop", 0)
TABLES = ("rental", "payment", "item")
PLACES = {
    "rental": [TopicPartition("s.db.rental", 0)],
    "payment": [TopicPartition("s.db.payment", n) for n in range(3)],
    "item": [TopicPartition("s.db.item", 0)],
}
LINES = [place for places in PLACES.values() for place in places]
Log = dict[TopicPartition, list[tuple[Record, Event]]]


class Connector:
    """Writes topics as Debezium does: a transaction after the other, each event where its table's topic is."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.log: Log = {place: [] for place in (*LINES, ENDS, OWN)}

    def append(self, place: TopicPartition, event: Event) -> None:
        entries = self.log[place]
        offset = (entries[-1][0].offset if entries else -1) + self.rng.choice([1, 1, 2])  # Kafka leaves numbers out
        entries.append((Record(place.topic, place.partition, offset, 0, None, b"x" * 10), event))

    def change(self, table: str, key: int, transaction: str | None, order: int | None) -> None:
        event = Change(table, "u", (str(key),), (str(key), str(self.rng.random())), 1000, transaction, order=order)
        places = PLACES[table]
        self.append(places[key % len(places)], event)

    def transaction(self, name: str, changes: Sequence[tuple[str, int]], *, begin=True, first=0, last=None, end=True):
        """Some of a transaction's events; `first` and `last` cut it where a connector was killed."""
        if begin:
            self.append(ENDS, Boundary("BEGIN", name, 0))
        for order, (table, key) in list(enumerate(changes, 1))[first:last]:
            if table in TABLES:
                self.change(table, key, name, order)
        if end:
            counts = {table: sum(t == table for t, _ in changes) for table in TABLES}
            self.append(ENDS, Boundary("END", name, 1000, tuple((t, n) for t, n in counts.items() if n)))


def random_changes(rng: random.Random, most: int = 8) -> list[tuple[str, int]]:
    count = rng.choice([0, 1, 1, 2, 3, most])
    return [(rng.choice([*TABLES, "undeclared"]), rng.randrange(6)) for _ in range(count)]


def chunks(rng: random.Random, log: Log, positions: dict[TopicPartition, int]) -> Iterator[list[tuple[Record, Event]]]:
    """What is behind the positions, partitions in any order against each other, in chunks of any size."""
    left = {p: [e for e in entries if e[0].offset >= positions.get(p, 0)] for p, entries in log.items()}
    while any(left.values()):
        chunk: list[tuple[Record, Event]] = []
        for _ in range(rng.choice([1, 2, 5])):
            place = rng.choice([p for p, entries in left.items() if entries] or [ENDS])
            count = rng.choice([1, 3, 40])
            chunk += left[place][:count]
            left[place] = left[place][count:]
        yield chunk


def assembler(clock: Clock, *, piece: int = 5000, limits: Limits | None = None) -> Assembler:
    return Assembler(piece, places=[*LINES, ENDS, OWN], tables=TABLES, limits=limits, now=clock)


def drained(target: Assembler, clock: Clock) -> list[Unit]:
    """What goes on when nothing more comes: all of it, once the time has passed, however many wait."""
    units = target.idle()
    clock.seconds += 61
    units += target.idle()
    assert not target.open
    return units


def told(units: Iterable[Unit]) -> list[list[tuple[TopicPartition, int]]]:
    """The changes of each unit that has any, by their places."""
    return [[(TopicPartition(*p.record[:2]), p.record.offset) for p in u.changes] for u in units if u.changes]


def store(positions: dict[TopicPartition, int], units: Iterable[Unit]) -> None:
    """As the engine does: the positions of whole units and of last pieces; they never go back."""
    for unit in units:
        if unit.complete:
            for place, offset in unit.positions.items():
                assert offset > positions.get(place, -1), "a position went back"
                positions[place] = offset


def history(rng: random.Random, connector: Connector, count: int) -> list[list[tuple[TopicPartition, int]]]:
    """A snapshot and transactions without a fault. Returns what the units must be."""
    for _ in range(rng.randrange(20)):
        connector.change(rng.choice(TABLES), rng.randrange(6), None, None)
    expected = []
    for number in range(count):
        before = {place: len(entries) for place, entries in connector.log.items()}
        connector.transaction(f"0-1-{number}", random_changes(rng))
        new = [(p, e) for p, entries in connector.log.items() if p != ENDS for e in entries[before[p] :]]
        new.sort(key=lambda entry: entry[1][1].order)
        if new:
            expected.append([(place, entry[0].offset) for place, entry in new])
    return expected


def of_transactions(units: Iterable[Unit]) -> list[Unit]:
    return [unit for unit in units if any(p.event.transaction for p in unit.changes)]


@pytest.mark.parametrize("round_", range(60))
def test_any_interleaving_gives_the_same_units(seed: int, round_: int) -> None:
    """Each source transaction is one unit, its changes in its own order, the transactions in theirs."""
    rng = random.Random(seed + round_)
    connector, clock = Connector(rng), Clock()
    expected = history(rng, connector, rng.randrange(1, 60))
    target = assembler(clock)
    units = [unit for chunk in chunks(rng, connector.log, {}) for unit in target.take(chunk)]
    assert told(of_transactions(units)) == expected, f"seed {seed + round_}"
    assert target.incomplete == 0
    assert not target.open
    positions: dict[TopicPartition, int] = {}
    store(positions, units)
    assert positions == {p: entries[-1][0].offset + 1 for p, entries in connector.log.items() if entries}


@pytest.mark.parametrize("round_", range(60))
def test_a_crash_between_any_units_loses_and_repeats_nothing(seed: int, round_: int) -> None:
    """Reading again from the stored positions goes on exactly behind the last unit that was applied."""
    rng = random.Random(seed + round_)
    connector, clock = Connector(rng), Clock()
    expected = history(rng, connector, 40)
    positions: dict[TopicPartition, int] = {}
    applied: list[Unit] = []
    for _ in range(rng.randrange(1, 6)):
        target = assembler(clock)
        units = [unit for chunk in chunks(rng, connector.log, positions) for unit in target.take(chunk)]
        kept = units[: rng.randrange(len(units) + 1)]
        store(positions, kept)
        applied += kept
    target = assembler(clock)
    units = [unit for chunk in chunks(rng, connector.log, positions) for unit in target.take(chunk)]
    store(positions, units)
    assert told(of_transactions(applied + units)) == expected, f"seed {seed + round_}"


def faulty(rng: random.Random, connector: Connector) -> None:
    """A connector that is killed, repeats itself, loses ends and beginnings, and tells wrong counts."""
    names = [f"0-1-{number}" for number in range(rng.randrange(2, 25))]
    bodies = {name: random_changes(rng) for name in names}
    number = 0
    while number < len(names):
        name, body = names[number], bodies[names[number]]
        fault = rng.randrange(12)
        if fault == 0:  # killed inside it; it begins again here or some transactions before
            connector.transaction(name, body, last=rng.randrange(len(body) + 1), end=False, begin=rng.random() < 0.7)
            number = max(0, number - rng.randrange(3))
            continue
        if fault == 1:
            connector.transaction(name, body, end=False)
        elif fault == 2:
            connector.transaction(name, body, begin=False)
        elif fault == 3:  # it goes on in the middle, and its end counts what was sent before
            connector.transaction(name, body, first=rng.randrange(len(body) + 1))
        elif fault == 4:
            connector.transaction(name, [*body, ("item", 1)], last=len(body))
        elif fault == 5:
            connector.transaction(name, body)
            connector.transaction(name, [], begin=False)
        elif fault == 6:
            connector.append(ENDS, Boundary("BEGIN", name, 0))
            connector.append(PLACES["item"][0], Truncate("item", 1000, name, 1, ends=True))
        elif fault == 7:
            connector.append(rng.choice([*LINES, ENDS]), Ignored("tombstone"))
            connector.change(rng.choice(TABLES), 1, None, None)
        else:
            connector.transaction(name, body)
        number += 1


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("round_", range(100))
def test_whatever_a_connector_leaves_out_or_repeats(seed: int, round_: int, small: bool) -> None:
    """Everything goes on in the end, exactly once, in its partition's order, over crashes; nothing waits for ever."""
    rng = random.Random(seed + round_)
    connector, clock = Connector(rng), Clock()
    faulty(rng, connector)
    limits = Limits(events=4, size=60, transactions=3) if small else None
    positions: dict[TopicPartition, int] = {}
    applied: list[Unit] = []
    for crash in (True, rng.random() < 0.5, False):
        target = assembler(clock, piece=1 if small else 5000, limits=limits)
        units = [unit for chunk in chunks(rng, connector.log, positions) for unit in target.take(chunk)]
        units += drained(target, clock)
        if crash:
            units = units[: rng.randrange(len(units) + 1)]
            while units and not units[-1].complete:
                units.pop()
        check_pieces(units)
        store(positions, units)
        applied += units
    seen: dict[TopicPartition, list[int]] = {place: [] for place in connector.log}
    for unit in applied:
        for placed in unit.changes:
            seen[TopicPartition(*placed.record[:2])].append(placed.record.offset)
    for place, entries in connector.log.items():
        changes = [record.offset for record, event in entries if isinstance(event, Change | Truncate)]
        assert seen[place] == changes, f"seed {seed + round_}, {place}"
    assert positions == {p: entries[-1][0].offset + 1 for p, entries in connector.log.items() if entries}


def test_what_waits_in_a_row_does_not_wait_in_turn() -> None:
    """A killed connector announces again what was taken in already: all of it goes on after one wait, not before."""
    connector, clock = Connector(random.Random(1)), Clock()
    names = [f"0-1-{number}" for number in range(30)]
    for name in names:
        connector.transaction(name, [("item", 1), ("rental", 1)])
    for name in names:
        connector.transaction(name, [("item", 1), ("rental", 1)], last=0)
    connector.transaction("0-1-99", [("item", 2)], last=1)
    target = assembler(clock)
    units = [unit for chunk in chunks(connector.rng, connector.log, {}) for unit in target.take(chunk)]
    clock.seconds += Limits().patience - 0.1
    units += target.idle()
    assert target.open
    assert all(not unit.changes or unit.changes[0].event.transaction != "0-1-99" for unit in units)
    clock.seconds += 0.2
    units += target.idle()
    assert not target.open
    assert units[-1].changes[0].event.transaction == "0-1-99"
    assert sum(len(unit.changes) for unit in units) == 61


def check_pieces(units: Sequence[Unit]) -> None:
    """The pieces of a transaction follow each other: each but the first continues one, and the last is complete."""
    begun = False
    for unit in units:
        assert unit.continued == begun
        begun = not unit.complete
    assert not begun
