"""The rows of a PostgreSQL source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from connectors.capture.postgres.connection import connect, conninfo, losing
from connectors.capture.postgres.position import Position
from connectors.capture.postgres.preflight import quoted
from connectors.capture.postgres.rows import encoded
from connectors.capture.running import CaptureStoppedError
from connectors.event import Source
from connectors.source_rows import (
    Digest,
    Key,
    Keys,
    Range,
    Segment,
    Written,
    canonical,
    postgres_digest,
    postgres_row_hash,
)
from connectors.table import Table, spelled

# Types whose order is the same wherever they are stored.
_ORDERLY = frozenset({"smallint", "integer", "bigint", "uuid", "date"})


class PostgresRows:
    """Reads a PostgreSQL source.

    Args:
        dsn: for a user who may read the tables.
        name: the source's name in the messages.
        schema: the source's schema.
    """

    def __init__(self, dsn: str, tables: Sequence[Table], *, name: str, schema: str = "public") -> None:
        self._name = name
        self._schema = schema
        self._connection = connect(conninfo(dsn, application="rowtide verify"))
        with losing():
            self._names: dict[str, dict[str, str]] = {}  # declared → as the source spells them
            self._columns = {table.name: self._describe(table) for table in tables}

    def _describe(self, table: Table) -> Mapping[str, str]:
        """The source's columns with their types. Raises CaptureStoppedError where the table or a column is missing."""
        rows = self._connection.execute(
            "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_catalog.pg_attribute AS a "
            "WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped",
            [quoted(self._schema, table.name)],
        ).fetchall()
        stored: dict[str, str] = dict(rows)
        names = self._names[table.name] = spelled(table.names, stored)
        found = {name: stored[there] for name, there in names.items()}
        missing = [c.name for c in table.columns if c.name not in found and not c.optional]
        if not stored or missing:
            what = f"column {table.name}.{missing[0]}" if stored else f"table {self._schema}.{table.name}"
            raise CaptureStoppedError(
                f"The source has no {what} that its user may see.",
                hint="Correct source.sql, or run what `rowtide grants` prints in the source.",
            )
        kind = self._connection.execute(
            "SELECT relkind = 'p' FROM pg_catalog.pg_class WHERE oid = to_regclass(%s)",
            [quoted(self._schema, table.name)],
        ).fetchone()
        # Rows of tables that inherit from an ordinary table are not that table's.
        found[""] = "" if kind == (True,) else "ONLY "
        return found

    def is_orderly(self, table: Table) -> bool:
        """See `SourceRows`."""
        columns = self._columns[table.name]
        types = {column.name: column.type for column in table.columns}
        return all(types[name] in _ORDERLY and columns[name] in _ORDERLY for name in table.key)

    def last_of(self, table: Table, after: Key | None, count: int) -> Key | None:
        """See `SourceRows`."""
        key = self._quoted(table, table.key)
        where, values = self._where(table, Range(after, None))
        texts = ", ".join(f"{name}::text" for name in key)
        found = self._all(
            f"SELECT {texts} FROM {self._place(table)} WHERE {where} ORDER BY {', '.join(key)} LIMIT 1 OFFSET {count - 1}",
            values,
        )
        return tuple(found[0]) if found else None

    def page(self, table: Table, after: Sequence[str] | None, count: int) -> tuple[list[Written], Sequence[str] | None]:
        """See `SourceRows`."""
        where, values = self._where(table, Range(None if after is None else tuple(after), None))
        order = ", ".join(self._quoted(table, table.key))
        rows = self._select(table, f"{where} ORDER BY {order} LIMIT {count}", values)
        last = [rows[-1][place] for place in table.key_positions] if len(rows) == count else None
        return [self._written(table, row) for row in rows], last

    def rows(self, table: Table, segment: Segment) -> list[Written]:
        """See `SourceRows`."""
        where, values = self._where(table, segment)
        return [self._written(table, row) for row in self._select(table, where, values)]

    def mirrored(self, table: Table) -> Sequence[str] | None:
        """See `SourceRows`: the texts that the source computes for itself."""
        return [canonical(f"m.{quoted(c.name)}", c.type) for c in table.columns]

    def digest(self, table: Table, segment: Segment) -> Digest | None:
        """See `SourceRows`. None where a value cannot be of the declared type: its row is then looked at."""
        names = self._names[table.name]
        # By way of the text that capture reads, so that what it reads is what is compared.
        texts = [
            canonical(
                f"(CASE WHEN {quoted(names[c.name])} IS NOT NULL THEN concat({quoted(names[c.name])})::{c.type} END)",
                c.type,
            )
            if c.name in names
            else "NULL::text"
            for c in table.columns
        ]
        where, values = self._where(table, segment)
        query = postgres_digest(postgres_row_hash(texts), f"{self._place(table)} WHERE {where}")
        with losing():
            try:
                row = self._connection.execute(sql.SQL(query), values).fetchone()
            except (psycopg.DataError, psycopg.ProgrammingError):
                return None
        return None if row is None else Digest(*(int(number) for number in row))

    def mark(self) -> str:
        """See `SourceRows`."""
        return str(self._all("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn", [])[0][0])

    def has_passed(self, mark: str, captured: str) -> bool:
        """See `SourceRows`."""
        position = Position.decode(captured)
        return position.phase == "stream" and position.reached >= int(mark)

    def close(self) -> None:
        """See `SourceRows`."""
        self._connection.close()

    # --- statements ---

    def _quoted(self, table: Table, columns: Sequence[str]) -> list[str]:
        return [quoted(self._names[table.name][column]) for column in columns]

    def _place(self, table: Table) -> str:
        return self._columns[table.name][""] + quoted(self._schema, table.name)

    def _where(self, table: Table, segment: Segment) -> tuple[str, list[Any]]:
        """A condition with its values, which are text of no type yet: they become the column's own."""
        key = ", ".join(self._quoted(table, table.key))
        row = f"({', '.join(['%s'] * len(table.key))})"
        if isinstance(segment, Keys):
            if not segment.keys:
                return "false", []
            return f"({key}) IN ({', '.join([row] * len(segment.keys))})", [v for k in segment.keys for v in k]
        parts, values = ["true"], list[Any]()
        for bound, sign in ((segment.low, ">"), (segment.high, "<=")):
            if bound is not None:
                parts.append(f"({key}) {sign} {row}")
                values += bound
        return " AND ".join(parts), values

    def _select(self, table: Table, where: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        names = self._names[table.name]
        # concat() writes a value as replication does, which a cast to text does not for all types.
        texts = [
            f"CASE WHEN {quoted(names[n])} IS NOT NULL THEN concat({quoted(names[n])}) END"
            if n in names
            else "NULL::text"
            for n in table.names
        ]
        return self._all(f"SELECT {', '.join(texts)} FROM {self._place(table)} WHERE {where}", values)

    def _all(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with losing(), psycopg.ClientCursor(self._connection) as cursor:
            return cursor.execute(query, list(values)).fetchall()

    def _written(self, table: Table, row: tuple[Any, ...]) -> Written:
        source = Source("postgresql", self._name, "", self._schema, table.name, 0, snapshot="true")
        key = tuple([row[place] for place in table.key_positions])
        return Written(*encoded(table, "r", key, row, source=source))
