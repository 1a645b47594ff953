"""The rows of a MySQL or MariaDB source."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import pymysql

from connectors.capture.mysql import types
from connectors.capture.mysql.catalogue import SourceTable, read_tables
from connectors.capture.mysql.connection import connect, describe, quoted, read_dsn, rows, value
from connectors.capture.mysql.errors import losing
from connectors.capture.mysql.position import Place, Position, gtids
from connectors.capture.mysql.preflight import binlog_status, check_table
from connectors.capture.mysql.rows import Row, key_of
from connectors.capture.mysql.types import Convert, Shape
from connectors.event import Source, encode_change
from connectors.source_rows import Digest, IncomparableError, Key, Keys, Range, Segment, Written, canonical
from connectors.table import Column, Table

_WHOLE = frozenset({"smallint", "integer", "bigint"})
_NUMBERS = frozenset({"integer", "decimal", "bit", "year"})
_TEXTUAL = frozenset({"text", "enum", "date", "datetime", "uuid"})
_LISTS = frozenset({"enum", "set"})  # in order by number, and compared by text
_FLOATS = frozenset({"float", "single"})
_DOUBLE = " + 0e0"  # else a number without an exponent is a decimal
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_MOMENT = "'%%Y-%%m-%%d %%H:%%i:%%s.%%f'"


class _Field(NamedTuple):
    """A declared column: how the source has it, None where it does not, and how its text becomes the declared type's."""

    column: Column
    name: str
    shape: Shape | None
    convert: Convert | None


