"""From the source's types to the declared ones: the server's text becomes what PostgreSQL reads for the column."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from connectors.capture.mysql import tablemap as t
from connectors.capture.mysql.tablemap import StoredColumn
from connectors.capture.mysql.values import single
from connectors.capture.running import CaptureStoppedError
from connectors.table import Column

Convert: TypeAlias = Callable[[str | bytes], str | None]

_WHOLE = frozenset({"smallint", "integer", "bigint"})
_NUMBERS = frozenset({"numeric", "real", "double precision"})
_MOMENTS = frozenset({"timestamp", "timestamp without time zone", "timestamp with time zone"})
_CLOCKS = frozenset({"time", "time without time zone", "time with time zone", "interval"})
_TEXTS = frozenset({"text", "character varying", "character", "varchar", "bpchar", "citext"})
_BITS = frozenset({"bit", "bit varying"})
_JSONS = frozenset({"json", "jsonb"})
# What a source's kind may be declared as, besides text.
_ALLOWED = {
    "integer": _WHOLE | _NUMBERS | {"boolean"},
    "decimal": _NUMBERS,
    "float": _NUMBERS,
    "bit": _WHOLE | _BITS | {"boolean", "numeric"},
    "year": _WHOLE | {"numeric"},
    "date": _MOMENTS | {"date"},
    "datetime": _MOMENTS,
    "timestamp": _MOMENTS,
    "time": _CLOCKS,
    "json": _JSONS,
    "set": frozenset({"text[]"}),
    "uuid": frozenset({"uuid"}),
    "inet": frozenset({"inet"}),
    "binary": frozenset({"bytea"}),
}
_UNTEXTUAL = _WHOLE | _NUMBERS | _MOMENTS | _CLOCKS | _BITS | {"boolean", "bytea", "date"}


class Shape(NamedTuple):
    """A source column's type as far as it matters for its values.

    Args:
        kind: integer, decimal, float, single, bit, year, date, datetime, timestamp, time, text, enum, set, json,
            binary, uuid, inet.
        size: the bits of a BIT, the bytes of a BINARY, the digits behind a DECIMAL's point.
    """

    kind: str
    size: int = 0


_STORED = {
    **dict.fromkeys((t.TINY, t.SHORT, t.INT24, t.LONG, t.LONGLONG), "integer"),
    t.FLOAT: "float",
    t.DOUBLE: "float",
    t.YEAR: "year",
    **dict.fromkeys((t.DATE, t.NEWDATE), "date"),
    **dict.fromkeys((t.DATETIME, t.DATETIME2), "datetime"),
    **dict.fromkeys((t.TIMESTAMP, t.TIMESTAMP2), "timestamp"),
    **dict.fromkeys((t.TIME, t.TIME2), "time"),
    t.ENUM: "enum",
    t.SET: "set",
    t.JSON: "json",
    **dict.fromkeys((t.GEOMETRY, t.VECTOR), "binary"),
}
_NAMED = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), "integer"),
    "float": "single",
    "double": "float",
    "year": "year",
    "date": "date",
    "datetime": "datetime",
    "timestamp": "timestamp",
    "time": "time",
    "enum": "enum",
    "set": "set",
    "json": "json",
    "uuid": "uuid",
    **dict.fromkeys(("inet4", "inet6"), "inet"),
    **dict.fromkeys(("varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "binary"),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), "text"),
}


def stored_shape(column: StoredColumn, named: str | None = None) -> Shape:
    """The shape of a column as the binlog describes it.

    Args:
        column: as it is stored.
        named: `uuid` or `inet` where the source's catalogue says so: in the binlog both are plain bytes.
    """
    if column.kind == t.NEWDECIMAL:
        return Shape("decimal", column.meta >> 8)
    if column.kind == t.BIT:
        return Shape("bit", (column.meta >> 8) * 8 + (column.meta & 0xFF))
    if column.kind in _STORED:
        return Shape(_STORED[column.kind])
    if column.collation != t.BINARY:
        return Shape("text")
    return Shape(named or "binary", column.meta if column.kind == t.STRING else 0)


def named_shape(data_type: str, column_type: str) -> Shape:
    """The shape of a column as information_schema describes it."""
    numbers = [int(n) for n in re.findall(r"\d+", column_type.partition("(")[2])]
    if data_type == "decimal":
        return Shape("decimal", numbers[1] if len(numbers) > 1 else 0)
    if data_type == "bit":
        return Shape("bit", numbers[0] if numbers else 1)
    if data_type == "binary":
        return Shape("binary", numbers[0] if numbers else 1)
    return Shape(_NAMED.get(data_type, "binary"))


def selected(name: str, shape: Shape) -> str:
    """The expression (of a quoted column) whose text has the whole value."""
    if shape.kind in ("float", "single"):
        return f"{name} * 1e0"  # the plain column would be rounded for display
    if shape.kind == "bit":
        return f"{name} + 0"
    if shape.kind == "inet":
        return f"CAST({name} AS BINARY)"
    return name


def read_selected(shape: Shape) -> Callable[[bytes], str | bytes]:
    """How to read what `selected` gives, so that it equals what the stream gives."""
    if shape.kind in ("binary", "inet"):
        return bytes
    if shape.kind == "single":
        return lambda data: single(data.decode())
    if shape.kind == "float":
        return lambda data: repr(float(data))
    if shape.kind == "year":
        return lambda data: str(int(data))
    return lambda data: data.decode("utf-8", "replace")


def target(shape: Shape, column: Column, table: str) -> Convert | None:
    """How the server's text becomes the declared type's; None where nothing is to be done.

    Raises CaptureStoppedError where the declared type cannot hold what the source has.
    """
    kind, base = shape.kind, column.type.partition("(")[0].strip()
    if base == "timestamp" and "with time zone" in column.type:
        base = "timestamp with time zone"
    if base == "time" and "with time zone" in column.type:
        base = "time with time zone"
    if column.type.endswith("[]"):
        base = column.type
    kind = "float" if kind == "single" else kind
    textual = base in _TEXTS or base not in _UNTEXTUAL
    allowed = _ALLOWED.get(kind, frozenset())
    fits = base in allowed or (base in _TEXTS and kind != "binary")
    fits = fits or (kind in ("text", "enum") and textual) or (kind == "decimal" and base in _WHOLE and shape.size == 0)
    fits = fits or (kind == "binary" and base == "uuid" and shape.size == 16)
    if not fits:
        raise CaptureStoppedError(
            f"The column {table}.{column.name} is {_ARTICLES.get(kind, kind)} in the source and declared as {column.type}.",
            hint=f"Declare it in source.sql as one of: {', '.join(sorted(allowed) or ['text'])}.",
        )
    return _conversion(kind, base, shape.size)


_ARTICLES = {"text": "text", "binary": "binary data", "set": "a SET", "enum": "an ENUM", "float": "a FLOAT or DOUBLE"}


def _conversion(kind: str, base: str, size: int) -> Convert | None:
    if base == "boolean":
        return lambda value: "false" if value == "0" else "true"
    if kind in ("date", "datetime", "timestamp") and base not in _TEXTS:
        return _instant if kind == "timestamp" else _moment
    if kind == "bit" and base in _BITS:
        return lambda value: f"{int(value):0{size}b}"
    if kind == "set" and base.endswith("[]"):
        return _array
    if kind == "inet":
        return _address
    if kind == "uuid":
        return lambda value: str(uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(value))
    if kind == "binary" and base == "uuid":
        return lambda value: str(uuid.UUID(bytes=bytes(value)))  # type: ignore[arg-type]
    if kind == "binary":
        return lambda value: "\\x" + value.hex()  # type: ignore[union-attr]
    return None


def _moment(value: str | bytes) -> str | None:
    """A date, or date and time, as it is; where a part of the date is zero there is none."""
    text = str(value)
    return None if text[5:7] == "00" or text[8:10] == "00" else text


def _instant(value: str | bytes) -> str | None:
    text = str(value)
    return None if text[5:7] == "00" else text + "Z"


def _array(value: str | bytes) -> str:
    members = [m.replace("\\", "\\\\").replace('"', '\\"') for m in str(value).split(",") if value]
    return "{" + ",".join(f'"{member}"' for member in members) + "}"


def _address(value: str | bytes) -> str:
    data = bytes(value)  # type: ignore[arg-type]
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)
