"""Where a batch is cut: which of its units may go together in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from consumers.engine.units import Unit

Times = Sequence[int | None]


def times_of(units: Sequence[Unit], clock: int | None) -> list[int | None]:
    """The business time of each unit, in µs: never before an earlier one, never before the clock."""
    times: list[int | None] = []
    moment = clock
    for unit in units:
        own = None if unit.ts_ms is None else unit.ts_ms * 1000
        if own is not None and (moment is None or own > moment):
            moment = own
        times.append(moment)
    return times


def before_due(times: Times, due: int) -> int:
    """How many units come before a due time; at least one."""
    return max(1, next((n for n, moment in enumerate(times) if moment is not None and moment >= due), len(times)))


def before_parameters(units: Sequence[Unit]) -> int:
    """Where every state counts, a change of the parameters goes alone: it may end a kept row like midnight does."""
    for number, unit in enumerate(units):
        if any(placed.event.table == "params" for placed in unit.changes):
            return max(number, 1)
    return len(units)


def before_foreign_keys(units: Sequence[Unit]) -> int:
    """A unit that tells foreign keys begins a transaction: they hold from there on."""
    return next((n for n, unit in enumerate(units) if n and unit.foreign_keys is not None), len(units))


def before_first_time(times: Times) -> int:
    """Units before the first that tells a time are computed at none, and go by themselves."""
    if times[0] is not None:
        return len(times)
    return next((n for n, moment in enumerate(times) if moment is not None), len(times))