class MySQLRows:
    """Reads a MySQL or MariaDB source.

    Args:
        dsn: as capture takes it, for a user who may read the tables.
        name: the source's name in the messages.
    """

    def __init__(self, dsn: str, tables: Sequence[Table], *, name: str) -> None:
        self._dsn = read_dsn(dsn)
        self._name = name
        with losing():
            self._connection = connect(self._dsn, read_timeout=None)
            self._server = describe(self._connection)
            found = read_tables(self._connection, self._dsn.database, tables, folds_names=self._server.folds_names)
            for table in tables:
                check_table(table, found, self._dsn.database)
        self._found = found
        self._fields = {
            table.name: [_field(table, column, found[table.name]) for column in table.columns] for table in tables
        }

    def is_orderly(self, table: Table) -> bool:
        """See `SourceRows`: whole numbers and dates."""
        fields = [self._fields[table.name][place] for place in table.key_positions]
        return all(
            f.shape is not None
            and ((f.shape.kind == "integer" and f.column.type in _WHOLE) or (f.shape.kind == f.column.type == "date"))
            for f in fields
        )

    def last_of(self, table: Table, after: Key | None, count: int) -> Key | None:
        """See `SourceRows`."""
        names = self._key_names(table)
        where, values = self._where(table, Range(after, None))
        texts = ", ".join(f"CAST({name} AS CHAR)" for name in names)
        query = (
            f"SELECT {texts} FROM {self._place(table)} WHERE {where} ORDER BY {', '.join(names)} LIMIT {count - 1}, 1"
        )
        with losing():
            found = rows(self._connection, query, values)
        return tuple(text or "" for text in found[0]) if found else None

    def page(self, table: Table, after: Sequence[str] | None, count: int) -> tuple[list[Written], Sequence[str] | None]:
        """See `SourceRows`."""
        where, values = self._where(table, Range(None if after is None else tuple(after), None))
        shapes = self._key_shapes(table)
        order = ", ".join(_ordered(n, s) for n, s in zip(self._key_names(table), shapes, strict=True))
        found = self._select(table, f"{where} ORDER BY {order} LIMIT {count}", values)
        last = [str(text) for text in key_of(table, found[-1])] if len(found) == count else None
        return [self._written(table, row) for row in found], last

    def rows(self, table: Table, segment: Segment) -> list[Written]:
        """See `SourceRows`."""
        where, values = self._where(table, segment)
        return [self._written(table, row) for row in self._select(table, where, values)]

    def mirrored(self, table: Table) -> Sequence[str] | None:
        """See `SourceRows`."""
        pairs = [_pair(field) for field in self._fields[table.name]]
        return None if None in pairs else [pair[1] for pair in pairs if pair is not None]

    def digest(self, table: Table, segment: Segment) -> Digest | None:
        """See `SourceRows`."""
        pairs = [_pair(field) for field in self._fields[table.name]]
        if None in pairs:
            return None
        texts = [f"CAST({pair[0]} AS BINARY)" for pair in pairs if pair is not None]
        pieces = ", ".join(f"IF({t} IS NULL, ':', CONCAT(LENGTH({t}), ':', {t}))" for t in texts)
        where, values = self._where(table, segment)

        def total(start: int) -> str:
            return f"COALESCE(SUM(CAST(CONV(SUBSTR(h, {start}, 15), 16, 10) AS UNSIGNED)), 0)"

        query = (
            f"SELECT COUNT(*), {total(1)}, {total(16)} FROM "
            f"(SELECT MD5(CONCAT({pieces})) AS h FROM {self._place(table)} WHERE {where}) AS s"
        )
        with losing():
            try:
                found = rows(self._connection, query if values else query.replace("%%", "%"), values)
            except (pymysql.err.DataError, pymysql.err.ProgrammingError, pymysql.err.NotSupportedError):
                return None
        return Digest(*(int(number or 0) for number in found[0]))

    def mark(self) -> str:
        """See `SourceRows`."""
        with losing():
            if self._server.mariadb:
                return "gtids " + value(self._connection, "SELECT @@gtid_binlog_pos")
            if self._server.gtid:
                return "gtids " + value(self._connection, "SELECT @@GLOBAL.gtid_executed").replace("\n", "")
            place, _, _ = binlog_status(self._connection, self._server)
            return f"place {place.file} {place.offset}"

    def has_passed(self, mark: str, captured: str) -> bool:
        """See `SourceRows`."""
        position = Position.decode(captured)
        if position.phase != "stream":
            return False
        kind, _, rest = mark.partition(" ")
        if kind == "gtids":
            return position.gtids is not None and gtids(position.gtids, mariadb=self._server.mariadb).covers(rest)
        file, _, offset = rest.rpartition(" ")
        return position.place.order >= Place(file, int(offset)).order

    def close(self) -> None:
        """See `SourceRows`."""
        self._connection.close()

    # --- statements ---

    def _place(self, table: Table) -> str:
        return f"{quoted(self._dsn.database)}.{quoted(self._found[table.name].name)}"

    def _key_names(self, table: Table) -> list[str]:
        return [quoted(self._fields[table.name][place].name) for place in table.key_positions]

    def _key_shapes(self, table: Table) -> list[Shape]:
        """How the source has the key's columns. Raises IncomparableError where a value of one cannot be written."""
        shapes = []
        for place in table.key_positions:
            shape = self._fields[table.name][place].shape
            if shape is None or shape.kind == "json":
                raise _no_literal(table, shape)
            shapes.append(shape)
        return shapes

    def _where(self, table: Table, segment: Segment) -> tuple[str, list[str]]:
        """A condition written so that the key's index serves it, and its values."""
        names = self._key_names(table)
        shapes = self._key_shapes(table)
        if isinstance(segment, Keys):
            parts, values = list[str](), list[str]()
            for key in segment.keys:
                literals = [_literal(table, s, text) for s, text in zip(shapes, key, strict=True)]
                parts.append("(" + " AND ".join(f"{n} = {t}" for n, (t, _) in zip(names, literals, strict=True)) + ")")
                values += [v for _, given in literals for v in given]
            return " OR ".join(parts) or "FALSE", values
        parts, values = ["TRUE"], []
        for bound, sign in ((segment.low, ">"), (segment.high, "<")):
            if bound is None:
                continue
            literals = [_literal(table, s, text) for s, text in zip(shapes, bound, strict=True)]
            ways = []
            for place in range(len(names)):
                last = sign + ("=" if sign == "<" and place == len(names) - 1 else "")
                equal = [f"{names[i]} = {literals[i][0]}" for i in range(place)]
                further = f"{_ordered(names[place], shapes[place])} {last} {literals[place][0]}"
                ways.append(" AND ".join([*equal, further]))
                values += [v for i in range(place + 1) for v in literals[i][1]]
            parts.append("(" + " OR ".join(f"({way})" for way in ways) + ")")
        return " AND ".join(parts), values

    def _select(self, table: Table, where: str, values: Sequence[str]) -> list[Row]:
        fields = self._fields[table.name]
        texts = ["NULL" if f.shape is None else types.selected(quoted(f.name), f.shape) for f in fields]
        query = f"SELECT {', '.join(texts)} FROM {self._place(table)} WHERE {where}"
        with losing(), self._connection.cursor() as cursor:
            cursor.execute(query, tuple(values) or None)
            found = cursor.fetchall()
        reads = [None if f.shape is None else types.read_selected(f.shape) for f in fields]
        result = []
        for row in found:
            given: list[Any] = []
            for data, read, field in zip(row, reads, fields, strict=True):
                text = None if data is None or read is None else read(data)
                given.append(text if text is None or field.convert is None else field.convert(text))
            result.append(cast(Row, tuple(given)))
        return result

    def _written(self, table: Table, row: Row) -> Written:
        connector = "mariadb" if self._server.mariadb else "mysql"
        source = Source(connector, self._name, self._dsn.database, "", table.name, 0, snapshot="true")
        return Written(*encode_change(table, "r", key_of(table, row), row, source=source))


