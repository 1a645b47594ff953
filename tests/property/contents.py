"""What tables hold, as values to compare: a sum that came down to nothing may be 0.00 where one of nothing is 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import psycopg

from consumers.engine.analysis import Analysis


def values(connection: psycopg.Connection[Any], schema: str, tables: Iterable[str]) -> dict[str, Counter[Any]]:
    """The rows of tables."""
    with connection.transaction():
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        return {
            table: Counter(map(_hashable, connection.execute(f'SELECT * FROM "{schema}"."{table}"')))
            for table in tables
        }


def contents(connection: psycopg.Connection[Any], analysis: Analysis, name: str) -> dict[str, Counter[Any]]:
    """The rows of every model, history and kept table of an instance."""
    tables = [model.name for model in analysis.models]
    tables += [model.file.history.name for model in analysis.models if model.file.history]
    tables += [model.file.keep for model in analysis.models if model.file.keep]
    return values(connection, name, tables)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def rental_contents(connection: psycopg.Connection[Any]) -> dict[str, Counter[Any]]:
    """The rental domain's public tables, history and kept days included."""
    tables = ("rental_status", "late_fees", "inventory_status", "customer_account", "inventory_audit", "daily")
    return values(connection, "rental", tables)
