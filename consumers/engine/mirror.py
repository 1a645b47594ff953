"""The mirror: brings the last image of each changed row in, and tells what changed.

`before` images of events are never asked: the mirror is our own before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from connectors.event import UNAVAILABLE, Change, Truncate, Value
from connectors.pipe import Pipe, Rows
from connectors.table import Table
from consumers.engine.picking import picker
from consumers.engine.sqltext import array_literal, parameter_type, quote
from consumers.engine.statements import ALL, Input, delete_sql, lookup_sql, upsert_sql

Row = tuple[Value, ...]
Texts = tuple[str | None, ...]
# A changed row: which columns differ (bits), the image columns as they were and as they are. There is one for every
# row that changes anywhere, hence plain tuples.
Image = tuple[int, Texts | None, Texts | None]
# Takes the images of the rows of a table that changed; None: nothing is known of them.
Take = Callable[[str, Sequence[Image] | None], object]
# Is told of a few rows of a table, with all their values, before they are written.
Foretell = Callable[[str, Sequence[Row]], object]
_FEW = 20  # rows, of which the sooner answer is worth more than the work saved by asking first


def ignore(name: str, images: Sequence[Image] | None) -> None:
    """For those whom the images do not concern."""


class MissingRowsError(Exception):
    """Updates without all values for rows that the mirror does not have; carries table and keys."""

    def __init__(self, table: str, keys: set[tuple[str, ...]]) -> None:
        super().__init__(table)
        self.table = table
        self.keys = keys


class Mirror:
    """Writes the mirror of one instance through the pipe it is given. Holds statements, no state."""

    def __init__(self, tables: Mapping[str, Table], inputs: Mapping[str, Input]) -> None:
        self._tables = tables
        self._inputs = inputs
        self._upserts: dict[tuple[str, tuple[str, ...]], str] = {}
        self._deletes = {name: delete_sql(table, inputs[name]) for name, table in tables.items()}
        self._picks = {
            name: picker(tuple(table.names.index(column) for column in inputs[name].images))
            for name, table in tables.items()
        }

    def apply(
        self,
        pipe: Pipe,
        changes: Iterable[Change | Truncate],
        take: Take = ignore,
        asks: Callable[[str], bool] = lambda _: False,
        foretell: Foretell | None = None,
    ) -> None:
        """Apply changes in their order, the last image of each key at once.

        `take` is told of each table the images of the rows that changed; None where the whole table was emptied.
        `asks`: whether it will ask for the other tables as they are then, so that no more may be written before.
        `foretell` is told of what can be told before; where it is, the pipe has still to be flushed.
        Raises MissingRowsError, and psycopg.DataError for a value that the column's type refuses.
        """
        pending: dict[str, dict[tuple[str, ...], Row | None]] = {}
        for change in changes:
            if isinstance(change, Truncate):
                if change.table in pending:
                    self._write(pipe, change.table, pending.pop(change.table), take)
                pipe.later(f"DELETE FROM {quote(change.table)}")
                pipe.flush()
                take(change.table, None)
                continue
            rows = pending.setdefault(change.table, {})
            row = change.row
            if row is not None and UNAVAILABLE in row and change.key in rows:
                before = rows[change.key]
                if before is not None:
                    row = tuple(b if value is UNAVAILABLE else value for value, b in zip(row, before, strict=True))
            rows[change.key] = None if change.op == "d" else row
        if foretell is not None and len(pending) == 1:
            ((name, rows),) = pending.items()
            whole = [row for row in rows.values() if row is not None and UNAVAILABLE not in row]
            if len(whole) == len(rows) <= _FEW and not asks(name):
                foretell(name, whole)
                self._write(pipe, name, rows, take)
                return
        for name, rows in pending.items():
            self._write(pipe, name, rows, take)
            if asks(name):
                pipe.flush()
        pipe.flush()

    def lookup(
        self,
        pipe: Pipe,
        name: str,
        keys: Sequence[tuple[str, ...]],
        columns: Sequence[str],
        take: Callable[[tuple[str, ...], Texts], object],
    ) -> None:
        """Ask for the given columns of the rows with these keys, as the mirror has them; `take` gets key and values."""
        table, entry = self._tables[name], self._inputs[name]
        width = len(table.key)

        def then(rows: Rows) -> None:
            for row in rows:
                take(row[:width], row[width:])

        pipe.later(lookup_sql(table, entry, columns), self._key_arrays(table, entry, keys), then)

    def _key_arrays(self, table: Table, entry: Input, keys: Sequence[tuple[str, ...]]) -> list[str]:
        return [
            array_literal(column, entry.relation.base[name])
            for name, column in zip(table.key, zip(*keys, strict=True), strict=True)
        ]

    def _write(self, pipe: Pipe, name: str, rows: dict[tuple[str, ...], Row | None], take: Take) -> None:
        """Write rows of one table; its images are told of when the last of its statements is done."""
        table, entry = self._tables[name], self._inputs[name]
        images: list[Image] = []
        statements: list[tuple[str, list[str], Callable[[Rows], None]]] = []
        gone = [key for key, row in rows.items() if row is None]
        if gone:

            def deleted(found: Rows) -> None:
                images.extend([(ALL, row[1:], None) for row in found])

            statements.append((self._deletes[name], self._key_arrays(table, entry, gone), deleted))
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in rows.values():
            if row is None:
                continue
            columns = table.names
            if UNAVAILABLE in row:
                columns = tuple(c for c, value in zip(columns, row, strict=True) if value is not UNAVAILABLE)
            groups.setdefault(columns, []).append(row)
        for columns, group in groups.items():

            def upserted(found: Rows, columns: tuple[str, ...] = columns, group: list[Row] = group) -> None:
                images.extend(self._images(table, entry, columns, group, found))

            statements.append((*self._upsert(table, entry, columns, group), upserted))
        *others, (sql, parameters, then) = statements
        for statement in others:
            pipe.later(*statement)

        def last(found: Rows) -> None:
            then(found)
            take(name, images)

        pipe.later(sql, parameters, last)

    def _upsert(
        self, table: Table, entry: Input, columns: tuple[str, ...], rows: Sequence[Row]
    ) -> tuple[str, list[str]]:
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
        return statement, arrays

    def _images(
        self, table: Table, entry: Input, columns: tuple[str, ...], rows: Sequence[Row], answer: Rows
    ) -> list[Image]:
        """The rows as they were, which the upsert has answered, and as they are."""
        found = {row[0]: row for row in answer}
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
        pick = self._picks[table.name]
        for number, row in enumerate(rows, start=1):
            before = found.get(number)
            if before is None:
                images.append((ALL, None, pick(row)))
            elif before[1]:
                old, new = before[2:], pick(row)
                if not complete:
                    new = tuple([o if value is UNAVAILABLE else value for value, o in zip(new, old, strict=True)])
                images.append((before[1], old, new))
        return images
