"""What a swap would change: the tables of two instances compared row for row, in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from consumers.engine.analysis import Analysis
from consumers.engine.relations import schemas
from consumers.engine.sqltext import differing, quote, quoted

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class TableChange:
    """How a table of the new instance differs from the live one's.

    Args:
        kind: mirror, input, model, history or kept.
        rows: of the new table.
        added, removed, changed: rows that only the new one has, that only the live one has, that differ.
        shape: whether the columns differ; then the rows are compared by those that both have.
    """

    name: str
    kind: str
    rows: int
    added: int
    removed: int
    changed: int
    shape: bool = False

    @property
    def same(self) -> bool:
        """Whether the swap changes nothing in the table."""
        return not (self.added or self.removed or self.changed or self.shape)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    connection: Connection,
    analysis: Analysis,
    live: str,
    fresh: str,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[TableChange]:
    """Compare all tables, within the caller's transaction; tables that only the live instance has count as emptied.

    `on_progress` is told the table, its number and how many there are.
    """
    tables = list(_tables(analysis))
    known = {name for _, name, _, _ in tables} | {"clock"}
    changes: list[TableChange] = []
    for number, (kind, name, key, place) in enumerate(tables, start=1):
        if on_progress is not None:
            on_progress(name, number, len(tables))
        old, new = schemas(live)[place], schemas(fresh)[place]
        changes.append(_compare(connection, kind, name, key, old, new))
    changes += [
        TableChange(name, kind, 0, 0, _count(connection, schema, name), 0, shape=True)
        for schema, kind in zip(schemas(live), ("model", "mirror"), strict=True)
        for name in _names(connection, schema) - known
    ]
    return changes


def _tables(analysis: Analysis) -> Iterator[tuple[str, str, tuple[str, ...], int]]:
    """Kind, name, key and which of the instance's schemas."""
    for table in analysis.domain.mirror_tables.values():
        yield ("mirror" if table.name in analysis.domain.tables else "input"), table.name, table.key, 1
    for model in analysis.models:
        yield "model", model.name, model.file.key, 0
        if model.file.history:
            yield "history", model.file.history.name, (*model.file.key, "seq"), 0
        if model.file.keep:
            yield "kept", model.file.keep, model.file.key, 0


def _names(connection: Connection, schema: str) -> set[str]:
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p')",
        [quote(schema)],
    ).fetchall()
    return {row[0] for row in rows}


def _columns(connection: Connection, schema: str, name: str) -> dict[str, tuple[str, bool]]:
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [f"{quote(schema)}.{quote(name)}"],
    ).fetchall()
    return {column: (type_, solid) for column, type_, solid in rows}


def _count(connection: Connection, schema: str, name: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {quote(schema)}.{quote(name)}").fetchone()
    return int(row[0]) if row else 0


def _compare(
    connection: Connection, kind: str, name: str, key: tuple[str, ...], old_schema: str, new_schema: str
) -> TableChange:
    old, new = _columns(connection, old_schema, name), _columns(connection, new_schema, name)
    if not old:
        rows = _count(connection, new_schema, name)
        return TableChange(name, kind, rows, rows, 0, 0, shape=True)
    types = {column: type_ for column, (type_, _) in new.items()}
    shape = {column: type_ for column, (type_, _) in old.items()} != types
    common = [column for column, (type_, _) in new.items() if column in old and old[column][0] == type_]
    here, there = f"{quote(new_schema)}.{quote(name)}", f"{quote(old_schema)}.{quote(name)}"
    if not set(key) <= set(common):
        return _as_sets(connection, kind, name, common, here, there)
    match = " AND ".join(
        f"n.{quote(k)} = o.{quote(k)}"
        if new[k][1] and old[k][1]
        else f"coalesce(to_jsonb(n.{quote(k)}), 'null') = coalesce(to_jsonb(o.{quote(k)}), 'null')"
        for k in key
    )
    differs = differing([column for column in common if column not in key], types, "n", "o") or "false"
    row = connection.execute(
        "SELECT count(n.__in), count(*) FILTER (WHERE o.__in IS NULL), count(*) FILTER (WHERE n.__in IS NULL), "
        f"count(*) FILTER (WHERE n.__in AND o.__in AND ({differs})) "
        f"FROM (SELECT true AS __in, * FROM {here}) AS n FULL JOIN (SELECT true AS __in, * FROM {there}) AS o ON {match}"
    ).fetchone()
    rows, added, removed, changed = row or (0, 0, 0, 0)
    return TableChange(name, kind, rows, added, removed, changed, shape)


def _as_sets(connection: Connection, kind: str, name: str, common: list[str], here: str, there: str) -> TableChange:
    """Where the key itself is another: which rows, by the columns that both have, only one side has."""
    columns = quoted(common)
    row = connection.execute(
        f"SELECT (SELECT count(*) FROM {here}), "
        f"(SELECT count(*) FROM (SELECT ROW({columns})::text FROM {here} EXCEPT ALL SELECT ROW({columns})::text FROM {there}) AS a), "
        f"(SELECT count(*) FROM (SELECT ROW({columns})::text FROM {there} EXCEPT ALL SELECT ROW({columns})::text FROM {here}) AS r)"
    ).fetchone()
    rows, added, removed = row or (0, 0, 0)
    return TableChange(name, kind, rows, added, removed, 0, shape=True)
