"""Verify: proves that every model equals its query at the domain's clock, row for row, on the live tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from consumers.engine.analysis import Analysis, Model
from consumers.engine.relations import Relation, describe, schemas
from consumers.engine.sqltext import differing, quote, quoted


@dataclass(frozen=True)
class TableCheck:
    """What verify found of one table: how many rows it has, and how many are missing, unexpected or different."""

    name: str
    kind: str
    rows: int
    missing: int
    unexpected: int
    different: int

    @property
    def clean(self) -> bool:
        """Whether the table is exactly what it should be."""
        return not (self.missing or self.unexpected or self.different)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def verify(
    connection: psycopg.Connection[tuple[Any, ...]],
    analysis: Analysis,
    instance: str,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[TableCheck]:
    """Compare all models and histories with what their queries say, in one snapshot.

    `on_progress` is told the table, its number and how many there are.
    """
    checks: list[TableCheck] = []
    total = sum(1 + bool(model.file.history) for model in analysis.models)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        models, source = schemas(instance)
        connection.execute(f"SET LOCAL search_path = {quote(models)}, {quote(source)}")
        for model in analysis.models:
            relation = describe(connection, models, model.name, model.file.key)
            for name, query in [(model.name, _model_sql(model, relation)), *_history_sql(model, relation)]:
                if on_progress is not None:
                    on_progress(name, len(checks) + 1, total)
                row = connection.execute(query).fetchone()
                kind = "model" if name == model.name else "history"
                checks.append(TableCheck(name, kind, *(row or ())))
    return checks


def _model_sql(model: Model, relation: Relation) -> str:
    """Compare with the query as its author wrote it, not as we understood it."""
    columns = ", ".join(quote(name) for name in model.outputs)
    return _compare(
        relation,
        model.file.key,
        f"SELECT * FROM ({model.file.sql}\n) AS __q({columns})",
        f"SELECT {columns} FROM {quote(model.name)}",
        tuple(name for name in model.outputs if name not in model.file.key),
    )


def _history_sql(model: Model, relation: Relation) -> list[tuple[str, str]]:
    """The last transition of each key must lead to the model's present value."""
    history = model.file.history
    if history is None:
        return []
    key = quoted(model.file.key)
    expected = f"SELECT {key}, {quote(history.column)} AS value FROM {quote(model.name)}"
    # A key that is gone ends with NULL, and so may one that is there with NULL.
    ended = f"SELECT {key}, value FROM (SELECT DISTINCT ON ({key}) {key}, to_value AS value FROM {quote(history.name)} ORDER BY {key}, seq DESC) AS l"
    columns = {**relation.columns, "value": relation.columns[history.column]}
    shaped = Relation(history.name, columns, relation.base, relation.key, relation.nullable_key)
    there = f"SELECT 1 FROM {quote(model.name)} AS m WHERE " + " AND ".join(
        f"m.{quote(k)} IS NOT DISTINCT FROM e.{quote(k)}" for k in model.file.key
    )
    actual = f"SELECT {key}, value FROM ({ended}) AS e WHERE e.value IS NOT NULL OR EXISTS ({there})"
    return [(history.name, _compare(shaped, model.file.key, expected, actual, ("value",)))]


def _compare(relation: Relation, key: tuple[str, ...], expected: str, actual: str, others: tuple[str, ...]) -> str:
    match = " AND ".join(
        f"coalesce(to_jsonb(e.{quote(k)}), 'null') = coalesce(to_jsonb(a.{quote(k)}), 'null')"
        if k in relation.nullable_key
        else f"e.{quote(k)} = a.{quote(k)}"
        for k in key
    )
    differs = differing(others, relation.columns, "e", "a") or "false"
    return (
        "SELECT count(a.__in), count(*) FILTER (WHERE a.__in IS NULL), count(*) FILTER (WHERE e.__in IS NULL), "
        f"count(*) FILTER (WHERE a.__in AND e.__in AND ({differs})) "
        f"FROM (SELECT true AS __in, * FROM ({expected}) AS x) AS e "
        f"FULL JOIN (SELECT true AS __in, * FROM ({actual}) AS y) AS a ON {match}"
    )
