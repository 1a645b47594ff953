"""The TABLE_MAP event: what the columns of the rows that follow are called and how they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from connectors.capture.mysql.errors import BinlogBrokenError
from connectors.capture.mysql.events import length_encoded

# The types' numbers.
DECIMAL_OLD, TINY, SHORT, LONG, FLOAT, DOUBLE, NULL, TIMESTAMP, LONGLONG, INT24 = range(10)
DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT, TIMESTAMP2, DATETIME2, TIME2 = range(10, 20)
BLOB_COMPRESSED, VARCHAR_COMPRESSED, VECTOR, JSON, NEWDECIMAL, ENUM, SET = 140, 141, 242, 245, 246, 247, 248
TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING, GEOMETRY = 249, 250, 251, 252, 253, 254, 255

BINARY = 63  # the collation of bytes
_NUMERIC = frozenset({TINY, SHORT, INT24, LONG, LONGLONG, NEWDECIMAL, FLOAT, DOUBLE})
_CHARACTER = frozenset(
    {STRING, VAR_STRING, VARCHAR, BLOB, BLOB_COMPRESSED, VARCHAR_COMPRESSED, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB}
)
_METADATA_SIZE = {
    **dict.fromkeys((FLOAT, DOUBLE, TIMESTAMP2, DATETIME2, TIME2), 1),
    **dict.fromkeys((BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB_COMPRESSED, GEOMETRY, JSON, VECTOR), 1),
    **dict.fromkeys((VARCHAR, VARCHAR_COMPRESSED, VAR_STRING, BIT, NEWDECIMAL, STRING, ENUM, SET), 2),
}


class StoredColumn(NamedTuple):
    """How a column is stored in the rows.

    Args:
        kind: the type's number; ENUM and SET are told apart from STRING.
        meta: the type's metadata: two bytes in stored order, one byte, or 0.
        collation: the collation's number, 0 where not told.
        members: the texts of an ENUM or SET, as stored.
    """

    name: str
    kind: int
    meta: int
    unsigned: bool = False
    collation: int = 0
    members: tuple[bytes, ...] = ()


class TableMap(NamedTuple):
    """One table as it is at this place of the binlog.

    Args:
        named: whether the columns' names are told; they are with binlog_row_metadata=FULL only.
    """

    table_id: int
    database: str
    name: str
    columns: tuple[StoredColumn, ...]
    named: bool


def table_name(body: bytes) -> tuple[int, str, str]:
    """The number, database and name of the table that the event describes."""
    size = body[8]
    end = 9 + size
    return (
        int.from_bytes(body[:6], "little"),
        body[9:end].decode("utf-8", "replace"),
        body[end + 2 : end + 2 + body[end + 1]].decode("utf-8", "replace"),
    )


def table_map(body: bytes, *, mariadb: bool) -> TableMap:
    """Parse the event, of either family. Raises BinlogBrokenError for what is malformed."""
    try:
        return _table_map(body, mariadb=mariadb)
    except (IndexError, ValueError):
        raise BinlogBrokenError("a table's description is malformed") from None


def _table_map(body: bytes, *, mariadb: bool) -> TableMap:
    table_id, database, name = table_name(body)
    at = 9 + body[8] + 1
    at += 1 + body[at] + 1
    width, at = length_encoded(body, at)
    types, at = body[at : at + width], at + width
    meta_size, at = length_encoded(body, at)
    kinds = list(_stored(types, body[at : at + meta_size]))
    at += meta_size + (width + 7) // 8  # the bitmap of nullable columns is of no use here
    optional: dict[int, bytes] = {}
    while at < len(body):
        field = body[at]
        size, begin = length_encoded(body, at + 1)
        optional[field] = body[begin : begin + size]
        at = begin + size
    return TableMap(table_id, database, name, tuple(_described(kinds, optional, mariadb=mariadb)), 4 in optional)


def _stored(types: bytes, metadata: bytes) -> Iterator[tuple[int, int]]:
    """The true type and metadata of each column."""
    at = 0
    for kind in types:
        size = _METADATA_SIZE.get(kind, 0)
        meta = int.from_bytes(metadata[at : at + size], "little")
        at += size
        if kind == STRING:
            real, length = meta & 0xFF, meta >> 8
            if real in (ENUM, SET):
                yield real, length
            else:
                # Lengths above 255 borrow two bits of the type's byte, inverted.
                yield STRING, length | (((real & 0x30) ^ 0x30) << 4)
            continue
        if kind in (ENUM, SET):
            meta >>= 8
        yield kind, meta


def _described(kinds: list[tuple[int, int]], optional: dict[int, bytes], *, mariadb: bool) -> Iterator[StoredColumn]:
    # The families differ in which types they count among the signed and the textual ones.
    signed = _NUMERIC | {YEAR} if mariadb else _NUMERIC
    textual = _CHARACTER | {GEOMETRY} if mariadb else _CHARACTER
    names = list(_texts(optional.get(4, b"")))
    signs = optional.get(1, b"")
    sets, enums = list(_member_lists(optional.get(5, b""))), list(_member_lists(optional.get(6, b"")))
    characters = [n for n, (kind, _) in enumerate(kinds) if kind in textual]
    choices = [n for n, (kind, _) in enumerate(kinds) if kind in (ENUM, SET)]
    collations = dict(_collations(characters, optional.get(2), optional.get(3)))
    collations.update(_collations(choices, optional.get(10), optional.get(11)))
    numeric = 0
    for number, (kind, meta) in enumerate(kinds):
        unsigned = False
        if kind in signed:
            unsigned = numeric >> 3 < len(signs) and bool(signs[numeric >> 3] & (0x80 >> (numeric & 7)))
            numeric += 1
        members: tuple[bytes, ...] = ()
        if kind == SET and sets:
            members = sets.pop(0)
        elif kind == ENUM and enums:
            members = enums.pop(0)
        name = names[number].decode("utf-8", "replace") if number < len(names) else ""
        yield StoredColumn(name, kind, meta, unsigned, collations.get(number, 0), members)


def _texts(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size, at = length_encoded(data, at)
        yield data[at : at + size]
        at += size


def _member_lists(data: bytes) -> Iterator[tuple[bytes, ...]]:
    at = 0
    while at < len(data):
        count, at = length_encoded(data, at)
        members = []
        for _ in range(count):
            size, at = length_encoded(data, at)
            members.append(data[at : at + size])
            at += size
        yield tuple(members)


def _collations(columns: list[int], default: bytes | None, listed: bytes | None) -> Iterator[tuple[int, int]]:
    """The collation of each of the columns: one for all with exceptions, or one for each."""
    if listed is not None:
        yield from zip(columns, _integers(listed), strict=False)
    elif default is not None:
        common, *pairs = list(_integers(default))
        exceptions = dict(zip(pairs[::2], pairs[1::2], strict=False))
        for order, number in enumerate(columns):
            yield number, exceptions.get(order, common)


def _integers(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        number, at = length_encoded(data, at)
        found.append(number)
    return found
