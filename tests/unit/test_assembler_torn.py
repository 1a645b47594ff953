"""A connector that is killed goes back and tells transactions again: none is ever seen by half, and nothing waits for ever."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from assembling import Clock, taken

from connectors.event import Boundary, Change, Event, Heartbeat, Truncate
from connectors.log import Record, TopicPartition
from consumers.engine.assembler import Assembler
from consumers.engine.partition import Waits
from consumers.engine.units import Unit

PLACE, OTHER = TopicPartition("t", 0), TopicPartition("other", 0)
WAITS = Waits()


def begin(number: int, ts_ms: int | None = None) -> Boundary:
    return Boundary("BEGIN", str(number), 1000 * number if ts_ms is None else ts_ms)


def end(number: int, ts_ms: int | None = None) -> Boundary:
    return Boundary("END", str(number), 1000 * number if ts_ms is None else ts_ms)


def change(number: int, order: int | None, key: str = "") -> Change:
    key = key or f"{number}-{order}"
    return Change("item", "u", (key,), (key,), 1000 * number, str(number), order=order)


def whole(*numbers: int) -> list[Event]:
    """Transactions of two changes each."""
    return [event for n in numbers for event in (begin(n), change(n, 1), change(n, 2), end(n))]


class Topic(NamedTuple):
    """A topic that grows, and who puts its transactions together."""

    target: Assembler
    clock: Clock
    events: list[Event]

    def grow(self, *events: Event) -> list[Unit]:
        first = len(self.events)
        self.events.extend(events)
        return taken(self.target, PLACE, events, first)


@pytest.fixture
def topic() -> Topic:
    clock = Clock()
    return Topic(Assembler(now=clock), clock, [])


def keys(units: list[Unit]) -> list[list[str]]:
    return [[placed.event.key[0] for placed in unit.changes] for unit in units]  # type: ignore[union-attr]


def test_half_a_transaction_is_seen_with_its_repetition(topic: Topic) -> None:
    """BEGIN, half, the ones before once more, and then the torn one whole: one unit."""
    assert len(topic.grow(*whole(1, 2))) == 2
    assert topic.grow(begin(3), change(3, 1)) == []
    assert topic.grow(*whole(1), *whole(2)) == []
    assert topic.grow(begin(3), change(3, 1), change(3, 2)) == []
    (unit,) = topic.grow(end(3))
    assert keys([unit]) == [["3-1", "1-1", "1-2", "2-1", "2-2", "3-1", "3-2"]]
    assert (unit.positions, unit.complete, unit.continued) == ({PLACE: len(topic.events)}, True, False)
    assert not topic.target.open
    assert len(topic.grow(*whole(4, 5))) == 2
    assert topic.target.incomplete == 0


def test_a_connector_killed_again_while_it_repeats(topic: Topic) -> None:
    """The furthest transaction is the one that is waited for, wherever else it breaks off."""
    topic.grow(*whole(1, 2))
    again: list[Event] = [*whole(1), begin(2), change(2, 1), *whole(1, 2), begin(3), change(3, 1), *whole(1, 2)]
    assert topic.grow(begin(3), change(3, 1), *again) == []
    (unit,) = topic.grow(*whole(3))
    assert unit.positions == {PLACE: len(topic.events)}
    assert topic.target.incomplete == 0


def test_it_goes_on_in_the_middle(topic: Topic) -> None:
    """Debezium may have stored its place within the transaction: its beginning comes again or not, and then its rest."""
    assert topic.grow(begin(1), change(1, 1), begin(1)) == []
    assert keys(topic.grow(change(1, 2), end(1))) == [["1-1", "1-2"]]
    assert topic.grow(begin(2), change(2, 1)) == []
    assert keys(topic.grow(change(2, 2), end(2))) == [["2-1", "2-2"]]


def test_transactions_told_again_are_seen_when_all_are(topic: Topic) -> None:
    """Else rows of an earlier state would stand beside later ones: half of the later transactions would be seen."""
    assert len(topic.grow(*whole(1, 2, 3))) == 3
    assert topic.grow(*whole(2)) == []
    (unit,) = topic.grow(*whole(3))
    assert keys([unit]) == [["2-1", "2-2", "3-1", "3-2"]]
    assert len(topic.grow(*whole(3))) == 1
    assert len(topic.grow(*whole(4))) == 1


def test_a_name_used_anew_is_no_repetition(topic: Topic) -> None:
    """A source that was set up anew numbers its transactions from the beginning, at other times."""
    topic.grow(*whole(1, 2, 3))
    assert len(topic.grow(begin(1, 9000), change(9, 1), end(1, 9000))) == 1


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_restart_in_the_middle_begins_before_the_half(topic: Topic, read: int) -> None:
    """What was read of it is not stored behind; who starts there remembers nothing before, and still waits."""
    units = topic.grow(*whole(1, 2), *[begin(3), change(3, 1), *whole(1)][: 2 + 2 * read])
    position = units[-1].positions[PLACE]
    assert position == len(whole(1, 2))
    topic.events[position:] = [begin(3), change(3, 1), *whole(1, 2, 3)]
    anew = Assembler(now=topic.clock)
    (unit,) = taken(anew, PLACE, topic.events[position:], position)
    assert unit.positions == {PLACE: len(topic.events)}
    assert anew.incomplete == 0


@pytest.mark.parametrize("first", [0, 1])
def test_what_does_not_come_again_goes_on_with_the_first_later_one(topic: Topic, first: int) -> None:
    """The connector was set up anew, or its transactions end without telling it: at once, and counted."""
    topic.grow(*whole(*range(first, 2)))
    assert topic.grow(begin(2), change(2, 1)) == []
    later = 2 + 1 if first == 1 else 100  # who has just started and remembers nothing allows for a minute
    half, new = topic.grow(*whole(1, later))[-2:]
    assert keys([half, new])[1] == [f"{later}-1", f"{later}-2"]
    assert "2-1" in keys([half])[0]
    assert new.positions == {PLACE: len(topic.events)}
    assert half.positions == {PLACE: len(topic.events) - 4}
    assert topic.target.incomplete == 1
    assert not topic.target.open


def test_a_silent_connector_is_waited_for(topic: Topic) -> None:
    """Longer than Connect takes to move it to another worker; then its half goes on, counted."""
    topic.grow(*whole(1), begin(2), change(2, 1))
    topic.clock.seconds += WAITS.silence - 0.1
    assert topic.target.idle() == []
    assert topic.target.open
    topic.clock.seconds += 0.2
    (unit,) = topic.target.idle()
    assert (keys([unit]), unit.positions) == ([["2-1"]], {PLACE: len(topic.events)})
    assert topic.target.incomplete == 1
    assert not topic.target.open
    assert len(topic.grow(*whole(2))) == 1  # and where it comes after all, it is one like any other


@pytest.mark.parametrize("rest", [whole(1), [begin(1), change(1, 1)], [begin(1)]])
def test_a_connector_that_is_silent_while_it_repeats(topic: Topic, rest: list[Event]) -> None:
    """Nothing new is held back by it, so that it may take as long; the time counts from its last word."""
    topic.grow(*whole(1), begin(2), change(2, 1))
    topic.clock.seconds += WAITS.silence - 0.1
    assert topic.grow(*rest) == []
    topic.clock.seconds += WAITS.silence - 0.1
    assert topic.target.idle() == []
    topic.clock.seconds += 0.2
    (unit,) = topic.target.idle()
    assert unit.positions == {PLACE: len(topic.events)}
    assert topic.target.incomplete == 1


def test_what_may_be_new_is_not_held_back_for_long(topic: Topic) -> None:
    """A transaction that nobody remembers, not later than what is open, waits for half a minute."""
    topic.grow(*whole(1), begin(5), change(5, 1))
    assert topic.grow(*whole(4)) == []
    topic.clock.seconds += WAITS.patience - 0.1
    assert topic.target.idle() == []
    topic.clock.seconds += 0.2
    assert keys(topic.target.idle()) == [["5-1", "4-1", "4-2"]]


@pytest.mark.parametrize("piece", [5000, 3])
def test_it_ends_while_the_log_never_does(piece: int) -> None:
    """New transactions at a time that does not pass keep coming: bounded by time, and by number where time is short."""
    for waits, seconds in ((WAITS, 0.1), (WAITS._replace(transactions=50), 0.0)):
        clock = Clock()
        topic = Topic(Assembler(piece, now=clock, waits=waits), clock, [])
        topic.grow(*whole(1), begin(5), change(5, 1))
        number, units = 100, list[Unit]()
        while not (units and units[-1].complete):
            number += 1
            clock.seconds += seconds
            units += topic.grow(begin(number, 5000), change(5, 2), end(number, 5000))
            assert number < 1000
        assert topic.target.incomplete == 1
        assert units[-1].positions[PLACE] == len(topic.events)
        check_pieces(units)


def test_other_changes_are_no_news_of_it(topic: Topic) -> None:
    """Who writes into the topic without transactions does not prolong what waits."""
    topic.grow(*whole(1), begin(2), change(2, 1))
    units: list[Unit] = []
    for _ in range(100):
        topic.clock.seconds += 10
        units += topic.grow(Change("item", "u", ("x",), ("x",), 1))
    assert len(units[0].changes) == WAITS.silence / 10 + 1
    assert topic.target.incomplete == 1
    assert not topic.target.open


@pytest.mark.parametrize("started", [0.0, 1e6])
def test_changes_need_not_tell_their_transaction(topic: Topic, started: float) -> None:
    """They stand between its boundaries; however long the machine has been running."""
    topic.clock.seconds = started
    plain = [Change("item", "u", (key,), (key,), 1) for key in ("1", "2", "3")]
    assert topic.grow(begin(1), plain[0]) == []
    topic.clock.seconds += WAITS.silence - 1
    assert topic.grow(plain[1]) == []
    topic.clock.seconds += WAITS.silence - 1
    assert keys(topic.grow(plain[2], end(1))) == [["1", "2", "3"]]


def test_our_own_capture_goes_on_where_it_broke_off(topic: Topic) -> None:
    """However long it takes, for it tells every message once."""
    topic.grow(begin(1), change(1, None))
    topic.clock.seconds += 1e6
    assert topic.target.idle() == []
    assert keys(topic.grow(change(1, None, key="2"), end(1))) == [["1-None", "2"]]
    assert topic.grow(begin(2)) == []  # of another one: ours tells no beginning without a change
    topic.clock.seconds += WAITS.silence
    assert len(topic.target.idle()) == 1


def test_a_large_one_comes_in_pieces_of_one_unit() -> None:
    """What does not fit in memory is hidden in the database's transaction until the torn one has ended."""
    clock = Clock()
    topic = Topic(Assembler(3, places=[PLACE, OTHER], now=clock), clock, [])
    topic.grow(*whole(*range(1, 10)))
    units = topic.grow(begin(10), *(change(10, order) for order in range(1, 6)))
    units += topic.grow(*whole(*range(5, 10)), begin(10), *(change(10, order) for order in range(1, 6)))
    aside = topic.target.take([(Record(*OTHER, 0, 1, None, None), Heartbeat(1))])
    assert aside == []  # positions of others must not be stored before the last piece
    units += topic.grow(change(10, 6), end(10))
    check_pieces(units[:-1])
    assert sum(len(unit.changes) for unit in units) == 5 + 10 + 6
    assert units[-2].positions == {PLACE: len(topic.events)}
    assert units[-1].positions == {OTHER: 1}


