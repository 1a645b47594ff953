"""Values of the binlog's rows: from their bytes to the text that the server itself would show.

A snapshot reads the server's text, the stream reads bytes; both meet here, so that a row has one image. Bytes stay
bytes. What is read is a pair: the value, and where the next one begins.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias
from zlib import decompressobj

from connectors.capture.mysql import tablemap as t
from connectors.capture.mysql.charsets import Charsets, Decode
from connectors.capture.mysql.decimals import decimal_reader
from connectors.capture.mysql.errors import BinlogBrokenError
from connectors.capture.mysql.json_binary import json_text
from connectors.capture.mysql.tablemap import StoredColumn

Read: TypeAlias = Callable[[bytes, int], tuple[str | bytes, int]]

_FRACTION = {0: (0, 1), 1: (1, 10000), 2: (1, 10000), 3: (2, 100), 4: (2, 100), 5: (3, 1), 6: (3, 1)}
_from_bytes = int.from_bytes


def reader(column: StoredColumn, charsets: Charsets) -> Read:
    """How to read a column's values. Raises KeyError for a type whose size is unknown."""
    kind, meta = column.kind, column.meta
    if kind in (t.TIME2, t.DATETIME2, t.TIMESTAMP2) and meta not in _FRACTION:
        raise KeyError(kind)
    if kind in _INTEGERS:
        return _integer(_INTEGERS[kind], signed=not column.unsigned)
    if kind in (t.VARCHAR, t.VAR_STRING, t.VARCHAR_COMPRESSED):
        finish = _finish(column, charsets)
        return _sized(1 if meta < 256 else 2, finish)
    if kind == t.STRING:
        return _sized(1 if meta < 256 else 2, _finish(column, charsets))
    if kind in _BLOBS:
        return _sized(meta or 2, _finish(column, charsets))
    if kind == t.JSON:
        return _sized(meta, json_text)
    if kind in (t.GEOMETRY, t.VECTOR):
        return _sized(meta, bytes)
    if kind == t.NEWDECIMAL:
        return decimal_reader(meta & 0xFF, meta >> 8)
    if kind == t.BIT:
        size = (meta >> 8) + (1 if meta & 0xFF else 0)
        return lambda data, at: (str(_from_bytes(data[at : at + size], "big")), at + size)
    if kind == t.ENUM:
        return _enum(meta, [charsets.decoder(column.collation)(m) for m in column.members])
    if kind == t.SET:
        return _set(meta, [charsets.decoder(column.collation)(m) for m in column.members])
    if kind in (t.TIME2, t.DATETIME2, t.TIMESTAMP2):
        return {t.TIME2: _time2, t.DATETIME2: _datetime2, t.TIMESTAMP2: _timestamp2}[kind](meta)
    return _PLAIN[kind]


def skipper(column: StoredColumn) -> Read:
    """How to pass over a column's values without reading them. Raises KeyError as `reader` does."""
    kind, meta = column.kind, column.meta
    if kind in _PREFIXED:
        size_bytes = (meta or 2) if kind in _BLOBS else meta if kind in _LONG else 1 if meta < 256 else 2
        return lambda data, at: ("", at + size_bytes + _from_bytes(data[at : at + size_bytes], "little"))
    if kind in (t.ENUM, t.SET):
        return lambda data, at: ("", at + meta)  # noqa: ARG005 - as all readers
    if kind in _SIZES:
        size = _SIZES[kind]
        return lambda data, at: ("", at + size)  # noqa: ARG005
    return reader(column, Charsets())


_INTEGERS = {t.TINY: 1, t.SHORT: 2, t.INT24: 3, t.LONG: 4, t.LONGLONG: 8}
_LONG = frozenset({t.JSON, t.GEOMETRY, t.VECTOR})
_SIZES = {**_INTEGERS, t.FLOAT: 4, t.DOUBLE: 8, t.DATE: 3, t.NEWDATE: 3, t.TIMESTAMP: 4, t.DATETIME: 8, t.TIME: 3}
_BLOBS = frozenset({t.BLOB, t.TINY_BLOB, t.MEDIUM_BLOB, t.LONG_BLOB, t.BLOB_COMPRESSED})
_PREFIXED = _BLOBS | _LONG | {t.VARCHAR, t.VAR_STRING, t.VARCHAR_COMPRESSED, t.STRING}


