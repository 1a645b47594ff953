"""Every way the connectors write a value becomes PostgreSQL's text of it, or is refused with what to change."""

from __future__ import annotations

import base64
import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from event_messages import MARIADB, POSTGRES, change, schema, wire

from connectors.event import Change, Decoder, EventRefusedError
from connectors.table import Column, Table

OWN = {"connector": "mariadb", "name": "shop", "db": "d", "table": "thing", "ts_ms": 5}
DECIMAL = "org.apache.kafka.connect.data.Decimal"
TIME = "io.debezium.time."
CONNECT = "org.apache.kafka.connect.data."
TS, TSTZ = "timestamp without time zone", "timestamp with time zone"
BERLIN = ZoneInfo("Europe/Berlin")


def base64_of(number: int) -> str:
    """A decimal's digits as the connectors write them: big-endian two's complement in base64."""
    size = (number + (number < 0)).bit_length() // 8 + 1
    return base64.b64encode(number.to_bytes(size, "big", signed=True)).decode()


def read(type_: str, value: Any, source: dict[str, Any] = MARIADB, *, zone: ZoneInfo | None = None, **told: Any) -> Any:
    """The decoded value of a column of that type; `told` is its schema, if any. A string of JSON is `raw=`."""
    table = Table("thing", (Column("id", "integer", nullable=False), Column("v", type_)), ("id",))
    decoder = Decoder([table]) if zone is None else Decoder([table], zone=zone)
    raw = told.pop("raw", None)
    message: Any = change(source=source, after={"id": 1, "v": "@" if raw is not None else value})
    if told:
        message = {"schema": schema([{"type": "int32", "field": "id"}, {"field": "v", **told}]), "payload": message}
    body = wire(message)
    event = decoder.decode(b'{"id":1}', body if raw is None else body.replace(b'"@"', raw.encode()))
    assert isinstance(event, Change)
    assert event.row is not None
    return event.row[1]


def refusal(type_: str, value: Any, source: dict[str, Any] = MARIADB, **told: Any) -> str:
    with pytest.raises(EventRefusedError) as caught:
        read(type_, value, source, **told)
    return caught.value.message


@pytest.mark.parametrize(
    "type_", ["smallint", "integer", "bigint", "numeric(12,2)", "text", TS, "jsonb", "bytea", "text[]"]
)
def test_null_is_null(type_: str) -> None:
    assert read(type_, None) is None
    assert read(type_, None, type="int32") is None


def test_null_in_a_column_declared_not_null_is_refused() -> None:
    """A zero date that arrives as null where the declaration forbids it is parked, not invented."""
    table = Table("thing", (Column("id", "integer", nullable=False), Column("v", "date", nullable=False)), ("id",))
    with pytest.raises(EventRefusedError, match="NULL in a column declared NOT NULL"):
        Decoder([table]).decode(None, wire(change(after={"id": 1, "v": None})))


@pytest.mark.parametrize(
    ("type_", "value", "told", "expected"),
    [
        ("smallint", -32768, {}, "-32768"),
        ("integer", 2147483647, {"type": "int32"}, "2147483647"),
        ("bigint", -9223372036854775808, {"type": "int64"}, "-9223372036854775808"),
        ("bigint", "9223372036854775807", {}, "9223372036854775807"),
        ("integer", 2024, {"type": "int32", "name": TIME + "Year"}, "2024"),
        ("integer", 2000, {}, "2000"),
        ("smallint", True, {}, "1"),
        ("integer", "12", {}, "12"),
        ("integer", 5.0, {}, "5"),
        ("integer", "BQ==", {"type": "bytes", "name": "io.debezium.data.Bits", "parameters": {"length": "8"}}, "5"),
        ("bigint", base64_of(2**62), {"type": "bytes", "name": DECIMAL, "parameters": {"scale": "0"}}, str(2**62)),
        ("boolean", True, {}, "true"),
        ("boolean", 0, {"type": "int16"}, "false"),
        ("boolean", "AQ==", {"type": "bytes", "name": "io.debezium.data.Bits"}, "true"),
        ("boolean", "f", {}, "false"),
    ],
)
def test_whole_numbers_and_booleans(type_: str, value: Any, told: dict[str, Any], expected: str) -> None:
    assert read(type_, value, **told) == expected


