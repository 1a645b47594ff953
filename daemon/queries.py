"""Questions to the derived tables: named ones of the domain and the user's own. They only read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from connectors.errors import RowtideError
from connectors.state import connect
from consumers.domain import Domain, SqlFile
from consumers.engine import schema
from consumers.engine.instance import InstanceError

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")
_SECTION = re.compile(r"^--\s*section:\s*(.*)$", re.MULTILINE)


class QueryError(RowtideError):
    """A query cannot be run."""


@dataclass(frozen=True)
class Table:
    """A result: column names and rows."""

    title: str
    columns: list[str]
    rows: list[tuple[Any, ...]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"title": self.title, "columns": self.columns, "rows": [list(row) for row in self.rows]}


def query(dsn: str, instance: str, title: str, sql: str, parameters: Mapping[str, str] | None = None) -> Table:
    """Run one read-only SELECT in the instance's schemas. Raises QueryError with PostgreSQL's reason.

    `parameters` holds values for `:name` in the text.
    """
    given = dict(parameters or {})
    wanted = [name for name in _PARAMETER.findall(sql) if name in given]
    text = sql
    if wanted:
        text = _PARAMETER.sub(lambda m: f"%({m[1]})s" if m[1] in given else m[0], sql.replace("%", "%%"))
    with connect(dsn) as connection:
        if not schema.exists(connection, instance):
            raise InstanceError(
                f"{instance} has not been set up in this state database.",
                hint="Run `rowtide init`, then `rowtide run`.",
            )
        connection.autocommit = False
        connection.read_only = True
        schema.use(connection, instance)
        connection.execute("SET TimeZone = 'UTC'")
        try:
            cursor = connection.execute(text, given if wanted else None)
        except psycopg.Error as error:
            position = f" (at character {error.diag.statement_position})" if error.diag.statement_position else ""
            raise QueryError(
                f"The query failed: {error.diag.message_primary or str(error).strip()}{position}.",
                hint=error.diag.message_hint or "Queries only read; `rowtide explain MODEL` lists a model's tables.",
            ) from None
        if cursor.description is None:
            raise QueryError("The statement returns no rows.", hint="Give one SELECT.")
        return Table(title, [column.name for column in cursor.description], cursor.fetchall())


def named(domain: Domain, kind: str, name: str) -> SqlFile:
    """A query, check or report by name. Raises QueryError listing what there is."""
    files: Mapping[str, SqlFile] = getattr(domain, kind)
    if name not in files:
        raise QueryError(
            f"{domain.name} has no {'query' if kind == 'queries' else kind[:-1]} “{name}”.",
            hint=f"There are: {', '.join(sorted(files)) or 'none'}.",
        )
    return files[name]


def sections(file: SqlFile) -> list[tuple[str, str]]:
    """A report's parts as (title, SELECT): one behind each `-- section: Title` line."""
    parts = _SECTION.split(file.sql)
    return [(title.strip(), sql) for title, sql in zip(parts[1::2], parts[2::2], strict=True)]


def defaults(file: SqlFile) -> dict[str, str]:
    """The values that a query's `-- parameters: name=default …` line gives."""
    return dict(part.split("=", 1) for part in file.header.get("parameters", "").split() if "=" in part)
