"""Guarded updates, the same for every family of databases: what is written together, and what came of each.

    UPDATE table SET column = new WHERE key IN (…) AND column IS NOT DISTINCT FROM the value known

Rows with the same values go in one statement. Where it meets fewer rows than it names, somebody was newer, or it is
already so: the rows are looked at, and nothing is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from connectors.errors import RowtideError

MOST_KEYS = 500  # of one statement: its locks are held for milliseconds

Row = tuple[Any, ...]


class WriteBackBlockedError(RowtideError):
    """The source refuses write-back as a whole, for want of a right, a table or a column; a person must act."""


class RowsBusyError(Exception):
    """Somebody holds the rows: to be tried again. The text holds no values."""


class ValuesRefusedError(Exception):
    """The source refuses the values of a statement; nothing of it was done. The text holds no values."""


@dataclass(frozen=True)
class Target:
    """Where updates go.

    Args:
        table: the source's table.
        key: its key's columns.
        set: the columns that are written.
        guard: the columns that must still hold the values known.
    """

    table: str
    key: tuple[str, ...]
    set: tuple[str, ...]
    guard: tuple[str, ...]


class Update(NamedTuple):
    """The values of one row, in the order of the target's columns, as Python values; None is NULL."""

    key: Row
    new: Row
    known: Row


class Outcome(NamedTuple):
    """What came of an update.

    Args:
        state: `done`: the source holds the values. `newer`: it holds others than were known, and keeps them. `gone`:
            it has no such row. `busy`: to be tried again. `refused`: it does not take the values.
        reason: why, without values.
    """

    state: Literal["done", "newer", "gone", "busy", "refused"]
    reason: str | None = None


class Written(NamedTuple):
    """The outcome of each update, in their order, and how many rows of the source changed."""

    outcomes: list[Outcome]
    changed: int


class FlagWriter(Protocol):
    """Writes to one source; connects when it must. For one thread."""

    def write(self, target: Target, updates: Sequence[Update]) -> Written:
        """Write what still may be written, each statement in a transaction of its own.

        Raises SourceUnavailableError where the source is away, after which any part may have been done: writing it
        again is harmless. Raises WriteBackBlockedError where a person must act.
        """

    def close(self) -> None:
        """Let the connection go."""


class Talker(Protocol):
    """What a family of databases does; each call is one statement, committed.

    Both raise RowsBusyError and ValuesRefusedError beside what `FlagWriter.write` raises.
    """

    def update(self, target: Target, keys: Sequence[Row], new: Row, known: Row) -> int:
        """Run the guarded update; how many rows it changed."""

    def look(self, target: Target, keys: Sequence[Row], new: Row) -> Mapping[int, bool]:
        """The rows that are there, by their place among the keys: whether they hold the new values."""


_DONE = Outcome("done")
_NEWER = Outcome("newer", "somebody wrote a newer value")
_GONE = Outcome("gone", "the source has no such row")


def write(talker: Talker, target: Target, updates: Sequence[Update]) -> Written:
    """See `FlagWriter.write`."""
    outcomes: list[Outcome] = [_DONE] * len(updates)
    changed = 0
    for places in _together(updates):
        changed += _write_group(talker, target, updates, places, outcomes)
    return Written(outcomes, changed)


def _together(updates: Sequence[Update]) -> Iterator[list[int]]:
    """The places of updates with the same values, at most MOST_KEYS at once, ordered by key: no two writers deadlock."""
    groups: dict[tuple[Row, Row], list[int]] = {}
    for place, update in enumerate(updates):
        groups.setdefault((update.new, update.known), []).append(place)
    for places in groups.values():
        places.sort(key=lambda place: [str(part) for part in updates[place].key])
        for start in range(0, len(places), MOST_KEYS):
            yield places[start : start + MOST_KEYS]


def _write_group(
    talker: Talker, target: Target, updates: Sequence[Update], places: Sequence[int], outcomes: list[Outcome]
) -> int:
    """Write updates of the same values; those whose values are refused are found by halving. Returns rows changed."""
    keys, first = [updates[place].key for place in places], updates[places[0]]
    try:
        changed = talker.update(target, keys, first.new, first.known)
        if changed < len(keys):
            found = talker.look(target, keys, first.new)
            for number, place in enumerate(places):
                outcomes[place] = _GONE if number not in found else (_DONE if found[number] else _NEWER)
    except RowsBusyError as error:
        for place in places:
            outcomes[place] = Outcome("busy", str(error))
        return 0
    except ValuesRefusedError as error:
        if len(places) == 1:
            outcomes[places[0]] = Outcome("refused", str(error))
            return 0
        half = len(places) // 2
        return sum(_write_group(talker, target, updates, part, outcomes) for part in (places[:half], places[half:]))
    return changed


def retried_once(run: Callable[[], Written], lost: type[Exception]) -> Written:
    """Run; where the connection was lost, once more: a server closes what was idle for long."""
    try:
        return run()
    except lost:
        return run()