@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        ("smallint", 32768, "16 bits"), ("integer", -2147483649, "32 bits"), ("bigint", 2**63, "64 bits"),
        ("integer", 1.5, "an integer is expected"), ("integer", "1_000", "no integer"), ("integer", "\uff11", "no integer"),
        ("integer", [1], "a list"), ("boolean", 2, "neither true nor false"), ("boolean", "yes", "neither"),
    ],
)  # fmt: skip
def test_whole_numbers_that_do_not_fit_are_refused(type_: str, value: Any, reason: str) -> None:
    assert reason in refusal(type_, value)


@pytest.mark.parametrize(("wire_value", "number"), [(-1, 2**64 - 1), (-(2**63), 2**63), (0, 0), (2**63 - 1, 2**63 - 1)])
def test_bigint_unsigned_comes_negative_above_the_signed_maximum(wire_value: int, number: int) -> None:
    """numeric(20,0) is how BIGINT UNSIGNED is declared; from PostgreSQL a negative number is itself."""
    assert read("numeric(20,0)", wire_value) == str(number)
    assert read("numeric(20)", wire_value, type="int64") == str(number)
    assert read("numeric(20,0)", wire_value, POSTGRES) == str(wire_value)
    assert read("numeric(20,0)", base64_of(number), type="bytes", name=DECIMAL, parameters={"scale": "0"}) == str(
        number
    )
    assert read("numeric(20,0)", str(number)) == str(number)


BIG = "123456789012345678901234567890123456789012345678901234567.12345678"
HUGE = "9" * 20_000 + "." + "8" * 9_000
HUGE_NUMBER = (10**20_000 - 1) * 10**9_000 + (10**9_000 - 1) // 9 * 8


@pytest.mark.parametrize(
    ("type_", "value", "told", "expected"),
    [
        ("numeric(5,2)", base64_of(250), {"type": "bytes", "name": DECIMAL, "parameters": {"scale": "2"}}, "2.50"),
        ("numeric(5,2)", base64_of(-5), {"type": "bytes", "name": DECIMAL, "parameters": {"scale": "2"}}, "-0.05"),
        ("numeric(5,0)", base64_of(7), {"type": "bytes", "name": DECIMAL, "parameters": {"scale": "-2"}}, "700"),
        ("numeric(65,8)", base64_of(int(BIG.replace(".", ""))), {"type": "bytes", "name": DECIMAL, "parameters": {"scale": "8"}}, BIG),
        ("numeric", base64_of(HUGE_NUMBER), {"type": "bytes", "name": DECIMAL, "parameters": {"scale": "9000"}}, HUGE),
        ("numeric", {"scale": 3, "value": base64_of(123456)}, {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"}, "123.456"),
        ("numeric", {"scale": -3, "value": base64_of(-12)}, {}, "-12000"),
        ("numeric(5,2)", "2.50", {"type": "string"}, "2.50"),
        ("numeric(65,30)", "1" * 35 + "." + "2" * 30, {}, "1" * 35 + "." + "2" * 30),
        ("numeric", "NaN", {}, "NaN"),
        ("numeric", "Infinity", {}, "Infinity"),
        ("numeric(6,2)", True, {}, "1"),
        ("numeric(30,0)", 10**29, {}, str(10**29)),
    ],
)  # fmt: skip
def test_decimals_of_any_size_are_exact(type_: str, value: Any, told: dict[str, Any], expected: str) -> None:
    assert read(type_, value, **told) == expected


@pytest.mark.parametrize(
    "text", ["1.10", "123456789012345678901234567890.123456789", "-0.00000000000000000000000000001"]
)
def test_decimals_as_json_numbers_keep_all_digits(text: str) -> None:
    assert read("numeric", None, raw=text) in (text, "-1E-29")
    assert read("text", None, raw="12.50") == "12.50"


@pytest.mark.parametrize(
    ("type_", "value", "source", "reason"),
    [
        ("numeric(5,2)", base64_of(250), MARIADB, "decimal.handling.mode=string"),
        ("numeric(5,2)", "1234", MARIADB, "decimal.handling.mode=string"),
        ("numeric(5,2)", "1000", OWN, "more digits"),
        ("numeric(5,2)", "999.995", OWN, "more digits"),
        ("numeric(40,2)", "9" * 38 + ".995", OWN, "more digits"),
        ("numeric(5,2)", "Infinity", OWN, "infinity"),
        ("numeric(5,2)", "POSITIVE_INFINITY", POSTGRES, "infinity"),
        ("numeric", "1e140000", OWN, "more digits"),
        ("numeric", "1e-20000", OWN, "more digits"),
        ("numeric", "1,5", OWN, "no decimal"),
        ("numeric", [1], OWN, "a list"),
        ("numeric", {"scale": 2}, OWN, "an object that is no decimal"),
        ("numeric", {"scale": True, "value": "AA=="}, OWN, "an object that is no decimal"),
        ("numeric", {"scale": 10**6, "value": "AA=="}, OWN, "no type has"),
    ],
)
def test_decimals_that_cannot_be_are_refused(type_: str, value: Any, source: dict[str, Any], reason: str) -> None:
    assert reason in refusal(type_, value, source)


def test_a_decimal_that_just_fits_is_kept() -> None:
    assert read("numeric(5,2)", "999.994", OWN) == "999.994"
    assert read("numeric(40,2)", "9" * 38 + ".994", OWN) == "9" * 38 + ".994"


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("double precision", 0.1, "0.1"), ("double precision", "NaN", "NaN"), ("double precision", "-Infinity", "-Infinity"),
        ("double precision", 1e308, "1e+308"), ("real", 3.4e38, "3.4e+38"), ("real", 1, "1.0"), ("double precision", "1.5", "1.5"),
    ],
)  # fmt: skip
def test_floating_numbers(type_: str, value: Any, expected: str) -> None:
    assert read(type_, value) == expected