def test_pieces_do_not_hold_up_other_partitions_for_ever() -> None:
    """Though the log never comes to its end, for the others go on."""
    clock = Clock()
    topic = Topic(Assembler(3, places=[PLACE, OTHER], now=clock), clock, [])
    topic.grow(begin(1), *(change(1, order) for order in range(1, 6)))
    units: list[Unit] = []
    for number in range(100):
        clock.seconds += 10
        units += topic.target.take([(Record(*OTHER, number, 1, None, None), Heartbeat(1))])
    assert topic.target.incomplete == 1
    assert [unit.complete for unit in units] == [True] * 101
    assert not topic.target.open


def test_a_truncate_that_ends_its_transaction(topic: Topic) -> None:
    """Debezium tells no end of it in MySQL: told again it ends only itself, unless it was the torn one."""

    def truncate(number: int) -> list[Event]:
        return [begin(number), Truncate("item", 1, str(number), 1, ends=True)]

    assert len(topic.grow(*whole(1), *truncate(2))) == 2
    assert topic.grow(begin(3), change(3, 1), *whole(1), *truncate(2)) == []
    assert len(topic.grow(*whole(3))) == 1
    assert topic.grow(begin(4), *whole(1), *truncate(2), *whole(3)) == []
    assert len(topic.grow(*truncate(4))) == 1
    assert topic.target.incomplete == 0


def check_pieces(units: list[Unit]) -> None:
    """The pieces of a unit follow each other."""
    for before, unit in pairwise(units):
        assert unit.continued != before.complete
    assert units[-1].complete
