"""Tables as they stand in the state database: their columns, types and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from connectors.errors import RowtideError
from consumers.engine.analysis import Analysis
from consumers.engine.sqltext import quote


@dataclass(frozen=True)
class Relation:
    """A table as it stands in the database.

    Args:
        columns: name -> type, complete.
        base: name -> type without length or precision, as arrays of keys are passed.
        nullable_key: the key columns that may be NULL.
    """

    name: str
    columns: Mapping[str, str]
    base: Mapping[str, str]
    key: tuple[str, ...]
    nullable_key: frozenset[str] = frozenset()


def schemas(instance: str) -> tuple[str, str]:
    """The instance's schema of models and its schema of sources."""
    return instance, f"{instance}_source"


def describe(connection: psycopg.Connection[tuple[Any, ...]], schema: str, name: str, key: tuple[str, ...]) -> Relation:
    """A table's columns and types as the database has them. Raises RowtideError where it is missing."""
    rows = connection.execute(
        """SELECT a.attname, format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, NULL), a.attnotnull
             FROM pg_attribute AS a
            WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""",
        [f"{quote(schema)}.{quote(name)}"],
    ).fetchall()
    if not rows:
        raise RowtideError(f"The table {schema}.{name} is missing.", hint="Run `rowtide rebuild`.")
    columns = {str(row[0]): str(row[1]) for row in rows}
    return Relation(
        name,
        columns,
        {str(row[0]): str(row[2]) for row in rows},
        key,
        frozenset(k for k in key if not next(row[3] for row in rows if row[0] == k)),
    )


def describe_all(
    connection: psycopg.Connection[tuple[Any, ...]], instance: str, analysis: Analysis
) -> dict[str, Relation]:
    """All tables of an instance, its mirror's and its models'."""
    models, source = schemas(instance)
    tables = analysis.domain.mirror_tables
    relations = {name: describe(connection, source, name, table.key) for name, table in tables.items()}
    return relations | {m.name: describe(connection, models, m.name, m.file.key) for m in analysis.models}