@pytest.mark.parametrize(
    ("type_", "raw"), [("double precision", "1e400"), ("real", "1e39"), ("real", "1e-60"), ("real", '"1_0"')]
)
def test_floating_numbers_out_of_range_are_refused(type_: str, raw: str) -> None:
    assert "number" in refusal(type_, None, raw=raw)


@pytest.mark.parametrize(
    ("value", "told", "expected"),
    [
        (19782, {"type": "int32", "name": TIME + "Date"}, "2024-02-29"),
        (19782, {"type": "int32", "name": CONNECT + "Date"}, "2024-02-29"),
        (19782, {}, "2024-02-29"),
        (-719162, {}, "0001-01-01"),
        (2932896, {}, "9999-12-31"),
        (0, {}, "1970-01-01"),
        ("2024-02-29Z", {"type": "string", "name": TIME + "IsoDate"}, "2024-02-29"),
        ("2024-02-29Z", {}, "2024-02-29"),
        ("2024-02-29", {}, "2024-02-29"),
        ("2024-02-29T00:00:00Z", {}, "2024-02-29"),
        ("infinity", {}, "infinity"),
        (-2147472692, {}, "infinity"),
        ("-5877611-06-21Z", {}, "infinity"),
        ("-5877611-06-22Z", {}, "-infinity"),
        ("+292278994-08-16Z", {}, "infinity"),
        ("+292269055-12-02Z", {}, "-infinity"),
        (-2147472691, {}, "-infinity"),
        (2146034803, {}, "infinity"),
        ("20240-02-28", {}, "20240-02-28"),
        ("0044-03-15 BC", {}, "0044-03-15 BC"),
    ],
)
def test_dates(value: Any, told: dict[str, Any], expected: str) -> None:
    """Days since the epoch, ISO text, and both infinities, of which one overflows on its way."""
    assert read("date", value, POSTGRES, **told) == expected


