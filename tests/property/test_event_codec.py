"""The codec over random tables, rows and damage: what goes in comes out, and nothing makes it crash."""

from __future__ import annotations

import random
import time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import psycopg
from event_messages import MARIADB, ROW, TABLE, change, messages, wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.event import (
    UNAVAILABLE,
    Boundary,
    Change,
    Decoder,
    EventRefusedError,
    ForeignKey,
    ForeignKeys,
    Heartbeat,
    Ignored,
    Source,
    Truncate,
    encode_boundary,
    encode_change,
    encode_foreign_keys,
    encode_heartbeat,
    encode_truncate,
)
from connectors.event.values import Wire, WrongValueError, converter
from connectors.table import Column, Table

FAST = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
# PostgreSQL's text cannot hold NUL; halves of surrogate pairs are no characters.
TEXT = st.text(st.characters(blacklist_characters="\x00", blacklist_categories=["Cs"]), max_size=30)
CLOCK = st.times().map(lambda t: t.isoformat())
# For each type the text that PostgreSQL prints, as captures write it.
TYPES: dict[str, st.SearchStrategy[str]] = {
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric(20,0)": st.integers(0, 2**64 - 1).map(str),
    "numeric(65,30)": st.decimals(-(10**20), 10**20, places=30).map(lambda d: f"{d:f}"),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=5).map(lambda d: f"{d:f}") | st.just("NaN"),
    "double precision": st.floats(allow_infinity=False, allow_nan=False).map(repr),
    "boolean": st.sampled_from(["true", "false"]),
    "text": TEXT,
    "character varying(40)": TEXT,
    "bytea": st.binary(max_size=40).map(lambda b: "\\x" + b.hex()),
    "date": st.dates().map(str) | st.sampled_from(["infinity", "-infinity"]),
    "timestamp without time zone": st.datetimes().map(lambda d: d.isoformat(" ")),
    "timestamp with time zone": st.datetimes().map(lambda d: d.isoformat(" ") + "+00"),
    "time without time zone": CLOCK,
    "interval": st.integers(-838, 838).map(lambda h: f"{h:03}:59:59.000001"),
    "jsonb": st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT, lambda c: st.lists(c) | st.dictionaries(TEXT, c), max_leaves=8
    ).map(lambda value: msgspec.json.encode(value).decode()),
    "uuid": st.uuids().map(str),
    "bit(9)": st.text("01", min_size=9, max_size=9),
    "bit varying(9)": st.text("01", max_size=9),
    "text[]": st.lists(st.text("ab", min_size=1)).map(
        lambda items: "{" + ",".join(f'"{item}"' for item in items) + "}"
    ),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, tuple[Any, ...]]:
    """A table with a row."""
    names = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=8, unique_by=lambda name: name.lower()))
    types = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=len(names), max_size=len(names)))
    width = draw(st.integers(1, len(names)))
    columns = tuple(Column(n, t, nullable=i >= width) for i, (n, t) in enumerate(zip(names, types, strict=True)))
    key = tuple(draw(st.permutations(names[:width])))
    row = [draw(TYPES[t] if i < width else TYPES[t] | st.none() | st.just(UNAVAILABLE)) for i, t in enumerate(types)]
    return Table(draw(TEXT.filter(bool)), columns, key), tuple(row)


@FAST
@given(
    tables(),
    st.sampled_from("cur"),
    st.sampled_from(["postgresql", "mariadb"]),
    st.integers(0, 2**40),
    st.none() | st.just("0-1-7"),
)
def test_what_a_capture_writes_comes_back(
    table_row: tuple[Table, tuple[Any, ...]], op: Any, connector: str, ts_ms: int, transaction: str | None
) -> None:
    """A row of any declared types, NULLs and unavailable values included, is decoded as it was encoded."""
    table, row = table_row
    key = tuple(row[position] for position in table.key_positions)
    place = ("bin.1", 4, 2) if connector == "mariadb" else None
    source = Source(connector, "s", "d", "p", table.name, ts_ms, snapshot="true" if op == "r" else None)
    if place is not None:
        source = msgspec.structs.replace(source, file="bin.1", pos=4, row=2)
    decoder = Decoder([table])
    cascades = connector == "mariadb"
    event = decoder.decode(*encode_change(table, op, key, row, source=source, transaction=transaction))
    assert event == Change(table.name, op, key, row, ts_ms, transaction, op == "r", cascades and op != "r", place)
    event = decoder.decode(*encode_change(table, "d", key, None, source=source, transaction=transaction))
    assert event == Change(table.name, "d", key, None, ts_ms, transaction, op == "r", cascades, place)
    assert decoder.decode(*encode_truncate(source=source, transaction=transaction)) == Truncate(
        table.name, ts_ms, transaction
    )


