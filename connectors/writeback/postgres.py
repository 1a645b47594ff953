"""Flags in a PostgreSQL source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.capture.postgres.connection import Connection, connect, conninfo
from connectors.capture.postgres.preflight import quoted
from connectors.capture.running import CaptureStoppedError, SourceUnavailableError
from connectors.table import spelled
from connectors.writeback.columns import ColumnsUnfitError, Wanted, unfit
from connectors.writeback.updates import (
    Row,
    RowsBusyError,
    Target,
    Update,
    ValuesRefusedError,
    WriteBackBlockedError,
    Written,
    retried_once,
    write,
)

# A person's open transaction is not waited for long: the row is tried again later.
_SESSION = (
    "SET lock_timeout = '3s'; SET statement_timeout = '30s'; SET default_transaction_isolation = 'read committed'"
)

_COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '' OR a.attidentity = 'a',
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = a.atttypid ORDER BY e.enumsortorder)
  FROM pg_catalog.pg_attribute AS a
 WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""


class PostgresFlags:
    """See `updates.FlagWriter`.

    Args:
        dsn: the source's connection string.
        schema: that of its tables.
        name: tells its sessions from others.
    """

    def __init__(self, dsn: str, *, schema: str, name: str) -> None:
        self._info = _plain(dsn, f"rowtide_writeback_{name}")
        self._schema = schema
        self._connection: Connection | None = None
        self._targets: dict[Target, Target] = {}  # as the source spells their columns; of this connection

    def write(self, target: Target, updates: Sequence[Update]) -> Written:
        """See `FlagWriter.write`."""
        return retried_once(lambda: write(self, self._spelled(target), updates), SourceUnavailableError)

    def update(self, target: Target, keys: Sequence[Row], new: Row, known: Row) -> int:
        """See `Talker.update`."""
        sets = ", ".join(f"{quoted(column)} = %s" for column in target.set)
        guards = [_same(column, value) for column, value in zip(target.guard, known, strict=True)]
        where = " AND ".join([_among(target.key, len(keys)), *guards])
        statement = f"UPDATE {quoted(self._schema, target.table)} SET {sets} WHERE {where}"
        return int(self._run(target, statement, [*new, *_flat(keys), *known], lambda cursor: cursor.rowcount))

    def look(self, target: Target, keys: Sequence[Row], new: Row) -> Mapping[int, bool]:
        """See `Talker.look`."""
        one = " AND ".join(f"{quoted(column)} = %s" for column in target.key)
        place = " ".join(f"WHEN {one} THEN {number}" for number in range(len(keys)))
        done = " AND ".join(_same(column, value) for column, value in zip(target.set, new, strict=True))
        statement = (
            f"SELECT CASE {place} END, {done} FROM {quoted(self._schema, target.table)} "
            f"WHERE {_among(target.key, len(keys))}"
        )
        rows = self._run(target, statement, [*_flat(keys), *new, *_flat(keys)], lambda cursor: cursor.fetchall())
        return {int(number): bool(so) for number, so in rows if number is not None}

    def missing(self, wanted: Sequence[Wanted]) -> list[str]:
        """The statements that add the columns which are not there. Raises ColumnsUnfitError."""
        try:
            connection = self._connected()
            return [statement for column in wanted for statement in self._add(connection, column)]
        except CaptureStoppedError as error:
            raise WriteBackBlockedError(error.message, hint=error.hint) from None

    def _add(self, connection: Connection, wanted: Wanted) -> list[str]:
        table = quoted(self._schema, wanted.table)
        columns = {row[0]: row[1:] for row in connection.execute(_COLUMNS, [table]).fetchall()}
        if not columns:
            raise ColumnsUnfitError(
                f"The source has no table {self._schema}.{wanted.table}.",
                hint="Check source.schema, and the table's name in source.sql.",
            )
        name = spelled([wanted.column], columns).get(wanted.column)
        if name is None:
            values = ", ".join("'" + value.replace("'", "''") + "'" for value in wanted.values)
            check = f" CHECK ({quoted(wanted.column)} IN ({values}))" if values else ""
            added = [f"ALTER TABLE {table} ADD COLUMN {quoted(wanted.column)} {wanted.type}{check}"]
            if wanted.default is None:
                return added
            value = "'" + wanted.default.replace("'", "''") + "'"
            return [*added, f"ALTER TABLE {table} ALTER COLUMN {quoted(wanted.column)} SET DEFAULT {value}"]
        type_, generated, labels = columns[name]
        if generated:
            raise unfit(wanted, type_, "is computed by the database")
        if labels:
            wanted.require_labels(type_, labels)
        else:
            wanted.require_family(type_)
        return []

    def execute(self, statements: Sequence[str]) -> None:
        """Run statements, all or none. Raises WriteBackBlockedError where the user may not."""
        connection = self._connected()
        try:
            with connection.transaction():
                for statement in statements:
                    connection.execute(statement)
        except psycopg.Error as error:
            raise WriteBackBlockedError(
                f"The source refuses the statement ({error.sqlstate}).",
                hint="Have the table's owner run it, or give the owner's connection string for this once: "
                "ROWTIDE_SOURCE__WRITE_BACK_DSN=… rowtide init --yes.",
            ) from None

    def spelled(self, target: Target) -> Target | None:
        """The target with its columns as the source spells them, as far as they are there; None where no table is seen.

        Raises WriteBackBlockedError and SourceUnavailableError.
        """
        table = quoted(self._schema, target.table)
        there = self._run(target, "SELECT to_regclass(%s) IS NOT NULL", [table], lambda cursor: cursor.fetchone())
        return self._spelled(target) if there == (True,) else None

    def _spelled(self, target: Target) -> Target:
        """The target with its columns as the source spells them; what it lacks stays, for the statement to fail on."""
        if target not in self._targets:
            table = quoted(self._schema, target.table)
            found = self._run(target, _COLUMNS, [table], lambda cursor: [row[0] for row in cursor.fetchall()])
            names = spelled([*target.key, *target.set, *target.guard], found)
            parts = [tuple([names.get(n, n) for n in part]) for part in (target.key, target.set, target.guard)]
            there = Target(target.table, *parts)
            if not {*target.key, *target.set, *target.guard} <= names.keys():
                return there
            self._targets[target] = there
        return self._targets[target]

    def _run(self, target: Target, statement: str, values: Sequence[Any], result: Callable[[Any], Any]) -> Any:
        try:
            cursor = self._connected().execute(statement, values, prepare=False)
            return result(cursor)
        except CaptureStoppedError as error:
            raise WriteBackBlockedError(error.message, hint=error.hint) from None
        except psycopg.Error as error:
            raise self._explained(target, error) from None

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed or self._connection.broken:
            self.close()
            self._connection = connect(self._info)
            self._connection.execute(_SESSION)
            self._targets.clear()
        return self._connection

    def _explained(self, target: Target, error: psycopg.Error) -> Exception:
        """The error by what is to be done about it. Only its code is told: its text may quote values."""
        code = error.sqlstate
        if code in ("55P03", "40P01", "40001", "57014"):
            return RowsBusyError(f"somebody holds the row ({code})")
        if code in ("42501", "25006", "42P01", "42703", "42804", "42883"):
            return WriteBackBlockedError(
                f"The source does not let {target.table} ({', '.join(target.set)}) be written ({code}).",
                hint="Run what `rowtide grants` prints, and `rowtide init` for columns that are not there.",
            )
        if code is not None and not code.startswith(("08", "57P", "53", "58", "XX")):
            return ValuesRefusedError(f"the source refuses the value ({code})")
        self.close()
        return SourceUnavailableError(f"The source is away ({code or type(error).__name__}).")

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _plain(dsn: str, application: str) -> str:
    """Capture's way to connect, but with the session settings of the source's own programs: its triggers need them."""
    info = conninfo(dsn, application=application)
    own = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(info, options=f"{own} -c client_encoding=UTF8".strip())


def _among(key: Sequence[str], count: int) -> str:
    row = ", ".join(["%s"] * len(key))
    if len(key) == 1:
        return f"{quoted(key[0])} IN ({', '.join([row] * count)})"
    return f"({', '.join(quoted(column) for column in key)}) IN ({', '.join([f'({row})'] * count)})"


def _same(column: str, value: Any) -> str:
    """Text is compared byte by byte, whatever the column's type and collation are."""
    if isinstance(value, str):
        return f'{quoted(column)}::text COLLATE "C" IS NOT DISTINCT FROM %s::text'
    return f"{quoted(column)} IS NOT DISTINCT FROM %s"


def _flat(keys: Sequence[Row]) -> list[Any]:
    return [part for key in keys for part in key]
