"""The messages of PostgreSQL's `pgoutput` plug-in, protocol version 1.

Source: PostgreSQL's documentation, “Logical Replication Message Formats”.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from connectors.event import UNAVAILABLE, Value

_EPOCH_MS = 946_684_800_000  # 2000-01-01, from which PostgreSQL counts
_U32 = struct.Struct(">I")


class Begin(NamedTuple):
    """A transaction begins; `lsn` is where it commits, `ts_ms` when."""

    lsn: int
    ts_ms: int
    xid: int


class Commit(NamedTuple):
    """A transaction ends; `end_lsn` lies behind it."""

    lsn: int
    end_lsn: int


class Relation(NamedTuple):
    """What the following rows of a table look like.

    Args:
        identity: the replica identity: d(efault), f(ull), i(ndex) or n(othing).
        keys: the columns of the replica identity, which every deletion tells.
    """

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    identity: str
    keys: tuple[str, ...]


class Row(NamedTuple):
    """A row change: `I`, `U` or `D`; `old` is the old key or row where the source sends it."""

    kind: str
    oid: int
    old: tuple[Value, ...] | None
    new: tuple[Value, ...] | None


class Truncated(NamedTuple):
    """Tables were emptied."""

    oids: tuple[int, ...]


PgMessage: TypeAlias = Begin | Commit | Relation | Row | Truncated | None


def parse(data: bytes) -> PgMessage:
    """Read one message; None for those that carry no change (origin, type, logical message)."""
    kind = data[:1]
    if kind in (b"I", b"U", b"D"):
        return _row(data)
    if kind == b"B":
        lsn, micros, xid = struct.unpack_from(">QqI", data, 1)
        return Begin(lsn, _EPOCH_MS + micros // 1000, xid)
    if kind == b"C":
        _, lsn, end, _ = struct.unpack_from(">BQQq", data, 1)
        return Commit(lsn, end)
    if kind == b"R":
        return _relation(data)
    if kind == b"T":
        count, _ = struct.unpack_from(">IB", data, 1)
        return Truncated(struct.unpack_from(f">{count}I", data, 6))
    return None


def _row(data: bytes) -> Row:
    oid = _U32.unpack_from(data, 1)[0]
    kind, position = chr(data[0]), 5
    old = new = None
    marker = data[position : position + 1]
    if marker in (b"K", b"O"):
        old, position = _tuple(data, position + 1)
        marker = data[position : position + 1]
    if marker == b"N":
        new, position = _tuple(data, position + 1)
    return Row(kind, oid, old, new)


def _tuple(data: bytes, position: int) -> tuple[tuple[Value, ...], int]:
    (count,) = struct.unpack_from(">H", data, position)
    position += 2
    values: list[Value] = []
    for _ in range(count):
        kind = data[position]
        position += 1
        if kind == 116:  # t: text
            length = _U32.unpack_from(data, position)[0]
            position += 4
            values.append(data[position : position + length].decode())
            position += length
        elif kind == 110:  # n: NULL
            values.append(None)
        else:  # u: an unchanged value that was not sent
            values.append(UNAVAILABLE)
    return tuple(values), position


def _relation(data: bytes) -> Relation:
    oid = _U32.unpack_from(data, 1)[0]
    schema, position = _string(data, 5)
    table, position = _string(data, position)
    identity = chr(data[position])
    (count,) = struct.unpack_from(">H", data, position + 1)
    position += 3
    columns, keys = [], []
    for _ in range(count):
        part_of_key = data[position] & 1
        name, position = _string(data, position + 1)
        position += 8
        columns.append(name)
        if part_of_key:
            keys.append(name)
    return Relation(oid, schema, table, tuple(columns), identity, tuple(keys))


def _string(data: bytes, position: int) -> tuple[str, int]:
    end = data.index(0, position)
    return data[position:end].decode(), end + 1
