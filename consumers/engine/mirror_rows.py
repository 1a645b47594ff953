"""The mirror's rows as what they are compared by: keys and hashes, never values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from connectors.source_rows import (
    Digest,
    Key,
    Keys,
    Range,
    Segment,
    canonical,
    postgres_digest,
    postgres_row_hash,
)
from connectors.table import Table
from consumers.engine.relations import schemas
from consumers.engine.sqltext import quote

Row = Sequence[str | None]
_SESSION = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; "
    "SET bytea_output = 'hex'; SET application_name = 'rowtide verify'; SET search_path = pg_catalog, public"
)


class MirrorRows:
    """Reads the mirror of one instance.

    Args:
        connection: to the state database, in autocommit mode.
    """

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], instance: str) -> None:
        self._connection = connection
        self._schema = schemas(instance)[1]
        connection.execute(_SESSION)

    def last_of(self, table: Table, after: Key | None, count: int) -> Key | None:
        """The key of the `count`-th row behind a key; None where there are fewer."""
        where, values = _where(table, Range(after, None))
        found = self._execute(
            f"SELECT {_keys(table)} FROM {self._place(table)} WHERE {where} ORDER BY {_order(table)} LIMIT 1 OFFSET {count - 1}",
            values,
        )
        return tuple(found[0]) if found else None

    def page(self, table: Table, after: Key | None, count: int) -> list[Key]:
        """Up to `count` keys behind a key, in their order."""
        where, values = _where(table, Range(after, None))
        found = self._execute(
            f"SELECT {_keys(table)} FROM {self._place(table)} WHERE {where} ORDER BY {_order(table)} LIMIT {count}",
            values,
        )
        return [tuple(row) for row in found]

    def digest(self, table: Table, segment: Segment, texts: Sequence[str]) -> Digest:
        """Sums over the rows as `texts` write them, expressions over a row `m`."""
        where, values = _where(table, segment)
        query = postgres_digest(postgres_row_hash(texts), f"{self._place(table)} WHERE {where}")
        return Digest(*(int(number) for number in self._execute(query, values)[0]))

    def hashes(self, table: Table, segment: Segment) -> dict[Key, str]:
        """A hash of each row by its key."""
        where, values = _where(table, segment)
        texts = [canonical(f"m.{quote(c.name)}", c.type) for c in table.columns]
        query = f"SELECT {postgres_row_hash(texts)}, {_keys(table)} FROM {self._place(table)} WHERE {where}"
        return {tuple(row[1:]): row[0] for row in self._execute(query, values)}

    def hashes_of(self, table: Table, rows: Sequence[Row]) -> list[tuple[Key, str] | None]:
        """What `hashes` would tell of these rows, were they in the mirror; None for one that it would refuse.

        Rows are PostgreSQL input in the order of the table's columns.
        """
        if not rows:
            return []
        try:
            return list(self._hashes_of(table, rows))
        except psycopg.DataError:
            if len(rows) == 1:
                return [None]
            half = len(rows) // 2
            return self.hashes_of(table, rows[:half]) + self.hashes_of(table, rows[half:])

    def _hashes_of(self, table: Table, rows: Sequence[Row]) -> list[tuple[Key, str] | None]:
        columns = [quote(f"c{place}") for place in range(len(table.columns))]
        cast = ", ".join(f"u.{c}::{t.type} AS {quote(t.name)}" for c, t in zip(columns, table.columns, strict=True))
        texts = [canonical(f"m.{quote(c.name)}", c.type) for c in table.columns]
        given = [list(values) for values in zip(*rows, strict=True)]
        query = (
            f"SELECT {postgres_row_hash(texts)}, {_keys(table)} FROM (SELECT u.__ord, {cast} FROM "
            f"unnest({', '.join(['%s::text[]'] * len(columns))}) WITH ORDINALITY AS u({', '.join(columns)}, __ord)) AS m ORDER BY m.__ord"
        )
        return [(tuple(row[1:]), row[0]) for row in self._execute(query, given)]

    def keys_of(self, table: Table, keys: Sequence[Key]) -> set[Key]:
        """Keys as the other methods tell them."""
        names = [quote(f"c{place}") for place in range(len(table.key))]
        types = _types(table)
        casts = ", ".join(canonical(f"u.{c}::{t}", t) for c, t in zip(names, types, strict=True))
        query = f"SELECT {casts} FROM unnest({', '.join(['%s::text[]'] * len(names))}) AS u({', '.join(names)})"
        if not keys:
            return set()
        return {tuple(row) for row in self._execute(query, [list(values) for values in zip(*keys, strict=True)])}

    def _place(self, table: Table) -> str:
        return f"{quote(self._schema)}.{quote(table.name)} AS m"

    def _execute(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()


def _types(table: Table) -> list[str]:
    return [table.columns[place].type for place in table.key_positions]


def _keys(table: Table) -> str:
    return ", ".join(canonical(f"m.{quote(n)}", t) for n, t in zip(table.key, _types(table), strict=True))


def _order(table: Table) -> str:
    return ", ".join(f"m.{quote(name)}" for name in table.key)


def _where(table: Table, segment: Segment) -> tuple[str, list[Any]]:
    """A condition that the key's index serves, with its values."""
    row = "(" + ", ".join(f"%s::{t}" for t in _types(table)) + ")"
    if isinstance(segment, Keys):
        names = [quote(f"c{place}") for place in range(len(table.key))]
        casts = ", ".join(f"u.{c}::{t}" for c, t in zip(names, _types(table), strict=True))
        listed = f"SELECT {casts} FROM unnest({', '.join(['%s::text[]'] * len(names))}) AS u({', '.join(names)})"
        columns = [list(values) for values in zip(*segment.keys, strict=True)] if segment.keys else [[] for _ in names]
        return f"({_order(table)}) IN ({listed})", columns
    parts, values = ["true"], list[Any]()
    for bound, sign in ((segment.low, ">"), (segment.high, "<=")):
        if bound is not None:
            parts.append(f"({_order(table)}) {sign} {row}")
            values += bound
    return " AND ".join(parts), values
