"""The binlog's events: from bytes to what they say, for both families of servers."""

from __future__ import annotations

import struct
import uuid
import zlib
from typing import NamedTuple

from connectors.capture.mysql.errors import BinlogBrokenError

QUERY, STOP, ROTATE, FORMAT, XID, LOAD_QUERY, TABLE_MAP, INCIDENT, HEARTBEAT = 2, 3, 4, 15, 16, 18, 19, 26, 27
GTID, ANONYMOUS_GTID, XA_PREPARE, PARTIAL_UPDATE, PAYLOAD, HEARTBEAT_2, TAGGED_GTID = 33, 34, 38, 39, 40, 41, 42
MARIADB_GTID, MARIADB_ENCRYPTION, MARIADB_QUERY = 162, 164, 165

# kind → (operation, whether the header has extra data, whether the rows are compressed)
ROWS = {
    23: ("c", False, False),
    24: ("u", False, False),
    25: ("d", False, False),
    30: ("c", True, False),
    31: ("u", True, False),
    32: ("d", True, False),
    166: ("c", False, True),
    167: ("u", False, True),
    168: ("d", False, True),
    169: ("c", True, True),
    170: ("u", True, True),
    171: ("d", True, True),
}
_NO_FOREIGN_KEY_CHECKS = 2
_STANDALONE, _GROUP_COMMIT, _PREPARED_XA, _COMPLETED_XA = 1, 2, 64, 128


class Gtid(NamedTuple):
    """A transaction begins.

    Args:
        text: its name; None where the server has no GTIDs.
        standalone: whether it is one statement with no end of its own (DDL).
        xa: "prepared" or "completed" for a part of a two-phase transaction.
        ts_ms: when it was committed, where told more finely than in seconds.
    """

    text: str | None
    standalone: bool = False
    xa: str | None = None
    ts_ms: int | None = None


class Query(NamedTuple):
    """A statement, as it was given. `thread` is the session's number."""

    database: str
    text: str
    thread: int


class RowsEvent(NamedTuple):
    """Rows of one table; `data` begins at the first row's.

    Args:
        before: the bitmap of columns present in an old image (deletions and updates), else as `after`.
        after: the same of a new image.
    """

    table_id: int
    op: str
    foreign_key_checks: bool
    width: int
    before: bytes
    after: bytes
    data: bytes
    at: int


def length_encoded(data: bytes, at: int) -> tuple[int, int]:
    """An integer of the protocol's variable size, and where it ends."""
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if size is None:
        raise BinlogBrokenError("a malformed length")
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def mariadb_gtid(body: bytes, server_id: int) -> Gtid:
    """MariaDB's GTID event; the server's number is in the header of the event."""
    sequence, domain, flags = struct.unpack_from("<QIB", body)
    xa = "prepared" if flags & _PREPARED_XA else "completed" if flags & _COMPLETED_XA else None
    return Gtid(f"{domain}-{server_id}-{sequence}", bool(flags & _STANDALONE), xa)


def mysql_gtid(kind: int, body: bytes) -> Gtid:
    """MySQL's GTID event, and the one that stands in its place without GTIDs."""
    text = f"{uuid.UUID(bytes=body[1:17])}:{int.from_bytes(body[17:25], 'little')}" if kind == GTID else None
    ts_ms = None
    if len(body) >= 49 and body[25] == 2:  # logical clock 1 + 16, then the commit's time in microseconds, 7 bytes
        ts_ms = (int.from_bytes(body[42:49], "little") & ((1 << 55) - 1)) // 1000
    return Gtid(text, ts_ms=ts_ms)


def query(kind: int, body: bytes) -> Query:
    """A statement of any of its three kinds."""
    thread, _, name_size, _, status_size = struct.unpack_from("<IIBHH", body)
    at = 13 + (13 if kind == LOAD_QUERY else 0) + status_size
    database = body[at : at + name_size].decode("utf-8", "replace")
    text = body[at + name_size + 1 :]
    if kind == MARIADB_QUERY:
        text = inflated(text, 0)
    return Query(database, text.decode("utf-8", "replace"), thread)


def inflated(data: bytes, at: int) -> bytes:
    """MariaDB's compressed part of an event: a header with the size, then zlib's."""
    header = data[at]
    if header & 0xE0 != 0x80 or header & 0x07 not in (1, 2, 3, 4):
        raise BinlogBrokenError("a compressed event in an unknown way")
    size_of_size = header & 0x07
    size = int.from_bytes(data[at + 1 : at + 1 + size_of_size], "big")
    try:
        text = zlib.decompress(memoryview(data)[at + 1 + size_of_size :], bufsize=max(size, 1))
    except zlib.error:
        raise BinlogBrokenError("a compressed event is damaged") from None
    if len(text) != size:
        raise BinlogBrokenError("a compressed event is not as long as it says")
    return text


def rows(kind: int, body: bytes) -> RowsEvent:
    """Rows inserted, updated or deleted."""
    op, extra, compressed = ROWS[kind]
    table_id = int.from_bytes(body[:6], "little")
    flags = int.from_bytes(body[6:8], "little")
    at = 8 + (int.from_bytes(body[8:10], "little") if extra else 0)
    width, at = length_encoded(body, at)
    size = (width + 7) // 8
    before = after = body[at : at + size]
    at += size
    if op == "u":
        after = body[at : at + size]
        at += size
    if compressed:
        body, at = inflated(body, at), 0
    return RowsEvent(table_id, op, not flags & _NO_FOREIGN_KEY_CHECKS, width, before, after, body, at)


def xa_one_phase(body: bytes) -> bool:
    """Whether an XA PREPARE is a commit."""
    return body[0] != 0
