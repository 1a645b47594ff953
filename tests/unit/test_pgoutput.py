"""The messages of PostgreSQL's plug-in, byte for byte as its documentation gives them."""

from __future__ import annotations

import struct

import pytest

from connectors.capture.postgres.pgoutput import Begin, Commit, Relation, Row, Truncated, parse
from connectors.event import UNAVAILABLE


def text(value: str) -> bytes:
    return b"t" + struct.pack(">I", len(value.encode())) + value.encode()


def row(*values: bytes) -> bytes:
    return struct.pack(">H", len(values)) + b"".join(values)


def column(name: str, *, key: bool = False) -> bytes:
    return struct.pack(">B", key) + name.encode() + b"\0" + struct.pack(">Ii", 23, -1)


OID = struct.pack(">I", 16_385)
CASES = [
    # 2024-01-01 00:00:00.123456 is 757382400123456 microseconds after 2000-01-01
    (
        b"B" + struct.pack(">QqI", 1 << 40, 757_382_400_123_456, 4_000_000_000),
        Begin(1 << 40, 1_704_067_200_123, 4_000_000_000),
    ),
    (b"C" + struct.pack(">BQQq", 0, 100, 160, 0), Commit(100, 160)),
    (
        b"R" + OID + b"public\0item\0d" + struct.pack(">H", 2) + column("id", key=True) + column("naïve"),
        Relation(16_385, "public", "item", ("id", "naïve"), "d", ("id",)),
    ),
    (b"R" + OID + b"\0t\0f" + struct.pack(">H", 0), Relation(16_385, "", "t", (), "f", ())),
    (b"I" + OID + b"N" + row(text("1"), b"n", text("")), Row("I", 16_385, None, ("1", None, ""))),
    (b"U" + OID + b"N" + row(text("1"), b"u"), Row("U", 16_385, None, ("1", UNAVAILABLE))),
    (
        b"U" + OID + b"K" + row(text("1"), b"n") + b"N" + row(text("2"), text("ü\t")),
        Row("U", 16_385, ("1", None), ("2", "ü\t")),
    ),
    (b"U" + OID + b"O" + row(text("1")) + b"N" + row(text("1")), Row("U", 16_385, ("1",), ("1",))),
    (b"D" + OID + b"K" + row(text("1"), b"n"), Row("D", 16_385, ("1", None), None)),
    (b"D" + OID + b"O" + row(text("1"), text("x")), Row("D", 16_385, ("1", "x"), None)),
    (b"T" + struct.pack(">IBII", 2, 1, 7, 9), Truncated((7, 9))),
    (b"O" + struct.pack(">Q", 1) + b"origin\0", None),
    (b"Y" + OID + b"public\0mood\0", None),
    (b"M" + struct.pack(">BQ", 0, 1) + b"rowtide\0" + struct.pack(">I", 0), None),
]


@pytest.mark.parametrize(
    ("data", "expected"), CASES, ids=[f"{n}-{data[:1].decode()}" for n, (data, _) in enumerate(CASES)]
)
def test_each_message_is_read(data: bytes, expected: object) -> None:
    """What the documentation says of a message is what is read of it."""
    assert parse(data) == expected
