"""What a source table looks like: its columns with PostgreSQL types, and its key."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        name: as declared; sources are matched without regard to case, see `spelled`.
        type: the PostgreSQL type in its canonical spelling, as `format_type` prints it
            (`integer`, `numeric(5,2)`, `character varying(45)`, `timestamp without time zone`, `text[]`).
        nullable: whether the declaration allows NULL.
        optional: whether the source may lack the column; it then reads as NULL.
    """

    name: str
    type: str
    nullable: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A source table. `key` names the primary key's columns in order; it is never empty."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in declared order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def key_positions(self) -> tuple[int, ...]:
        """Where the key's columns stand among the columns."""
        return tuple(self.names.index(name) for name in self.key)


def spelled(declared: Iterable[str], present: Collection[str]) -> dict[str, str]:
    """Declared names as a source spells them, those that it has: the same, else one that differs by case alone."""
    lower: dict[str, list[str]] = {}
    for name in present:
        lower.setdefault(name.lower(), []).append(name)
    found = {}
    for name in declared:
        alike = [name] if name in present else lower.get(name.lower(), [])
        if len(alike) == 1:
            found[name] = alike[0]
    return found
