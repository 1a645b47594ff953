"""The source's foreign keys as an instance keeps them, and which of them its mirror can follow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connectors.event import ForeignKey, ForeignKeys
from connectors.pipe import Pipe
from connectors.table import Table
from consumers.engine.sqltext import quote, quoted

EFFECTIVE = frozenset({"CASCADE", "SET NULL"})
_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric"})
_TEXTS = frozenset({"text", "character varying", "character"})


def store(pipe: Pipe, instance: str, told: ForeignKeys, tables: Mapping[str, Table]) -> None:
    """Keep what the source told from here on, within the caller's transaction, and index what cascades look for."""
    pipe.later("DELETE FROM rowtide.foreign_key WHERE instance = $1", [instance])
    for key in {(key.table, key.name): key for key in told.keys}.values():
        pipe.later(
            'INSERT INTO rowtide.foreign_key (instance, name, "table", columns, parent, parent_columns, on_delete, '
            "on_update) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                instance,
                key.name,
                key.table,
                list(key.columns),
                key.parent,
                list(key.parent_columns),
                key.on_delete,
                key.on_update,
            ],
        )
    for link in links(tables, told.keys)[0]:
        _index(pipe, link)


def load(pipe: Pipe, instance: str) -> tuple[ForeignKey, ...]:
    """What `store` kept."""
    rows = pipe.now(
        'SELECT name, "table", columns, parent, parent_columns, on_delete, on_update FROM rowtide.foreign_key '
        'WHERE instance = $1 ORDER BY "table", name',
        [instance],
    )
    return tuple(ForeignKey(n, t, tuple(c), p, tuple(pc), d, u) for n, t, c, p, pc, d, u in rows)


@dataclass(frozen=True)
class Link:
    """A foreign key that the mirror can follow, by positions of columns.

    Args:
        child_places, parent_places: where the referring and the referred columns stand, in the same order.
    """

    number: int
    child: Table
    parent: Table
    child_places: tuple[int, ...]
    parent_places: tuple[int, ...]
    on_delete: str
    on_update: str

    @property
    def deletes(self) -> bool:
        """Whether the deletion of a parent changes its children."""
        return self.on_delete in EFFECTIVE

    @property
    def updates(self) -> bool:
        """Whether the change of what a parent is referred to by changes its children."""
        return self.on_update in EFFECTIVE

    @property
    def by_key(self) -> bool:
        """Whether the parent is referred to by columns of its primary key alone."""
        return set(self.parent_places) <= set(self.parent.key_positions)


@dataclass(frozen=True)
class Gap:
    """A foreign key with effects that the mirror cannot follow: its rows may come to differ from the source's."""

    name: str
    table: str
    reason: str
    hint: str


def links(tables: Mapping[str, Table], keys: Iterable[ForeignKey]) -> tuple[list[Link], list[Gap]]:
    """The foreign keys with effects on declared tables: those that can be followed, and those that cannot."""
    by_lower = {name.lower(): table for name, table in tables.items()}
    found: list[Link] = []
    gaps: list[Gap] = []
    for key in keys:
        child, parent = by_lower.get(key.table.lower()), by_lower.get(key.parent.lower())
        if child is None or not {key.on_delete, key.on_update} & EFFECTIVE:
            continue
        if parent is None:
            gaps.append(
                Gap(
                    key.name,
                    child.name,
                    f"its parent {key.parent} is not declared",
                    f"Declare {key.parent} in source.sql.",
                )
            )
            continue
        child_places, parent_places = _places(child, key.columns), _places(parent, key.parent_columns)
        if child_places is None or parent_places is None:
            table, columns = (child, key.columns) if child_places is None else (parent, key.parent_columns)
            reason = f"{table.name} is declared without {' and '.join(columns)}"
            gaps.append(Gap(key.name, child.name, reason, f"Declare those columns of {table.name} in source.sql."))
            continue
        pairs = zip(child_places, parent_places, strict=True)
        if any(_family(child.columns[c].type) != _family(parent.columns[p].type) for c, p in pairs):
            gaps.append(
                Gap(key.name, child.name, "its columns are declared with types that differ", "Declare the same types.")
            )
            continue
        found.append(Link(len(found), child, parent, child_places, parent_places, key.on_delete, key.on_update))
    return found, gaps


def _places(table: Table, columns: Iterable[str]) -> tuple[int, ...] | None:
    lower = {name.lower(): place for place, name in enumerate(table.names)}
    places = [lower.get(column.lower()) for column in columns]
    return None if None in places else tuple(place for place in places if place is not None)


def _family(type_: str) -> str:
    base = re.sub(r"\(.*?\)", "", type_)
    return "number" if base in _NUMBERS else "text" if base in _TEXTS else base


def _index(pipe: Pipe, link: Link) -> None:
    """An index on the referring columns, where none begins with the first of them."""
    columns = [link.child.names[place] for place in link.child_places]
    known = pipe.now(
        "SELECT EXISTS (SELECT 1 FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid "
        "AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass($1) AND a.attname = $2 AND i.indpred IS NULL)",
        [quote(link.child.name), columns[0]],
    )
    if known != [(True,)]:
        name = "fk_" + hashlib.sha256(repr((link.child.name, columns)).encode()).hexdigest()[:16]
        pipe.later(
            f"CREATE INDEX IF NOT EXISTS {quote(name)} ON {quote(link.child.name)} ({quoted(columns)})", prepare=False
        )
