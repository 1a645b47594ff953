"""What a unit is without the changes that cannot be applied: these are parked whole, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import psycopg

from connectors.errors import RowtideError
from connectors.event import Change, Truncate
from consumers.engine.mirror import MissingRowsError
from consumers.engine.units import Parked, Placed, Unit

MISSING = "it leaves out unchanged values of a row that the mirror does not have; take a new snapshot of the table"


def plain(error: psycopg.Error) -> str:
    """What is wrong without the value that is wrong."""
    kind = type(error).__name__
    column = error.diag.column_name
    return f"{kind}{f' in column {column}' if column else ''}"


def without(unit: Unit, refused: Mapping[int, str]) -> Unit:
    """The unit without some of its changes, by number: they are parked, each with its reason."""
    return replace(
        unit,
        changes=[placed for number, placed in enumerate(unit.changes) if number not in refused],
        parked=[*unit.parked, *(Parked(unit.changes[n].record, reason) for n, reason in refused.items())],
    )


def without_missing(unit: Unit, error: MissingRowsError) -> Unit:
    """The unit without the changes that leave out values of rows which the mirror does not have."""

    def missing(placed: Placed) -> bool:
        event = placed.event
        return isinstance(event, Change) and event.table == error.table and event.key in error.keys

    return without(unit, {n: MISSING for n, placed in enumerate(unit.changes) if missing(placed)})


def without_refused(refusal: Callable[[Change | Truncate], str | None], units: Sequence[Unit]) -> list[Unit]:
    """The units of a batch that the mirror refuses, without the changes that it refuses each for itself."""
    result = []
    for unit in units:
        reasons = {number: refusal(placed.event) for number, placed in enumerate(unit.changes)}
        refused = {number: reason for number, reason in reasons.items() if reason is not None}
        result.append(without(unit, refused) if refused else unit)
    if all(a is b for a, b in zip(result, units, strict=True)):
        raise RowtideError(
            "The mirror refuses a batch whose events it accepts one by one.",
            hint="Please report this with the log of PostgreSQL.",
        )
    return result
