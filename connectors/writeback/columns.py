"""Which columns a source must have to be written back to, and whether one that is there will do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.errors import RowtideError

_FAMILIES = {
    "smallint": "integer",
    "bigint": "integer",
    "numeric": "number",
    "real": "number",
    "double precision": "number",
    "character varying": "text",
    "character": "text",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamp",
}


class ColumnsUnfitError(RowtideError):
    """A column of the source cannot hold what is to be written to it."""


@dataclass(frozen=True)
class Wanted:
    """A column that is written.

    Args:
        table: the source's.
        column: its name.
        type: as declared in source.sql: PostgreSQL's.
        values: the only values it takes; empty: any.
        default: what new rows get in it, where it is added; rows that are there keep NULL, for no change is told of them.
    """

    table: str
    column: str
    type: str
    values: tuple[str, ...] = ()
    default: str | None = None

    def require_labels(self, type_: str, labels: Sequence[str]) -> None:
        """Raise ColumnsUnfitError where an enumeration lacks a value. Without declared values none is needed."""
        if lacking := [value for value in self.values if value not in labels]:
            raise unfit(self, type_, f"does not take the value “{lacking[0]}”")

    def require_family(self, type_: str) -> None:
        """Raise ColumnsUnfitError where a type, in PostgreSQL's words, is of another kind or too short."""
        if family(type_) != family(self.type):
            raise unfit(self, type_, f"is of another kind than {self.type}")
        size = re.search(r"\((\d+)\)", type_)
        longest = max((len(value) for value in self.values), default=0)
        if family(type_) == "text" and size and int(size[1]) < longest:
            raise unfit(self, type_, f"is shorter than the longest value ({longest} characters)")


def family(type_: str) -> str:
    """The kind of a type: values of one kind can be compared and assigned."""
    base = re.sub(r"\(.*?\)", "", type_).strip()
    return _FAMILIES.get(base, base)


def unfit(wanted: Wanted, type_: str, why: str) -> ColumnsUnfitError:
    """The error for a column that is there and will not do."""
    return ColumnsUnfitError(
        f"The source's column {wanted.table}.{wanted.column} ({type_}) {why}: it cannot be written back to.",
        hint="Change its type in the source, or have another column written: [write_back] in domain.toml, docs/write-back.md.",
    )