@FAST
@given(TEXT.filter(bool), st.integers(0, 2**40), st.lists(TEXT, min_size=1, max_size=3))
def test_what_else_a_capture_writes_comes_back(identifier: str, ts_ms: int, columns: list[str]) -> None:
    decoder = Decoder([TABLE])
    assert decoder.decode(*encode_heartbeat(ts_ms)) == Heartbeat(ts_ms)
    begin = decoder.decode(*encode_boundary("BEGIN", f"0-{identifier}", ts_ms))
    assert begin == Boundary("BEGIN", f"0-{identifier}", ts_ms)
    key = ForeignKey(identifier, identifier, tuple(columns), "p", tuple(columns), "CASCADE", "SET NULL")
    assert decoder.decode(*encode_foreign_keys([key], ts_ms=ts_ms, ddl=identifier)) == ForeignKeys((key,), ts_ms)


# --- damage ---

CANARY = "c4n4ry"
_VALUES: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**70), 1e308, 0.1, "", "x", CANARY, "{}", "2024-02-30", "__debezium_unavailable_value",
    [], [[]], [1], [None], {}, {"scale": 2, "value": "AQ=="}, {"payload": {}}, "AQ==", "\x00", "é" * 9, "9" * 5000, "1e999999",
]  # fmt: skip


