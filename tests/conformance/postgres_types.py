"""The column types of PostgreSQL that a domain may declare, with values at their borders."""

from __future__ import annotations

from sources import TypeCase

_SAME = ("NULL", None)

TYPES = [
    TypeCase("smallint", "smallint", [("-32768", "-32768"), ("32767", "32767"), _SAME]),
    TypeCase("integer", "integer", [("-2147483648", "-2147483648"), ("0", "0"), _SAME]),
    TypeCase("bigint", "bigint", [("9223372036854775807", "9223372036854775807"), ("-1", "-1"), _SAME]),
    TypeCase("integer", "bigint", [("5", "5")]),
    TypeCase("integer", "boolean", [("1", "true"), ("0", "false"), _SAME]),
    TypeCase("boolean", "boolean", [("true", "true"), ("false", "false"), _SAME]),
    TypeCase(
        "numeric",
        "numeric",
        [
            ("123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"),
            ("'NaN'", "NaN"),
            ("'Infinity'", "Infinity"),
            ("'-Infinity'", "-Infinity"),
            _SAME,
        ],
    ),
    TypeCase(
        "numeric(65,30)", "numeric(65,30)", [("-0.000000000000000000000000000001", "-0.000000000000000000000000000001")]
    ),
    TypeCase("numeric(5,2)", "numeric(5,2)", [("999.99", "999.99"), ("0", "0.00"), ("-1.5", "-1.50")]),
    TypeCase("real", "real", [("1.5", "1.5"), ("'NaN'", "NaN")]),
    TypeCase(
        "double precision",
        "double precision",
        [
            ("0.1", "0.1"),
            ("1e300", "1e+300"),
            ("'-Infinity'", "-Infinity"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ],
    ),
    TypeCase(
        "text",
        "text",
        [
            ("''", ""),
            ("'NULL'", "NULL"),
            (r"E'a\tb\nc\\d\"e'", 'a\tb\nc\\d"e'),
            ("'\\N'", "\\N"),
            ("'ß漢🦀'", "ß漢🦀"),
            _SAME,
        ],
    ),
    TypeCase("varchar(45)", "character varying(45)", [("'o''hara'", "o'hara")]),
    TypeCase("char(4)", "character(4)", [("'ab'", "ab  ")]),
    TypeCase("bytea", "bytea", [(r"'\x00ff5c'", "\\x00ff5c"), ("''", "\\x"), _SAME]),
    TypeCase(
        "date",
        "date",
        [
            ("'2024-02-29'", "2024-02-29"),
            ("'0001-01-01'", "0001-01-01"),
            ("'infinity'", "infinity"),
            ("'-infinity'", "-infinity"),
        ],
    ),
    TypeCase(
        "timestamp",
        "timestamp without time zone",
        [
            ("'2024-02-29 23:59:59.999999'", "2024-02-29 23:59:59.999999"),
            ("'1969-12-31 00:00:00'", "1969-12-31 00:00:00"),
            ("'-infinity'", "-infinity"),
            ("'infinity'", "infinity"),
            _SAME,
        ],
    ),
    TypeCase(
        "timestamp(3)", "timestamp(3) without time zone", [("'2024-01-01 00:00:00.1234'", "2024-01-01 00:00:00.123000")]
    ),
    TypeCase(
        "timestamptz",
        "timestamp with time zone",
        [("'2024-07-01 12:00:00+02'", "2024-07-01 10:00:00+00"), ("'infinity'", "infinity"), _SAME],
    ),
    TypeCase("timestamptz", "timestamp without time zone", [("'2024-07-01 12:00:00+02'", "2024-07-01 10:00:00")]),
    TypeCase("time", "time without time zone", [("'23:59:59.5'", "23:59:59.5"), ("'00:00'", "00:00:00")]),
    TypeCase("timetz", "time with time zone", [("'12:00:00+02'", "12:00:00+02")]),
    TypeCase(
        "interval",
        "interval",
        [("'1 year 2 mons -3 days 04:05:06.7'", "1 year 2 mons -3 days +04:05:06.7"), ("'-100:00:00'", "-100:00:00")],
    ),
    TypeCase(
        "json", "json", [('\'{"b": 1,  "a": [1.0, null]}\'', '{"b": 1,  "a": [1.0, null]}'), ("'null'", "null"), _SAME]
    ),
    TypeCase("jsonb", "jsonb", [('\'{"b":1,"a":"\u00fc"}\'', '{"a": "\u00fc", "b": 1}')]),
    TypeCase(
        "uuid", "uuid", [("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), _SAME]
    ),
    TypeCase("bit(5)", "bit(5)", [("B'10110'", "10110")]),
    TypeCase("varbit", "bit varying", [("B''", ""), ("B'0001'", "0001")]),
    TypeCase("text[]", "text[]", [('\'{a,NULL,"b,c",""}\'', '{"a",NULL,"b,c",""}'), ("'{}'", "{}"), _SAME]),
    TypeCase("integer[]", "integer[]", [("'{{1,2},{3,4}}'", "{{1,2},{3,4}}")]),
    TypeCase("inet", "text", [("'10.0.0.1/8'", "10.0.0.1/8")]),
    TypeCase("int4range", "text", [("'[1,5)'", "[1,5)")]),
]