def _integer(size: int, *, signed: bool) -> Read:
    formats = {1: "b", 2: "h", 4: "i", 8: "q"}
    if size in formats:
        unpack = struct.Struct("<" + (formats[size] if signed else formats[size].upper())).unpack_from

        def fixed(data: bytes, at: int) -> tuple[str, int]:
            return str(unpack(data, at)[0]), at + size

        return fixed
    return lambda data, at: (str(_from_bytes(data[at : at + size], "little", signed=signed)), at + size)


def _sized(size_bytes: int, finish: Callable[[bytes], str | bytes]) -> Read:
    def sized(data: bytes, at: int) -> tuple[str | bytes, int]:
        begin = at + size_bytes
        end = begin + _from_bytes(data[at:begin], "little")
        return finish(data[begin:end]), end

    return sized


def _finish(column: StoredColumn, charsets: Charsets) -> Callable[[bytes], str | bytes]:
    """What becomes of a textual column's bytes."""
    decode: Decode | None = None if column.collation == t.BINARY else charsets.decoder(column.collation)
    if column.kind in (t.VARCHAR_COMPRESSED, t.BLOB_COMPRESSED):
        return lambda data: _expanded(data) if decode is None else decode(_expanded(data))
    if decode is None and column.kind == t.STRING:
        width = column.meta
        return lambda data: data.ljust(width, b"\0")  # zero bytes at the end are not stored
    return bytes if decode is None else decode


def _expanded(data: bytes) -> bytes:
    """A value of a MariaDB column that is COMPRESSED."""
    if not data or data[0] == 0:
        return data[1:]
    size_of_size = data[0] & 0x07
    if data[0] & 0xF0 != 0x80:
        raise BinlogBrokenError("a compressed value in an unknown way")
    raw = bool(data[0] & 0x08)
    return decompressobj(-15 if raw else 15).decompress(data[1 + size_of_size :])


def _enum(size: int, members: list[str]) -> Read:
    def enum(data: bytes, at: int) -> tuple[str, int]:
        number = _from_bytes(data[at : at + size], "little")
        return ("" if number == 0 else members[number - 1]), at + size

    return enum


def _set(size: int, members: list[str]) -> Read:
    def several(data: bytes, at: int) -> tuple[str, int]:
        bits = _from_bytes(data[at : at + size], "little")
        return ",".join(member for place, member in enumerate(members) if bits >> place & 1), at + size

    return several


# --- numbers ---


def float_text(number: float) -> str:
    """The shortest text that reads back as the same number of single precision."""
    for digits in (6, 7, 8):
        text = f"{number:.{digits}g}"
        if _SINGLE.unpack(_SINGLE.pack(float(text)))[0] == number:
            return text
    return f"{number:.9g}"


def single(text: str) -> str:
    """The same, of a number that is told in double precision."""
    return float_text(_SINGLE.unpack(_SINGLE.pack(float(text)))[0])


_SINGLE, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")


def _float(data: bytes, at: int) -> tuple[str, int]:
    return float_text(_SINGLE.unpack_from(data, at)[0]), at + 4


def _double(data: bytes, at: int) -> tuple[str, int]:
    return repr(_DOUBLE.unpack_from(data, at)[0]), at + 8


# --- dates and times ---


def _year(data: bytes, at: int) -> tuple[str, int]:
    return (str(data[at] + 1900) if data[at] else "0"), at + 1


@lru_cache(maxsize=65536)
def _day(packed: int) -> str:
    """A date of 15 bits of year, 4 of month and 5 of day."""
    return f"{packed >> 9:04}-{packed >> 5 & 15:02}-{packed & 31:02}"


def _date(data: bytes, at: int) -> tuple[str, int]:
    return _day(_from_bytes(data[at : at + 3], "little")), at + 3


