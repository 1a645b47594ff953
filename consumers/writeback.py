"""What a domain writes back: `[write_back.NAME]` in domain.toml, read and checked.

A pending model says what the source should hold and does not: its rows are written until they disappear, which the
written value's own change event makes them do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.errors import RowtideError
from connectors.table import Table

_ENTRIES = {"table", "model", "set", "guard", "values", "defaults"}
_EXAMPLE = 'table = "item", model = "pending_status", set = { status = "new" }, guard = { status = "known" }'
_MOST_VALUES = 64


class WriteBackError(RowtideError):
    """A `[write_back]` entry that cannot be used; the message names it and what is wrong."""


@dataclass(frozen=True)
class WriteBack:
    """Columns of a source table that are written from a pending model.

    Args:
        name: the entry's name; also that of the sink in `rowtide.delivery`.
        table: the source table.
        model: the pending model. Its key is the table's key, by the same names.
        set: source column -> the model's column with the value to write.
        guard: source column -> the model's column with the value the decision was made on. A row is written only
            where the source still holds all of them.
        values: source column -> the only values it takes, where the entry tells them.
        defaults: source column -> what new rows of the source get in it, where the column is added to the source.
    """

    name: str
    table: Table
    model: str
    set: Mapping[str, str]
    guard: Mapping[str, str]
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)


def read_write_backs(
    path: Path, entries: Any, tables: Mapping[str, Table], models: Mapping[str, tuple[str, ...]]
) -> dict[str, WriteBack]:
    """The entries, by name. Raises WriteBackError.

    Args:
        path: of domain.toml, for messages.
        entries: the table `write_back` of that file.
        tables: the source tables.
        models: the models' keys, by name.
    """
    if not isinstance(entries, Mapping):
        raise WriteBackError(f"{path}: write_back is no table.", hint=f"Write [write_back.NAME] with {_EXAMPLE}.")
    found = {name: _read(_Place(path, name), name, entry, tables, models) for name, entry in entries.items()}
    written: dict[tuple[str, str], str] = {}
    for entry in found.values():
        for column in entry.set:
            other = written.setdefault((entry.table.name, column), entry.name)
            if other != entry.name:
                raise _Place(path, entry.name).error(
                    f"sets {entry.table.name}.{column}, which [write_back.{other}] sets too",
                    "One model decides about a column: merge the two.",
                )
    return found


@dataclass(frozen=True)
class _Place:
    path: Path
    name: str

    def error(self, what: str, hint: str) -> WriteBackError:
        return WriteBackError(f"{self.path}: [write_back.{self.name}] {what}.", hint=hint)


def _read(
    place: _Place, name: str, entry: Any, tables: Mapping[str, Table], models: Mapping[str, tuple[str, ...]]
) -> WriteBack:
    if not isinstance(entry, Mapping):
        raise place.error("is no table", f"Write [write_back.{name}] with {_EXAMPLE}.")
    if unknown := sorted(set(entry) - _ENTRIES):
        raise place.error(f"has the unknown entry “{unknown[0]}”", f"Known: {', '.join(sorted(_ENTRIES))}.")
    if missing := [part for part in ("table", "model", "set", "guard") if part not in entry]:
        raise place.error(f"has no {missing[0]}", f"For example: {_EXAMPLE}.")
    if entry["table"] not in tables:
        raise place.error(
            f"names the table “{entry['table']}”, which source.sql does not declare",
            f"Declared: {', '.join(sorted(tables))}.",
        )
    if entry["model"] not in models:
        raise place.error(
            f"names the model “{entry['model']}”, which is not there", f"There are: {', '.join(sorted(models))}."
        )
    table, key = tables[entry["table"]], models[entry["model"]]
    if set(key) != set(table.key):
        raise place.error(
            f"cannot find rows of {table.name}: its key is ({', '.join(table.key)}), that of the model "
            f"{entry['model']} ({', '.join(key)})",
            "Give the model the table's key, by the same names (SELECT … AS name).",
        )
    sets, guard = _columns(place, "set", entry["set"], table), _columns(place, "guard", entry["guard"], table)
    if part := next((column for column in sets if column in table.key), None):
        raise place.error(f"sets {part}, a part of the key", "A key is not written back; set other columns.")
    if open_ := [column for column in sets if column not in guard]:
        raise place.error(
            f"does not guard “{open_[0]}”: a value that a person wrote meanwhile would be lost",
            f'Add it to guard, with the model\'s column that holds the value known: {open_[0]} = "known".',
        )
    return WriteBack(
        name,
        table,
        str(entry["model"]),
        sets,
        guard,
        _values(place, entry.get("values", {}), sets),
        _defaults(place, entry.get("defaults", {}), sets),
    )


def _columns(place: _Place, part: str, entry: Any, table: Table) -> dict[str, str]:
    if not isinstance(entry, Mapping) or not entry or not all(isinstance(v, str) for v in entry.values()):
        raise place.error(
            f"has no usable {part}", f'Write {part} = {{ COLUMN = "model\'s column" }}. For example: {_EXAMPLE}.'
        )
    for column in entry:
        if column not in table.names:
            raise place.error(
                f"{part}s the column “{column}”, which source.sql does not declare for {table.name}",
                f"Declare it there (and under [source.optional] if sources may lack it): {', '.join(table.names)}.",
            )
    return dict(entry)


def _values(place: _Place, entry: Any, sets: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    if not isinstance(entry, Mapping):
        raise place.error("has no usable values", 'Write values = { COLUMN = ["one", "other"] }.')
    found = {}
    for column, values in entry.items():
        if column not in sets:
            raise place.error(f"tells values of “{column}”, which it does not set", f"It sets: {', '.join(sets)}.")
        usable = isinstance(values, list) and all(isinstance(v, str) and v and "\\" not in v for v in values)
        if not usable or not 0 < len(values) <= _MOST_VALUES or len(set(values)) != len(values):
            raise place.error(
                f"has no usable values for “{column}”",
                f"Write 1 to {_MOST_VALUES} different texts, not empty and without backslashes.",
            )
        found[column] = tuple(values)
    return found


def _defaults(place: _Place, entry: Any, sets: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(entry, Mapping) or not all(isinstance(v, str) and "\\" not in v for v in entry.values()):
        raise place.error("has no usable defaults", 'Write defaults = { COLUMN = "value" }, without backslashes.')
    if column := next((column for column in entry if column not in sets), None):
        raise place.error(f"tells a default of “{column}”, which it does not set", f"It sets: {', '.join(sets)}.")
    return dict(entry)
