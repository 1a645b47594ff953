"""Flags in a MySQL or MariaDB source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pymysql
from pymysql.cursors import Cursor

from connectors.capture.mysql.connection import Connection, connect, quoted, read_dsn, rows
from connectors.capture.mysql.errors import code, stopping
from connectors.capture.running import SourceUnavailableError
from connectors.writeback.columns import ColumnsUnfitError, Wanted, family, unfit
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

# A value that does not fit is an error, not something near it. A person's open transaction is not waited for long.
# READ COMMITTED locks the rows that are met and no gaps.
_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ALLOW_INVALID_DATES', innodb_lock_wait_timeout = 3, lock_wait_timeout = 3",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)
_TIMEOUT = 30.0

# 1020: the row changed under a snapshot; 1205: lock wait; 1213: deadlock; 3572: lock not available.
_BUSY = frozenset({1020, 1205, 1213, 3572})
# Rights (the connection's are in `stopping`), read-only servers, no such column or table.
_BLOCKED = frozenset({1044, 1054, 1142, 1143, 1146, 1290, 1792, 1836, 4019})
# Room, connections, shutting down, statements ended from outside.
_AWAY = frozenset({1021, 1040, 1041, 1053, 1077, 1114, 1152, 1184, 1203, 1226, 1317, 1927, 1969, 3024, 3058})

# MySQL's name of each PostgreSQL type that a written column may be declared with.
_TYPES = {
    "smallint": "smallint",
    "integer": "int",
    "bigint": "bigint",
    "boolean": "tinyint(1)",
    "real": "float",
    "double precision": "double",
    "date": "date",
    "text": "varchar(255)",
    "character varying": "varchar(255)",
}
_SIZED = {"numeric": "decimal", "character varying": "varchar", "character": "char"}


class MySQLFlags:
    """See `updates.FlagWriter`.

    Args:
        dsn: the source's connection string.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = read_dsn(dsn)
        self._connection: Connection | None = None

    def write(self, target: Target, updates: Sequence[Update]) -> Written:
        """See `FlagWriter.write`."""
        return retried_once(lambda: write(self, target, updates), SourceUnavailableError)

    def update(self, target: Target, keys: Sequence[Row], new: Row, known: Row) -> int:
        """See `Talker.update`."""
        connection = self._connected()
        sets = ", ".join(
            f"{quoted(column)} = {_literal(connection, value)}" for column, value in zip(target.set, new, strict=True)
        )
        guards = [_same(connection, column, value) for column, value in zip(target.guard, known, strict=True)]
        where = " AND ".join([_among(connection, target.key, keys), *guards])
        return self._run(target, f"UPDATE {self._table(target.table)} SET {sets} WHERE {where}")[0]

    def look(self, target: Target, keys: Sequence[Row], new: Row) -> Mapping[int, bool]:
        """See `Talker.look`."""
        connection = self._connected()
        place = " ".join(
            f"WHEN {' AND '.join(_equal(connection, target.key, key))} THEN {number}" for number, key in enumerate(keys)
        )
        done = " AND ".join(_same(connection, column, value) for column, value in zip(target.set, new, strict=True))
        among = _among(connection, target.key, keys)
        _, found = self._run(target, f"SELECT CASE {place} END, {done} FROM {self._table(target.table)} WHERE {among}")
        return {int(number): so == b"1" for number, so in found if number is not None}

    def missing(self, wanted: Sequence[Wanted]) -> list[str]:
        """The statements that add the columns which are not there. Raises ColumnsUnfitError."""
        connection = self._connected()
        return [statement for column in wanted for statement in self._add(connection, column)]

    def _add(self, connection: Connection, wanted: Wanted) -> list[str]:
        found = rows(
            connection,
            "SELECT LOWER(COLUMN_NAME), DATA_TYPE, COLUMN_TYPE, CHARACTER_MAXIMUM_LENGTH, EXTRA "
            "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
            [self._dsn.database, wanted.table],
        )
        if not found:
            raise ColumnsUnfitError(
                f"The source has no table {self._dsn.database}.{wanted.table}, or its user may not see it.",
                hint="Check the table's name in source.sql, then run what `rowtide grants` prints.",
            )
        columns = {name or "": rest for name, *rest in found}
        stored = columns.get(wanted.column.lower())
        if stored is None:
            text = self._type(connection, wanted)
            alter = f"ALTER TABLE {quoted(wanted.table)}"
            added = [f"{alter} ADD COLUMN {quoted(wanted.column)} {text} NULL"]
            if wanted.default is None:
                return added
            value = _literal(connection, wanted.default)
            return [*added, f"{alter} ALTER COLUMN {quoted(wanted.column)} SET DEFAULT {value}"]
        data, type_, length, extra = (part or "" for part in stored)
        if "GENERATED" in extra.upper():
            raise unfit(wanted, type_, "is computed by the database")
        if data == "enum":
            wanted.require_labels(type_, [part.replace("''", "'") for part in re.findall(r"'((?:[^']|'')*)'", type_)])
        elif data in ("varchar", "char"):
            wanted.require_family(f"character varying({length})")
        else:
            # An integer of one digit is a truth only where one is declared.
            whole = data == "tinyint" and family(wanted.type) == "integer"
            wanted.require_family("smallint" if whole else _declared(data, type_))
        return []

    def _type(self, connection: Connection, wanted: Wanted) -> str:
        if wanted.values:
            return f"enum({','.join(_literal(connection, value) for value in wanted.values)})"
        base, _, size = wanted.type.partition("(")
        if base in _SIZED and size:
            return f"{_SIZED[base]}({size}"
        if base.startswith("timestamp"):
            return "datetime(6)"
        if base not in _TYPES:
            raise ColumnsUnfitError(
                f"There is no type of MySQL for {wanted.table}.{wanted.column} {wanted.type}.",
                hint="Add the column by hand.",
            )
        return _TYPES[base]

    def execute(self, statements: Sequence[str]) -> None:
        """Run statements; each is committed by the server. Raises WriteBackBlockedError where the user may not."""
        connection = self._connected()
        try:
            with connection.cursor(Cursor) as cursor:
                for statement in statements:
                    cursor.execute(statement)
        except (pymysql.MySQLError, OSError) as error:
            raise WriteBackBlockedError(
                f"The source refuses the statement (error {code(error)}).",
                hint="Have an administrator run it, or give an administrator's connection string for this once: "
                "ROWTIDE_SOURCE__WRITE_BACK_DSN=… rowtide init --yes.",
            ) from None

    def _table(self, name: str) -> str:
        return f"{quoted(self._dsn.database)}.{quoted(name)}"

    def _run(self, target: Target, statement: str) -> tuple[int, Sequence[Any]]:
        """The rows changed, and those found."""
        try:
            with self._connected().cursor(Cursor) as cursor:
                return cursor.execute(statement), cursor.fetchall()
        except (pymysql.MySQLError, OSError) as error:
            raise self._explained(target, error) from None

    def _connected(self) -> Connection:
        if self._connection is not None and self._connection.open:
            return self._connection
        try:
            connection = connect(self._dsn, read_timeout=_TIMEOUT)
            with connection.cursor(Cursor) as cursor:
                for statement in _SESSION:
                    cursor.execute(statement)
        except (pymysql.MySQLError, OSError) as error:
            stop = stopping(error)
            if stop is not None:
                raise WriteBackBlockedError(stop.message, hint=stop.hint) from None
            raise SourceUnavailableError(
                f"The source cannot be reached: error {code(error) or type(error).__name__}."
            ) from None
        self._connection = connection
        return connection

    def _explained(self, target: Target, error: Exception) -> Exception:
        """The error by what is to be done about it. Only its number is told: its text may quote values."""
        number = code(error)
        if number in _BUSY:
            return RowsBusyError(f"somebody holds the row (error {number})")
        if number in _BLOCKED:
            return WriteBackBlockedError(
                f"The source does not let {target.table} ({', '.join(target.set)}) be written (error {number}).",
                hint="Run what `rowtide grants` prints, and `rowtide init` for columns that are not there.",
            )
        away = number == 0 or number in _AWAY or 2000 <= number < 3000
        if away or isinstance(error, OSError | pymysql.err.InterfaceError):
            self.close()
            return SourceUnavailableError(f"The source is away (error {number or type(error).__name__}).")
        return ValuesRefusedError(f"the source refuses the value (error {number})")

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None and self._connection.open:
            self._connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001 - a goodbye may block
        self._connection = None


