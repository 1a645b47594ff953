"""Values and events, byte by byte: what MySQL sends where no MySQL server is at hand, and what is damaged."""

from __future__ import annotations

import random
import struct
import uuid
import zlib
from decimal import Decimal

import pytest

from connectors.capture.mysql import events, tablemap
from connectors.capture.mysql.charsets import Charsets
from connectors.capture.mysql.decimals import decimal_reader
from connectors.capture.mysql.errors import BinlogBrokenError
from connectors.capture.mysql.json_binary import json_text
from connectors.capture.mysql.rows import RowReader
from connectors.capture.mysql.tablemap import StoredColumn
from connectors.capture.mysql.values import float_text, reader
from connectors.capture.running import CaptureStoppedError
from connectors.table import Column, Table


def stored(kind: int, meta: int = 0, *, unsigned: bool = False, data: bytes) -> str | bytes:
    """One value of a column, with a byte before and behind it."""
    value, end = reader(StoredColumn("c", kind, meta, unsigned), Charsets())(b"\xee" + data + b"\xee", 1)
    assert end == len(data) + 1
    return value


@pytest.mark.parametrize(
    ("kind", "meta", "data", "expected"),
    [
        (tablemap.DATE, 0, (2024 << 9 | 2 << 5 | 29).to_bytes(3, "little"), "2024-02-29"),
        (tablemap.TIME, 0, (-8385959 & 0xFFFFFF).to_bytes(3, "little"), "-838:59:59"),
        (tablemap.DATETIME, 0, (20240229235959).to_bytes(8, "little"), "2024-02-29 23:59:59"),
        (tablemap.TIMESTAMP, 0, (951782399).to_bytes(4, "little"), "2000-02-28 23:59:59"),
        (tablemap.TIMESTAMP2, 0, b"\0\0\0\0", "0000-00-00 00:00:00"),
        (tablemap.TIMESTAMP2, 0, b"\xff\xff\xff\xff", "2106-02-07 06:28:15"),
        (tablemap.YEAR, 0, b"\0", "0"),
        (tablemap.YEAR, 0, b"\xff", "2155"),
        (tablemap.BIT, 0x0102, b"\x02\x01", "513"),
        (tablemap.INT24, 0, b"\xff\xff\xff", "-1"),
        (tablemap.DOUBLE, 8, struct.pack("<d", -0.0), "-0.0"),
    ],
)
def test_stored_values_read_as_the_server_shows_them(kind: int, meta: int, data: bytes, expected: str) -> None:
    """Old formats and new, at their borders."""
    assert stored(kind, meta, data=data) == expected


def test_decimals_are_exact() -> None:
    """Any precision and scale, of either sign, against Python's own."""
    generator = random.Random(5)
    for _ in range(500):
        precision = generator.randint(1, 65)
        scale = generator.randint(0, min(precision, 30))
        digits = "".join(generator.choice("0123456789") for _ in range(precision)).rjust(precision, "0")
        whole, fraction = digits[: precision - scale], digits[precision - scale :]
        negative = generator.random() < 0.5 and int(digits) != 0
        text = ("-" if negative else "") + (whole.lstrip("0") or "0") + ("." + fraction if scale else "")
        assert decimal_reader(precision, scale)(_stored_decimal(whole, fraction, negative=negative), 0)[0] == text
        assert Decimal(text).as_tuple().sign == negative


def _stored_decimal(whole: str, fraction: str, *, negative: bool) -> bytes:
    """The format's definition: groups of nine digits from the point outwards; the first bit set; negatives inverted."""
    sizes = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
    groups = [whole[: len(whole) % 9]] + [whole[n : n + 9] for n in range(len(whole) % 9, len(whole), 9)]
    groups += [fraction[n : n + 9] for n in range(0, len(fraction), 9)]
    data = bytearray(b"".join(int(group).to_bytes(sizes[len(group)], "big") for group in groups if group))
    if negative:
        data = bytearray(255 - byte for byte in data)
    data[0] ^= 0x80
    return bytes(data)


@pytest.mark.parametrize("number", [0.1, 1e10, 3.4028235e38, 1.17549435e-38, 16777216.0, 1 / 3, -2.5])
def test_single_precision_is_told_shortly_and_whole(number: float) -> None:
    """The text reads back as the same number of four bytes."""
    single = struct.unpack("<f", struct.pack("<f", number))[0]
    assert struct.unpack("<f", struct.pack("<f", float(float_text(single))))[0] == single
    assert len(float_text(single)) <= 15


# --- MySQL's JSON ---