def _damaged(value: Any, rng: random.Random) -> Any:
    """The JSON value with one part somewhere replaced, removed, renamed, doubled or moved."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        changed = dict(value)
        kind = rng.random()
        if kind < 0.7:
            changed[name] = _damaged(value[name], rng)
        elif kind < 0.8:
            del changed[name]
        elif kind < 0.9:
            changed[rng.choice([name.upper(), name + "x", "", "op", "payload", "ts_ms", CANARY])] = changed.pop(name)
        else:
            changed[name] = changed[rng.choice(list(value))]
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        changed_list = list(value)
        at = rng.randrange(len(value))
        changed_list[at] = _damaged(value[at], rng)
        return changed_list
    return rng.choice(_VALUES)


def _bytes_damaged(text: bytes, rng: random.Random) -> bytes:
    """The text with bytes changed, inserted, removed, cut off or repeated."""
    changed = bytearray(text)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            changed[at:at] = rng.choice(
                [b'"', b"{", b"}", b"[", b"\\", b",", b"\x00", b"\xff", b"1e9", b"null", b"\\ud800"]
            )
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 9)]
        elif kind == 3:
            del changed[at:]
        else:
            changed[at:at] = changed[at : at + rng.randrange(1, 40)]
    return bytes(changed)


def test_damaged_messages_are_applied_or_refused(seed: int) -> None:
    """10,000 real messages, damaged: each becomes an event or is refused with a reason and a hint.

    No other exception comes out, and no refusal tells a row's value.
    """
    print(f"seed {seed}")
    rng = random.Random(seed)
    decoder = Decoder([TABLE])
    known = [(key, msgspec.json.decode(value)) for key, value in messages()]
    row = {**ROW, "code": CANARY, "note": CANARY, "data": f'{{"a": "{CANARY}"}}'}
    known.append((wire({"id": 7, "code": CANARY}), change(after=row, before=row, source=MARIADB)))
    applied, refusals = 0, list[EventRefusedError]()
    began = time.monotonic()
    for _ in range(10_000):
        key, value = rng.choice(known)
        if rng.random() < 0.5:
            for _ in range(rng.choice([1, 1, 2, 4])):
                value = _damaged(value, rng)
            message = wire(value) if not isinstance(value, float) else b"1.5"
        else:
            message = _bytes_damaged(wire(value), rng)
        if key is not None and rng.random() < 0.3:
            key = _bytes_damaged(key, rng)
        try:
            event = decoder.decode(key, message)
        except EventRefusedError as error:
            refusals.append(error)
            continue
        applied += 1
        assert isinstance(event, Change | Truncate | Boundary | Heartbeat | ForeignKeys | Ignored)
        if isinstance(event, Change):
            assert all(isinstance(part, str) for part in event.key)
            assert event.row is None or len(event.row) == len(TABLE.columns)
    assert applied > 500
    assert len(refusals) > 500
    assert [error for error in refusals if not error.message or not error.hint or CANARY in str(error)] == []
    assert time.monotonic() - began < 20


def test_what_the_converters_give_postgresql_accepts(database: str, seed: int) -> None:
    """Whatever comes over the wire: PostgreSQL accepts for the column what a converter lets through."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    seeds: dict[str, list[Any]] = {
        "timestamp without time zone": ["2024-02-29 23:59:59.123456", "0044-03-15 10:00:00 BC", "20000-01-28 10:00:00", 10**15],
        "timestamp with time zone": ["2024-02-29T23:59:59Z", "20000-01-28 10:00:00+00", "2024-02-29 23:59:59-05:30"],
        "date": ["2024-02-29", "0044-03-15 BC", 19000],
        "time without time zone": ["23:59:59.5", "24:00:00", 5],
        "time with time zone": ["23:59:59.5+05:30", "24:00:00Z", 5],
        "interval": ["-838:59:59.5", "1 year 2 mons -3 days +04:05:06.7", "P1Y2M3DT4H5M6.7S", "12:34:56Z", "-00:00:01", 10**14],
        "numeric(5,2)": ["999.99", "-0.005", "1e2", 5, "999.9949"],
        "numeric(3,5)": ["0.00999", "0.001"],
        "numeric(5,-2)": ["1234567", 9999949],
        "numeric": ["12.5", "1e-16383", "1e131071", "NaN", "Infinity", {"scale": 2, "value": "AQ=="}],
        "numeric(20,0)": [-1, "18446744073709551615"],
        "real": ["1.5", 3.4e38, "1e-45", "NaN"],
        "double precision": ["1.5", 1e308, "-Infinity", "5e-324"],
        "integer": [5, "-2147483648", "5.0"],
        "boolean": [True, "t", 0],
        "bytea": ["AQID", "\\x00ff"],
        "bit(9)": ["010101010", "AQE="],
        "bit varying(9)": ["0101", ""],
        "jsonb": ['{"a": [1, 1.5e10, "x", null]}', '"\\ud83d\\ude00"', "1e1000"],
        "json": ['{"a": [1, 1.5e10, "x", null]}', '"\\\\u0000"'],
        "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"],
        "character varying(3)": ["abc", "ab   "],
        "character(3)": ["abc", "ab   "],
        "text": ["x", 5, True],
        "integer[]": [[1, None, -5]],
        "text[]": [["a", None, "x\\y"], "a,b"],
        "date[]": [[19000, None]],
    }  # fmt: skip
    zone = ZoneInfo("Europe/Berlin")
    wrong = []
    with psycopg.connect(database, autocommit=True) as connection:
        for type_, examples in seeds.items():
            found: set[str] = set()
            for wire_form in (Wire(), Wire(mysql=True, debezium=True)):
                convert = converter(type_, zone, wire_form)
                for _ in range(400):
                    value = rng.choice(examples + _VALUES[:20])
                    if isinstance(value, str) and rng.random() < 0.7:
                        at = rng.randrange(len(value) + 1)
                        value = (
                            value[:at]
                            + rng.choice(list("0123456789-+.:eE PTZ{}\"'\\,ßx "))
                            + value[at + rng.randrange(2) :]
                        )
                    elif isinstance(value, int) and rng.random() < 0.5:
                        value = rng.randrange(-(10 ** rng.randrange(20)), 10 ** rng.randrange(20))
                    try:
                        text = convert(_number(value))
                    except WrongValueError:
                        continue
                    if isinstance(text, str):
                        found.add(text)
            for example in examples:
                assert any(_read(converter(type_, zone, f), example) for f in (Wire(), Wire(mysql=True))), (
                    type_,
                    example,
                )
            rows = connection.execute(
                "SELECT v FROM unnest(%s::text[]) AS v WHERE NOT pg_input_is_valid(v, %s)", [sorted(found), type_]
            )
            wrong += [(type_, row[0]) for row in rows]
    assert wrong == []


def _number(value: Any) -> Any:
    """Numbers with a fraction come to the converters with all their digits."""
    return Decimal(repr(value)) if isinstance(value, float) else value


def _read(convert: Any, value: Any) -> bool:
    try:
        return convert(_number(value)) is not None
    except WrongValueError:
        return False