def _literal(connection: Connection, value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return f"'{moment.isoformat(' ')}'"
    if isinstance(value, date):
        return f"'{value.isoformat()}'"
    return str(connection.escape(str(value)))


def _same(connection: Connection, column: str, value: Any) -> str:
    """Text is compared byte by byte, whatever the column's type and collation are."""
    literal = _literal(connection, value)
    if isinstance(value, str):
        return f"CAST(CONVERT({quoted(column)} USING utf8mb4) AS BINARY) <=> CAST({literal} AS BINARY)"
    return f"{quoted(column)} <=> {literal}"


def _equal(connection: Connection, key: Sequence[str], values: Row) -> list[str]:
    return [f"{quoted(column)} = {_literal(connection, value)}" for column, value in zip(key, values, strict=True)]


def _among(connection: Connection, key: Sequence[str], keys: Sequence[Row]) -> str:
    if len(key) == 1:
        return f"{quoted(key[0])} IN ({', '.join(_literal(connection, values[0]) for values in keys)})"
    listed = ", ".join(f"({', '.join(_literal(connection, part) for part in values)})" for values in keys)
    return f"({', '.join(quoted(column) for column in key)}) IN ({listed})"


def _declared(data: str, type_: str) -> str:
    """PostgreSQL's name for a type of MySQL, as far as families go."""
    if data in ("tinytext", "text", "mediumtext", "longtext"):
        return "text"
    if type_.startswith("tinyint(1)") or data == "bit":
        return "boolean"
    return {
        "tinyint": "smallint", "mediumint": "integer", "int": "integer", "decimal": "numeric", "float": "real",
        "double": "double precision", "datetime": "timestamp without time zone",
        "timestamp": "timestamp with time zone",
    }.get(data, data)  # fmt: skip
