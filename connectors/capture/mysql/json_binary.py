"""MySQL's binary JSON, as its binlog has it, as text in the server's own spelling (MariaDB's JSON is text already)."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from connectors.capture.mysql.decimals import decimal_reader
from connectors.capture.mysql.errors import BinlogBrokenError

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = range(5)
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING, _OPAQUE = (5, 6, 7, 8, 9, 10, 11, 12, 15)
_FIXED = {_INT16: "<h", _UINT16: "<H", _INT32: "<i", _UINT32: "<I", _INT64: "<q", _UINT64: "<Q", _DOUBLE: "<d"}
_LITERALS = {0: "null", 1: "true", 2: "false"}
_DEEPEST = 150  # the server allows 100
_DATE, _TIME, _DATETIME, _TIMESTAMP, _DECIMAL = 10, 11, 12, 7, 246


def json_text(data: bytes) -> str:
    """The document as text. Raises BinlogBrokenError for what is malformed."""
    if not data:
        return "null"  # what an empty value of a column that was never set reads as
    try:
        return _value(data, data[0], 1, 0)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError):
        raise BinlogBrokenError("a JSON value is malformed") from None


def _value(data: bytes, kind: int, at: int, depth: int) -> str:
    if depth > _DEEPEST:
        raise BinlogBrokenError("a JSON value is nested too deeply")
    if kind in (_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY):
        return _container(data, kind, at, depth)
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind in _FIXED:
        number: Any = struct.unpack_from(_FIXED[kind], data, at)[0]
        return _double(number) if kind == _DOUBLE else str(number)
    if kind == _STRING:
        size, begin = _size(data, at)
        return json.dumps(_slice(data, begin, size).decode(), ensure_ascii=False)
    if kind == _OPAQUE:
        size, begin = _size(data, at + 1)
        return _opaque(data[at], _slice(data, begin, size))
    raise BinlogBrokenError("a JSON value of an unknown type")


def _slice(data: bytes, begin: int, size: int) -> bytes:
    if begin + size > len(data):
        raise IndexError
    return data[begin : begin + size]


def _container(data: bytes, kind: int, at: int, depth: int) -> str:
    large = kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    keyed = kind in (_SMALL_OBJECT, _LARGE_OBJECT)
    word, number = (4, "<I") if large else (2, "<H")

    def read(place: int) -> int:
        return int(struct.unpack_from(number, data, place)[0])

    count = read(at)
    if count * (word + 1) > len(data):
        raise IndexError
    entries = at + 2 * word
    keys: list[str] = []
    if keyed:
        for order in range(count):
            place = entries + order * (word + 2)
            size = struct.unpack_from("<H", data, place + word)[0]
            keys.append(json.dumps(_slice(data, at + read(place), size).decode(), ensure_ascii=False))
        entries += count * (word + 2)
    parts = []
    for order in range(count):
        place = entries + order * (word + 1)
        inner = data[place]
        inline = inner in (_LITERAL, _INT16, _UINT16) or (large and inner in (_INT32, _UINT32))
        parts.append(_value(data, inner, place + 1 if inline else at + read(place + 1), depth + 1))
    if keyed:
        return "{" + ", ".join(f"{key}: {part}" for key, part in zip(keys, parts, strict=True)) + "}"
    return "[" + ", ".join(parts) + "]"


def _size(data: bytes, at: int) -> tuple[int, int]:
    """A length of seven bits to the byte."""
    size = 0
    for place in range(5):
        byte = data[at + place]
        size |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return size, at + place + 1
    raise BinlogBrokenError("a JSON value with a malformed length")


def _double(number: float) -> str:
    text = repr(number)
    return text.replace("e+", "e") if "e" in text else text


def _opaque(kind: int, data: bytes) -> str:
    """A value of one of the server's own types inside JSON."""
    if kind == _DECIMAL:
        return decimal_reader(data[0], data[1])(data, 2)[0]
    if kind in (_DATE, _TIME, _DATETIME, _TIMESTAMP):
        packed = int.from_bytes(data[:8], "little", signed=True)
        sign, packed = ("-" if packed < 0 else ""), abs(packed)
        micros, whole = packed & 0xFFFFFF, packed >> 24
        clock = f"{whole >> 6 & 63:02}:{whole & 63:02}.{micros:06}"
        if kind == _TIME:
            return f'"{sign}{whole >> 12 & 0x3FF:02}:{clock}"'
        day = whole >> 17
        year, month = divmod(day >> 5, 13)
        date = f"{year:04}-{month:02}-{day & 31:02}"
        return f'"{date}"' if kind == _DATE else f'"{date} {whole >> 12 & 31:02}:{clock}"'
    return json.dumps(f"base64:type{kind}:{base64.b64encode(data).decode()}")