@pytest.mark.parametrize(
    ("type_", "value", "source", "told", "expected"),
    [
        (TS, 1709251199123, MARIADB, {"type": "int64", "name": TIME + "Timestamp"}, "2024-02-29 23:59:59.123000"),
        (TS, 1709251199123456, MARIADB, {"type": "int64", "name": TIME + "MicroTimestamp"}, "2024-02-29 23:59:59.123456"),
        (TS, 1709251199123456789, MARIADB, {"type": "int64", "name": TIME + "NanoTimestamp"}, "2024-02-29 23:59:59.123456"),
        (TS, 1709251199123, POSTGRES, {"type": "int64", "name": CONNECT + "Timestamp"}, "2024-02-29 23:59:59.123000"),
        (TS, "2024-02-29T23:59:59.5Z", MARIADB, {"type": "string", "name": TIME + "IsoTimestamp"}, "2024-02-29 23:59:59.500000"),
        (TS, "2024-02-29T23:59:59Z", MARIADB, {"type": "string", "name": TIME + "ZonedTimestamp"}, "2024-03-01 00:59:59"),
        (TS, "2024-02-29T23:59:59Z", MARIADB, {}, "2024-02-29 23:59:59"),
        (TS, "2024-02-29T23:59:59+00", OWN, {}, "2024-03-01 00:59:59"),
        (TS, "2024-02-29 23:59:59", OWN, {}, "2024-02-29 23:59:59"),
        (TS, -1, POSTGRES, {}, "1969-12-31 23:59:59.999999"),
        (TS, 1709251199123456, POSTGRES, {}, "2024-02-29 23:59:59.123456"),
        ("timestamp(3) without time zone", 1709251199123, MARIADB, {}, "2024-02-29 23:59:59.123000"),
        ("timestamp(0) without time zone", 1709251199000, POSTGRES, {}, "2024-02-29 23:59:59"),
        ("timestamp(6) without time zone", 1709251199123456, MARIADB, {}, "2024-02-29 23:59:59.123456"),
        (TS, 0, MARIADB, {}, "1970-01-01 00:00:00"),
        (TSTZ, "2024-02-29T23:59:59.123456Z", MARIADB, {}, "2024-02-29 23:59:59.123456+00"),
        (TSTZ, "2024-02-29T23:59:59.5+01:30", POSTGRES, {"type": "string", "name": TIME + "ZonedTimestamp"}, "2024-02-29 22:29:59.500000+00"),
        (TSTZ, "2024-07-01 12:00:00", OWN, {}, "2024-07-01 10:00:00+00"),
        (TSTZ, 1709251199123456, POSTGRES, {}, "2024-02-29 23:59:59.123456+00"),
        (TS, 9223372036825200000, POSTGRES, {"type": "int64", "name": TIME + "MicroTimestamp"}, "infinity"),
        (TS, -9223372036832400000, POSTGRES, {}, "-infinity"),
        (TS, 9223372036825200, POSTGRES, {"type": "int64", "name": TIME + "Timestamp"}, "infinity"),
        (TS, 9223372036854775807, POSTGRES, {"type": "int64", "name": TIME + "NanoTimestamp"}, "infinity"),
        (TS, "+294247-01-10T04:00:25.2Z", POSTGRES, {}, "infinity"),
        (TS, "-290308-12-21T19:59:27.6Z", POSTGRES, {}, "-infinity"),
        (TSTZ, "infinity", POSTGRES, {}, "infinity"),
        (TSTZ, "+292278994-08-16T23:00:00Z", POSTGRES, {}, "infinity"),
        (TSTZ, "-292275055-05-16T23:00:00Z", POSTGRES, {}, "-infinity"),
        (TS, "20000-01-01 00:00:00", OWN, {}, "20000-01-01 00:00:00"),
    ],
)  # fmt: skip
def test_timestamps(type_: str, value: Any, source: dict[str, Any], told: dict[str, Any], expected: str) -> None:
    """By the schema's name where there is one, else by the declared type; an instant is local time of the zone."""
    assert read(type_, value, source, zone=BERLIN, **told) == expected