def small(kind: int, count: int, body: bytes) -> bytes:
    """A small container: its type, number of members, size, and the rest."""
    return bytes([kind]) + struct.pack("<HH", count, 4 + len(body)) + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x04\x00", "null"),
        (b"\x04\x01", "true"),
        (b"\x04\x02", "false"),
        (b"\x05\xff\xff", "-1"),
        (b"\x06\xff\xff", "65535"),
        (b"\x07" + struct.pack("<i", -70000), "-70000"),
        (b"\x0a" + struct.pack("<Q", 2**64 - 1), "18446744073709551615"),
        (b"\x0b" + struct.pack("<d", 1.5), "1.5"),
        (b'\x0c\x05a"\xc3\xbcb', '"a\\"üb"'),
        (b"\x0c\x80\x01" + b"x" * 128, '"' + "x" * 128 + '"'),
        (small(2, 0, b""), "[]"),
        (small(0, 0, b""), "{}"),
        (small(2, 3, b"\x05\x01\x00" + b"\x04\x00\x00" + b"\x0c\x0d\x00" + b"\x01a"), '[1, null, "a"]'),
        (small(0, 1, struct.pack("<HH", 11, 1) + b"\x05\x07\x00" + b"k"), '{"k": 7}'),
        (small(2, 1, b"\x02\x07\x00" + struct.pack("<HH", 0, 4)), "[[]]"),
        (b"\x03" + struct.pack("<II", 1, 13) + b"\x07" + struct.pack("<i", -5), "[-5]"),
        (b"\x0f\xf6\x04\x03\x01\x8c\x05", "12.5"),
        (b"\x0f\x0a\x08" + ((((2024 * 13 + 2) << 5 | 29) << 17) << 24).to_bytes(8, "little"), '"2024-02-29"'),
        (b"\x0f\xfc\x02\x00\xff", '"base64:type252:AP8="'),
    ],
)
def test_binary_json_becomes_text(data: bytes, expected: str) -> None:
    """Every type of the format, inline and not, in the server's spelling."""
    assert json_text(data) == expected


def test_damaged_json_is_refused() -> None:
    """Cut off or changed anywhere: text or a clear error, never a crash, never an endless loop."""
    whole = small(0, 1, struct.pack("<HH", 11, 1) + b"\x0c\x0c\x00" + b"k" + b"\x03abc")
    assert json_text(whole) == '{"k": "abc"}'
    generator = random.Random(7)
    for _ in range(3000):
        data = bytearray(whole[: generator.randint(1, len(whole))])
        data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            json_text(bytes(data))
        except BinlogBrokenError:
            continue


def test_json_that_holds_itself_is_refused() -> None:
    """A container whose member lies at its own beginning."""
    with pytest.raises(BinlogBrokenError):
        json_text(small(2, 1, b"\x02\x00\x00"))


# --- events ---


def test_mysql_tells_gtids_and_commit_times() -> None:
    """With and without a name; the time in microseconds where it is there."""
    server = uuid.UUID("3e11fa47-71ca-11e1-9e33-c80aa9429562")
    body = b"\0" + server.bytes + struct.pack("<q", 9) + b"\x02" + struct.pack("<QQ", 1, 2)
    told = body + (1_700_000_000_123_456 | 1 << 55).to_bytes(7, "little")
    assert events.mysql_gtid(events.GTID, body) == events.Gtid(f"{server}:9")
    assert events.mysql_gtid(events.GTID, told) == events.Gtid(f"{server}:9", ts_ms=1_700_000_000_123)
    assert events.mysql_gtid(events.ANONYMOUS_GTID, told) == events.Gtid(None, ts_ms=1_700_000_000_123)


def test_mariadb_tells_what_a_transaction_is() -> None:
    """Its domain, server and number; whether it is one statement, or a part of a two-phase one."""
    body = struct.pack("<QIB", 77, 3, 1) + b"\0" * 6
    assert events.mariadb_gtid(body, 5) == events.Gtid("3-5-77", standalone=True)
    assert events.mariadb_gtid(struct.pack("<QIB", 77, 3, 64), 5).xa == "prepared"


def test_statements_are_read_plain_and_compressed() -> None:
    """The database, the text and the session."""
    head = struct.pack("<IIBHH", 12, 0, 4, 0, 3) + b"abc" + b"shop\0"
    packed = b"\x81" + bytes([12]) + zlib.compress(b"DROP TABLE x")
    assert events.query(events.QUERY, head + b"DROP TABLE x") == events.Query("shop", "DROP TABLE x", 12)
    assert events.query(events.MARIADB_QUERY, head + packed) == events.Query("shop", "DROP TABLE x", 12)
    with pytest.raises(BinlogBrokenError):
        events.query(events.MARIADB_QUERY, head + packed[:-4])