def _time(data: bytes, at: int) -> tuple[str, int]:
    number = _from_bytes(data[at : at + 3], "little", signed=True)
    sign, number = ("-" if number < 0 else ""), abs(number)
    return f"{sign}{number // 10000:02}:{number // 100 % 100:02}:{number % 100:02}", at + 3


def _datetime(data: bytes, at: int) -> tuple[str, int]:
    date, time = divmod(_from_bytes(data[at : at + 8], "little"), 1_000_000)
    text = f"{date // 10000:04}-{date // 100 % 100:02}-{date % 100:02} "
    return f"{text}{time // 10000:02}:{time // 100 % 100:02}:{time % 100:02}", at + 8


def _timestamp(data: bytes, at: int) -> tuple[str, int]:
    return _instant(_from_bytes(data[at : at + 4], "little")), at + 4


@lru_cache(maxsize=65536)
def _clock(packed: int) -> str:
    """A time of day of 5 bits of hour, 6 of minute and 6 of second."""
    return f"{packed >> 12:02}:{packed >> 6 & 63:02}:{packed & 63:02}"


@lru_cache(maxsize=4096)
def _month_day(packed: int) -> str:
    """A date of 17 bits of year * 13 + month and 5 of day."""
    year, month = divmod(packed >> 5, 13)
    return f"{year:04}-{month:02}-{packed & 31:02} "


def _fraction(data: bytes, at: int, precision: int) -> tuple[str, int]:
    size, unit = _FRACTION[precision]
    if size == 0:
        return "", at
    micros = _from_bytes(data[at : at + size], "big") * unit
    return f".{micros:06}"[: precision + 1], at + size


def _datetime2(precision: int) -> Read:
    def moment(data: bytes, at: int) -> tuple[str, int]:
        packed = _from_bytes(data[at : at + 5], "big") - 0x8000000000
        fraction, end = _fraction(data, at + 5, precision)
        return _month_day(packed >> 17) + _clock(packed & 0x1FFFF) + fraction, end

    return moment


@lru_cache(maxsize=4096)
def _utc_day(number: int) -> str:
    """The date of a day since 1970, without the limits and the cost of the standard library's."""
    shifted = number + 719468
    era, of_era = divmod(shifted, 146097)
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return f"{year + era * 400 + (month <= 2):04}-{month:02}-{day:02} "


def _instant(seconds: int) -> str:
    """Seconds since the epoch as UTC; 0 stands for no date."""
    if seconds == 0:
        return "0000-00-00 00:00:00"
    day, second = divmod(seconds, 86400)
    return _utc_day(day) + _clock(second // 3600 << 12 | second // 60 % 60 << 6 | second % 60)


def _timestamp2(precision: int) -> Read:
    def instant(data: bytes, at: int) -> tuple[str, int]:
        fraction, end = _fraction(data, at + 4, precision)
        return _instant(_from_bytes(data[at : at + 4], "big")) + fraction, end

    return instant


def _time2(precision: int) -> Read:
    size, unit = _FRACTION[precision]

    def time(data: bytes, at: int) -> tuple[str, int]:
        end = at + 3 + size
        # One number of whole and fraction, lifted by half its range so that its bytes sort.
        packed = _from_bytes(data[at:end], "big") - (1 << (8 * (3 + size) - 1))
        sign, packed = ("-" if packed < 0 else ""), abs(packed)
        whole = packed >> (8 * size)
        text = f"{sign}{whole >> 12 & 0x3FF:02}:{whole >> 6 & 63:02}:{whole & 63:02}"
        if size:
            text += f".{(packed & ((1 << (8 * size)) - 1)) * unit:06}"[: precision + 1]
        return text, end

    return time


_PLAIN: dict[int, Read] = {
    t.FLOAT: _float,
    t.DOUBLE: _double,
    t.YEAR: _year,
    t.DATE: _date,
    t.NEWDATE: _date,
    t.TIME: _time,
    t.DATETIME: _datetime,
    t.TIMESTAMP: _timestamp,
}