@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        ("date", "0000-00-00", "no date"), ("date", True, "no date"), ("date", 3_000_000, "years 1 to 9999"),
        (TS, "0000-00-00 00:00:00", "no timestamp"), (TS, [1], "no timestamp"), (TS, 1709251199123, "time.precision.mode=isostring"),
        (TSTZ, 1709251199123, "time.precision.mode=isostring"), ("timestamp(6) without time zone", 10**18, "years 1 to 9999"),
        (TS, "20000-01-01 00:00:00+00", "years 1 to 9999"), (TS, "0001-01-01T00:00:00-14:00", "no refusal"),
    ],
)  # fmt: skip
def test_moments_that_cannot_be_are_refused(type_: str, value: Any, reason: str) -> None:
    """A number whose unit neither schema nor precision tells is not guessed at: MySQL has milliseconds and microseconds."""
    if reason == "no refusal":
        assert read(type_, value) == "0001-01-01 14:00:00"
    else:
        assert reason in refusal(type_, value)


@pytest.mark.parametrize(
    ("type_", "value", "source", "told", "expected"),
    [
        ("time without time zone", 45296123456, MARIADB, {"type": "int64", "name": TIME + "MicroTime"}, "12:34:56.123456"),
        ("time(0) without time zone", 45296000000, MARIADB, {}, "12:34:56"),
        ("time(0) without time zone", 45296000, POSTGRES, {}, "12:34:56"),
        ("time without time zone", 45296000, POSTGRES, {"type": "int32", "name": TIME + "Time"}, "12:34:56"),
        ("time without time zone", 45296000000000, POSTGRES, {"type": "int64", "name": TIME + "NanoTime"}, "12:34:56"),
        ("time without time zone", "12:34:56.5Z", MARIADB, {"type": "string", "name": TIME + "IsoTime"}, "12:34:56.5"),
        ("time without time zone", 86400000000, POSTGRES, {}, "24:00:00"),
        ("time without time zone", "24:00:00", POSTGRES, {}, "24:00:00"),
        ("time with time zone", "12:34:56Z", POSTGRES, {"type": "string", "name": TIME + "ZonedTime"}, "12:34:56+00"),
        ("time with time zone", "12:34:56+05:30", POSTGRES, {}, "12:34:56+05:30"),
        ("interval", 3020399000000, MARIADB, {"type": "int64", "name": TIME + "MicroTime"}, "838:59:59"),
        ("interval", -3020399999999, MARIADB, {}, "-838:59:59.999999"),
        ("interval", -1, MARIADB, {}, "-00:00:00.000001"),
        ("interval", 45296000, MARIADB, {"type": "int32", "name": CONNECT + "Time"}, "12:34:56"),
        ("interval", "12:34:56Z", MARIADB, {}, "12:34:56"),
        ("interval", "-838:59:59.000000", OWN, {}, "-838:59:59.000000"),
        ("interval", 90000000000, POSTGRES, {"type": "int64", "name": TIME + "MicroDuration"}, "25:00:00"),
        ("interval", "P1Y2M3DT4H5M6.78S", POSTGRES, {"type": "string", "name": TIME + "Interval"}, "P1Y2M3DT4H5M6.78S"),
        ("interval", "1 year 2 mons -3 days +04:05:06.7", OWN, {}, "1 year 2 mons -3 days +04:05:06.7"),
    ],
)  # fmt: skip
def test_times_and_durations(
    type_: str, value: Any, source: dict[str, Any], told: dict[str, Any], expected: str
) -> None:
    assert read(type_, value, source, **told) == expected


@pytest.mark.parametrize("value", [-1, 86400000001, "25:00:00", "838:59:59", "-01:00:00", "12:60:00"])
def test_a_time_beyond_one_day_needs_an_interval(value: Any) -> None:
    assert "declare the column as interval" in refusal("time without time zone", value)