def described(*columns: tuple[int, bytes], optional: bytes) -> bytes:
    """A TABLE_MAP event of shop.item."""
    types = bytes(kind for kind, _ in columns)
    metadata = b"".join(meta for _, meta in columns)
    width = len(columns)
    head = (7).to_bytes(6, "little") + b"\0\0" + b"\x04shop\0" + b"\x04item\0"
    return head + bytes([width]) + types + bytes([len(metadata)]) + metadata + b"\xff" * ((width + 7) // 8) + optional


def field(number: int, data: bytes) -> bytes:
    return bytes([number, len(data)]) + data


def test_both_families_describe_columns_in_their_way() -> None:
    """MariaDB counts YEAR among the numbers that may be unsigned and geometry among the texts; MySQL does not."""
    columns = [
        (tablemap.YEAR, b""),
        (tablemap.LONG, b""),
        (tablemap.GEOMETRY, b"\x04"),
        (tablemap.VARCHAR, b"\x28\x00"),
    ]
    names = field(4, b"\x01y\x01n\x01g\x01v")
    mariadb = described(*columns, optional=field(1, b"\xc0") + names + field(3, b"\x3f\x08"))
    mysql = described(*columns, optional=field(1, b"\x80") + names + field(3, b"\x08"))
    for body, family in ((mariadb, True), (mysql, False)):
        found = tablemap.table_map(body, mariadb=family)
        assert (found.table_id, found.database, found.name, found.named) == (7, "shop", "item", True)
        assert [c.name for c in found.columns] == ["y", "n", "g", "v"]
        assert found.columns[1].unsigned
        assert found.columns[3].collation == 8


def test_lengths_above_255_and_members_are_told() -> None:
    """CHAR(200) of four bytes borrows bits of its type; ENUM and SET come as STRING, with their members and collation."""
    body = described(
        (tablemap.STRING, b"\xce\x20"),
        (tablemap.STRING, b"\xf7\x01"),
        (tablemap.STRING, b"\xf8\x01"),
        optional=field(4, b"\x01c\x01e\x01s")
        + field(2, b"\x2d")
        + field(5, b"\x02\x01x\x01y")
        + field(6, b"\x02\x03a,b\x01\xf6")
        + field(10, b"\x2d\x00\x08"),
    )
    char, enum, several = tablemap.table_map(body, mariadb=False).columns
    assert char == StoredColumn("c", tablemap.STRING, 800, collation=45)
    assert enum == StoredColumn("e", tablemap.ENUM, 1, collation=8, members=(b"a,b", b"\xf6"))
    assert several == StoredColumn("s", tablemap.SET, 1, collation=45, members=(b"x", b"y"))


ITEM = Table("item", (Column("id", "integer"), Column("name", "text")), ("id",))
ITEM_MAP = described(
    (tablemap.LONG, b""), (tablemap.VARCHAR, b"\x28\x00"), optional=field(4, b"\x02id\x04name") + field(2, b"\x2d")
)


def item_rows(data: bytes, *, kind: int = 30, present: bytes = b"\x03") -> events.RowsEvent:
    """A rows event of the second version."""
    images = present * (2 if kind == 31 else 1)
    return events.rows(kind, (7).to_bytes(6, "little") + b"\x03\0" + b"\x02\0" + b"\x02" + images + data)


def test_rows_of_mysql_are_read() -> None:
    """Inserted, updated with and without a new key, deleted; NULL; a session without foreign key checks."""
    item = RowReader(ITEM, tablemap.table_map(ITEM_MAP, mariadb=False), Charsets(), {})
    one, two, null = b"\0\x01\0\0\0\x01a", b"\0\x02\0\0\0\x01b", b"\x02\x01\0\0\0"
    event = item_rows(one + null)
    assert not event.foreign_key_checks
    assert [c.after for c in item.changes(event)] == [("1", "a"), ("1", None)]
    changes = list(item.changes(item_rows(one + null + one + two, kind=31)))
    assert [(c.before, c.after) for c in changes] == [(None, ("1", None)), (("1", None), ("2", "b"))]
    assert [(c.before, c.after) for c in item.changes(item_rows(two, kind=32))] == [(("2", None), None)]


def test_incomplete_rows_are_a_stop_and_damaged_ones_an_error() -> None:
    """A bitmap that leaves columns out names the setting; anything cut off or too long is read again."""
    item = RowReader(ITEM, tablemap.table_map(ITEM_MAP, mariadb=False), Charsets(), {})
    with pytest.raises(CaptureStoppedError, match="binlog_row_image"):
        list(item.changes(item_rows(b"\0\x01\0\0\0", present=b"\x01")))
    with pytest.raises(BinlogBrokenError):
        list(item.changes(item_rows(b"\0\x01\0\0\0\x09a")))


def test_a_map_without_names_or_with_a_lost_column_is_a_stop() -> None:
    """The setting, or the column, is named."""
    bare = described((tablemap.LONG, b""), (tablemap.VARCHAR, b"\x28\x00"), optional=b"")
    with pytest.raises(CaptureStoppedError, match="binlog_row_metadata"):
        RowReader(ITEM, tablemap.table_map(bare, mariadb=False), Charsets(), {})
    renamed = described((tablemap.LONG, b""), (tablemap.LONG, b""), optional=field(4, b"\x02id\x05title"))
    with pytest.raises(CaptureStoppedError, match="name"):
        RowReader(ITEM, tablemap.table_map(renamed, mariadb=False), Charsets(), {})


def test_damaged_events_never_crash() -> None:
    """Cut or changed anywhere, a table's description and its rows are read, or refused as broken or stopped."""
    generator = random.Random(11)
    rows = b"\0\x01\0\0\0\x01a" * 3
    for _ in range(3000):
        body = bytearray(ITEM_MAP)
        body[generator.randrange(8, len(body))] = generator.randrange(256)
        data = bytearray(rows)
        data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            item = RowReader(ITEM, tablemap.table_map(bytes(body), mariadb=True), Charsets(), {})
            list(item.changes(item_rows(bytes(data))))
        except (BinlogBrokenError, CaptureStoppedError):
            continue