def _field(table: Table, column: Column, found: SourceTable) -> _Field:
    stored = found.columns.get(column.name.lower())
    if stored is None:
        return _Field(column, column.name, None, None)
    return _Field(column, stored.name, stored.shape, types.target(stored.shape, column, table.name))


def _ordered(name: str, shape: Shape) -> str:
    """The expression by which a key's column is in order, and whose order its literals have."""
    return f"CONVERT({name} USING utf8mb4) COLLATE utf8mb4_bin" if shape.kind in _LISTS else name


def _literal(table: Table, shape: Shape, text: str) -> tuple[str, list[str]]:
    """A key column's value, from its text in PostgreSQL, as it is written in a statement, with parameters."""
    kind = shape.kind
    if kind in _NUMBERS:
        if text in ("true", "false", "t", "f"):
            return str(int(text[0] == "t")), []
        if kind == "bit" and len(text) == shape.size and not set(text) - {"0", "1"}:
            return f"b'{text}'", []
        if _NUMBER.fullmatch(text):
            return text, []
    if kind == "timestamp":
        return "%s", [text.removesuffix("Z").removesuffix("+00")]
    if kind == "time":
        return "CAST(%s AS TIME(6))", [text.removesuffix("+00")]
    if kind == "set":  # also from an array
        return "%s", [re.sub(r'\\(.)|"', r"\1", text[1:-1]) if text[:1] == "{" else text]
    if kind == "inet":
        return "%s", [text.partition("/")[0]]
    if kind in _FLOATS and (number := _finite(text)) is not None:
        # Compared as doubles: a FLOAT's own value, not the nearest of its short text.
        return repr(number if kind == "float" else struct.unpack("f", struct.pack("f", number))[0]) + _DOUBLE, []
    if kind in _TEXTUAL:
        return "%s", [text]
    if kind == "binary":
        return "UNHEX(%s)", [text.removeprefix("\\x").replace("-", "")]
    raise _no_literal(table, shape)


def _finite(text: str) -> float | None:
    """The number in a text; None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _no_literal(table: Table, shape: Shape | None) -> IncomparableError:
    kind = "a column that it lacks" if shape is None else f"of the kind {shape.kind}"
    return IncomparableError(
        f"The rows of {table.name} cannot be looked up in the source by their key, which is {kind}.",
        hint="Compare the other tables: `rowtide verify --source --table NAME`.",
    )


def _pair(field: _Field) -> tuple[str, str] | None:
    """Two expressions with the same text for the same value: one of the source, one of a mirror's row `m` in PostgreSQL."""
    column, shape = field.column, field.shape
    mirror = "m." + '"' + column.name.replace('"', '""') + '"'
    if shape is None:
        return "NULL", f"{mirror}::text"
    here, base = quoted(field.name), column.type.partition("(")[0].strip()
    numbers = [int(n) for n in re.findall(r"\d+", column.type)]
    kind = shape.kind
    if base in _WHOLE and kind in ("integer", "bit", "year"):
        return f"CAST({here} + 0 AS CHAR)", f"{mirror}::text"
    if base == "boolean" and kind in ("integer", "bit"):
        return f"IF({here} IS NULL, NULL, IF({here} = 0, 'f', 't'))", canonical(mirror, column.type)
    if base == "numeric" and kind == "decimal":
        plain = f"CAST({here} + 0 AS CHAR)"
        if shape.size:
            plain = f"TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {plain}))"
        return plain, canonical(mirror, column.type)
    if base == "date" and kind == "date":
        return (
            f"IF(MONTH({here}) = 0 OR DAY({here}) = 0, NULL, CAST({here} AS CHAR))",
            f"to_char({mirror}, 'YYYY-MM-DD')",
        )
    zoned = "with time zone" in column.type and "without" not in column.type
    if column.type.startswith("timestamp") and kind in ("datetime", "timestamp") and (kind == "timestamp") == zoned:
        if numbers and numbers[0] < 6:
            return None
        text = f"IF(MONTH({here}) = 0 OR DAY({here}) = 0, NULL, DATE_FORMAT({here}, {_MOMENT}))"
        return text, f"to_char({mirror}, 'YYYY-MM-DD HH24:MI:SS.US')"
    if kind in ("text", "enum", "set") and base in ("text", "character varying", "character"):
        text = f"CONVERT({here} USING utf8mb4)"
        return (f"TRIM(TRAILING ' ' FROM {text})" if base == "character" else text), canonical(mirror, column.type)
    if kind == "binary" and base == "bytea":
        return f"LOWER(HEX({here}))", f"encode({mirror}, 'hex')"
    if kind == base == "uuid":
        return f"LOWER(CAST({here} AS CHAR))", f"{mirror}::text"
    return None