@pytest.mark.parametrize(
    ("type_", "value", "told", "expected"),
    [
        ("text", "b\\,c", {"type": "string", "name": "io.debezium.data.Enum", "parameters": {"allowed": "a,b\\,c"}}, "b,c"),
        ("text", "b\\,c", {"type": "string"}, "b\\,c"),
        ("text", "a,b", {"type": "string", "name": "io.debezium.data.EnumSet"}, "a,b"),
        ("text[]", "a,b", {"type": "string", "name": "io.debezium.data.EnumSet"}, '{"a","b"}'),
        ("text[]", "a,b", {}, '{"a","b"}'),
        ("text[]", "", {}, "{}"),
        ("bit(12)", "BQo=", {"type": "bytes", "name": "io.debezium.data.Bits", "parameters": {"length": "12"}}, "101000000101"),
        ("bit(8)", "BQ==", {}, "00000101"),
        ("bit(4)", "0101", {}, "0101"),
        ("bit(1)", True, {"type": "boolean"}, "1"),
        ("bit varying(8)", "101", {}, "101"),
        ("bytea", "AAH/", {"type": "bytes"}, "\\x0001ff"),
        ("bytea", "", {}, "\\x"),
        ("bytea", "\\x00FF", {}, "\\x00ff"),
        ("jsonb", '{"a": 1.10}', {"type": "string", "name": "io.debezium.data.Json"}, '{"a": 1.10}'),
        ("jsonb", '"text"', {}, '"text"'),
        ("jsonb", "null", {}, "null"),
        ("json", '{"a":"\\\\u0000"}', {}, '{"a":"\\\\u0000"}'),
        ("jsonb", '"\\ud83d\\ude00"', {}, '"😀"'),
        ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", {"type": "string", "name": "io.debezium.data.Uuid"}, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("text[]", [], {}, "{}"),
        ("text[]", ["a", None, 'b"\\', "NULL", "{,}"], {}, '{"a",NULL,"b\\"\\\\","NULL","{,}"}'),
        ("integer[]", [1, None], {}, '{"1",NULL}'),
        ("numeric(5,2)[]", [base64_of(250)], {"type": "array", "items": {"type": "bytes", "name": DECIMAL, "parameters": {"scale": 2}}}, '{"2.50"}'),
        ("date[]", [19782], {"type": "array", "items": {"type": "int32", "name": TIME + "Date"}}, '{"2024-02-29"}'),
        ("text[]", '{a,"b,\\"c",NULL,"NULL"}', {}, '{"a","b,\\"c",NULL,"NULL"}'),
        ("integer[]", "{{1,2},{3,4}}", {}, "{{1,2},{3,4}}"),
        ("integer[]", "{1,NULL}", {}, '{"1",NULL}'),
        ("character varying(3)", "abc  ", {}, "abc  "),
        ("character varying(2)", "äö", {}, "äö"),
        ("text", 5, {}, "5"),
        ("text", True, {}, "true"),
        ("inet", "::1", {}, "::1"),
    ],
)  # fmt: skip
def test_text_bits_bytes_json_and_arrays(type_: str, value: Any, told: dict[str, Any], expected: str) -> None:
    assert read(type_, value, OWN, **told) == expected


def test_json_as_such_keeps_its_text() -> None:
    """A transform may expand JSON: what is stored is its own text, digits and order included."""
    assert read("jsonb", None, raw='{"b":1.10,"a":[1e3]}') == '{"b":1.10,"a":[1e3]}'
    assert json.loads(read("json", {"a": [None]})) == {"a": [None]}


@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        ("text", "a\x00b", "NUL"), ("text", {"a": 1}, "an object where text"), ("text", [1], "a list"),
        ("character varying(3)", "abcd", "longer than 3"), ("jsonb", "{", "not JSON"), ("jsonb", "NaN", "not JSON"),
        ("jsonb", '"\\u0000"', "NUL"), ("json", "[" * 100_000, "not JSON"), ("uuid", "x", "no UUID"), ("uuid", 5, "no UUID"),
        ("bytea", "abc", "not base64"), ("bytea", "\\xzz", "not hexadecimal"), ("bit(3)", "BQo=", "not 3 bits"),
        ("bit varying(8)", "BQ==", "leave the column out"), ("text[]", {"a": 1}, "an object where an array"), ("integer[]", ["x"], "no integer"),
    ],
)  # fmt: skip
def test_text_that_cannot_be_is_refused(type_: str, value: Any, reason: str) -> None:
    assert reason in refusal(type_, value, {**OWN, "connector": "postgresql"})
