"""The mirror: brings the last image of each changed row in, and tells what changed.

`before` images of events are never asked: the mirror is our own before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg

from connectors.event import UNAVAILABLE, Change, Truncate, Value
from connectors.table import Table
from consumers.engine.sqltext import array_literal, parameter_type, quote
from consumers.engine.statements import ALL, Input, delete_sql, lookup_sql, upsert_sql

Row = tuple[Value, ...]
Cursor = psycopg.RawCursor[tuple[Any, ...]]


Texts = tuple[str | None, ...]
# A changed row: which columns differ (bits), the image columns as they were and as they are. There is one for every
# row that changes anywhere, hence plain tuples.
Image = tuple[int, Texts | None, Texts | None]


class MissingRowsError(Exception):
    """Updates without all values for rows that the mirror does not have; carries table and keys."""

    def __init__(self, table: str, keys: set[tuple[str, ...]]) -> None:
        super().__init__(table)
        self.table = table
        self.keys = keys


class Mirror:
    """Writes the mirror of one instance with the cursor it is given. Holds statements, no state."""

    def __init__(self, tables: Mapping[str, Table], inputs: Mapping[str, Input]) -> None:
        self._tables = tables
        self._inputs = inputs
        self._upserts: dict[tuple[str, tuple[str, ...]], str] = {}
        self._deletes = {name: delete_sql(table, inputs[name]) for name, table in tables.items()}
        self._places = {
            name: tuple(table.names.index(column) for column in inputs[name].images) for name, table in tables.items()
        }

    def apply(self, cursor: Cursor, changes: Iterable[Change | Truncate]) -> Iterable[tuple[str, list[Image] | None]]:
        """Apply changes in their order, the last image of each key at once.

        Yields for each table the images of the rows that changed; None where the whole table was emptied. What is
        yielded is applied; consume all of it. Raises MissingRowsError, and psycopg.DataError for a value that the
        column's type refuses.
        """
        pending: dict[str, dict[tuple[str, ...], Row | None]] = {}
        for change in changes:
            if isinstance(change, Truncate):
                if change.table in pending:
                    yield change.table, self._write(cursor, change.table, pending.pop(change.table))
                cursor.execute(f"DELETE FROM {quote(change.table)}")
                yield change.table, None
                continue
            rows = pending.setdefault(change.table, {})
            row = change.row
            if row is not None and UNAVAILABLE in row and change.key in rows:
                before = rows[change.key]
                if before is not None:
                    row = tuple(b if value is UNAVAILABLE else value for value, b in zip(row, before, strict=True))
            rows[change.key] = None if change.op == "d" else row
        for name, rows in pending.items():
            yield name, self._write(cursor, name, rows)

    def lookup(
        self, cursor: Cursor, name: str, keys: Sequence[tuple[str, ...]], columns: Sequence[str]
    ) -> dict[tuple[str, ...], tuple[str | None, ...]]:
        """The given columns of the rows with these keys, as the mirror has them."""
        table, entry = self._tables[name], self._inputs[name]
        arrays = self._key_arrays(table, entry, keys)
        width = len(table.key)
        found = cursor.execute(lookup_sql(table, entry, columns), arrays, prepare=True).fetchall()
        return {row[:width]: row[width:] for row in found}

    def _key_arrays(self, table: Table, entry: Input, keys: Sequence[tuple[str, ...]]) -> list[str]:
        return [
            array_literal(column, entry.relation.base[name])
            for name, column in zip(table.key, zip(*keys, strict=True), strict=True)
        ]

    def _write(self, cursor: Cursor, name: str, rows: dict[tuple[str, ...], Row | None]) -> list[Image]:
        table, entry = self._tables[name], self._inputs[name]
        images: list[Image] = []
        gone = [key for key, row in rows.items() if row is None]
        if gone:
            found = cursor.execute(self._deletes[name], self._key_arrays(table, entry, gone), prepare=True).fetchall()
            images += [(ALL, row[1:], None) for row in found]
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in rows.values():
            if row is None:
                continue
            columns = table.names
            if UNAVAILABLE in row:
                columns = tuple(c for c, value in zip(columns, row, strict=True) if value is not UNAVAILABLE)
            groups.setdefault(columns, []).append(row)
        for columns, group in groups.items():
            images += self._upsert(cursor, table, entry, columns, group)
        return images

    def _upsert(
        self, cursor: Cursor, table: Table, entry: Input, columns: tuple[str, ...], rows: list[Row]
    ) -> list[Image]:
        statement = self._upserts.get((table.name, columns))
        if statement is None:
            statement = self._upserts[table.name, columns] = upsert_sql(table, entry, columns)
        by_column = list(zip(*rows, strict=True))
        arrays = [
            array_literal(
                by_column[table.names.index(column)],
                parameter_type(entry.relation.columns[column]),
            )
            for column in columns
        ]
        found = {row[0]: row for row in cursor.execute(statement, arrays, prepare=True).fetchall()}
        complete = len(columns) == len(table.names)
        if not complete and len(found) < len(rows):
            positions = table.key_positions
            missing = {
                tuple(str(row[p]) for p in positions) for number, row in enumerate(rows, start=1) if number not in found
            }
            raise MissingRowsError(table.name, missing)
        if not entry.images and not entry.bits:
            return []
        images: list[Image] = []
        places = self._places[table.name]
        for number, row in enumerate(rows, start=1):
            before = found.get(number)
            if before is None:
                images.append((ALL, None, tuple([row[p] for p in places])))  # type: ignore[misc]
            elif before[1]:
                old = before[2:]
                new = tuple([o if row[p] is UNAVAILABLE else row[p] for p, o in zip(places, old, strict=True)])
                images.append((before[1], old, new))  # type: ignore[arg-type]
        return images
