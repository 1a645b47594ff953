"""The column types of MySQL and MariaDB that a domain may declare, with values at their borders."""

from __future__ import annotations

from sources import TypeCase

_NULL = ("NULL", None)

TYPES = [
    TypeCase("tinyint", "smallint", [("-128", "-128"), ("127", "127"), _NULL]),
    TypeCase("tinyint unsigned", "smallint", [("255", "255")]),
    TypeCase("tinyint(1)", "boolean", [("1", "true"), ("0", "false"), ("2", "true"), _NULL]),
    TypeCase("smallint", "smallint", [("-32768", "-32768"), ("32767", "32767")]),
    TypeCase("smallint unsigned", "integer", [("65535", "65535")]),
    TypeCase("mediumint", "integer", [("-8388608", "-8388608"), ("8388607", "8388607")]),
    TypeCase("mediumint unsigned", "integer", [("16777215", "16777215")]),
    TypeCase("int", "integer", [("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
    TypeCase("int unsigned", "bigint", [("4294967295", "4294967295")]),
    TypeCase("bigint", "bigint", [("-9223372036854775808", "-9223372036854775808"), _NULL]),
    TypeCase("bigint unsigned", "numeric(20)", [("18446744073709551615", "18446744073709551615"), ("0", "0")]),
    TypeCase(
        "decimal(65,30)",
        "numeric(65,30)",
        [
            ("99999999999999999999999999999999999.999999999999999999999999999999",) * 2,
            ("-0.000000000000000000000000000001",) * 2,
            ("0", "0." + "0" * 30),
            _NULL,
        ],
    ),
    TypeCase("decimal(5,2)", "numeric(5,2)", [("-999.99", "-999.99"), ("0.1", "0.10")]),
    TypeCase("decimal(20,0)", "bigint", [("-123456789012345678", "-123456789012345678")]),
    TypeCase("decimal(9,9)", "numeric(9,9)", [("0.123456789", "0.123456789")]),
    TypeCase("float", "real", [("0.1", "0.1"), ("16777217", "16777216.0"), ("-3.40282e38", "-3.40282e+38"), _NULL]),
    TypeCase("float", "numeric", [("1.17549e-38", "1.17549e-38")]),
    TypeCase("double", "double precision", [("0.1", "0.1"), ("1.7976931348623157e308", "1.7976931348623157e+308")]),
    TypeCase("double(20,3)", "double precision", [("12345678901234.567", "12345678901234.566")]),
    TypeCase("bit(1)", "boolean", [("b'1'", "true"), ("b'0'", "false")]),
    TypeCase("bit(10)", "bit(10)", [("b'1000000001'", "1000000001"), ("b'1'", "0000000001"), _NULL]),
    TypeCase("bit(64)", "numeric(20)", [("18446744073709551615", "18446744073709551615")]),
    TypeCase("year", "smallint", [("1901", "1901"), ("2155", "2155"), ("0", "0"), _NULL]),
    TypeCase("date", "date", [("'1000-01-01'", "1000-01-01"), ("'0000-00-00'", None), ("'2024-00-15'", None), _NULL]),
    TypeCase(
        "datetime",
        "timestamp without time zone",
        [("'9999-12-31 23:59:59'", "9999-12-31 23:59:59"), ("'0000-00-00'", None), _NULL],
    ),
    TypeCase(
        "datetime(6)",
        "timestamp(6) without time zone",
        [("'2024-02-29 23:59:59.000001'", "2024-02-29 23:59:59.000001")],
    ),
    TypeCase(
        "datetime(3)", "timestamp(3) without time zone", [("'1969-12-31 00:00:00.999'", "1969-12-31 00:00:00.999000")]
    ),
    TypeCase("datetime(1)", "timestamp without time zone", [("'2024-01-01 00:00:00.9'", "2024-01-01 00:00:00.900000")]),
    TypeCase(
        "timestamp(6) NULL",
        "timestamp(6) with time zone",
        [
            ("FROM_UNIXTIME(1719792000.5)", "2024-07-01 00:00:00.500000+00"),
            ("FROM_UNIXTIME(2147483647)", "2038-01-19 03:14:07+00"),
            ("'0000-00-00'", None),
            _NULL,
        ],
    ),
    TypeCase("timestamp NULL", "timestamp without time zone", [("FROM_UNIXTIME(951782400)", "2000-02-29 00:00:00")]),
    TypeCase("time", "time without time zone", [("'23:59:59'", "23:59:59"), _NULL]),
    TypeCase(
        "time(6)",
        "interval",
        [
            ("'838:59:59.000001'", "838:59:59.000001"),
            ("'-838:59:59.999999'", "-838:59:59.999999"),
            ("'-00:00:00.000001'", "-00:00:00.000001"),
        ],
    ),
    TypeCase("time(2)", "interval", [("'-100:00:00.05'", "-100:00:00.05"), ("'-01:00:00'", "-01:00:00.00")]),
    TypeCase("time(3)", "interval", [("'-00:00:01.005'", "-00:00:01.005"), ("'24:00:00'", "24:00:00.000")]),
    TypeCase("char(10)", "character(10)", [("'ab  '", "ab"), ("''", ""), _NULL]),
    TypeCase("varchar(100) CHARACTER SET utf8mb4", "text", [("'ß漢🦀 '", "ß漢🦀 "), ("'NULL'", "NULL")]),
    TypeCase("char(200) CHARACTER SET utf8mb4", "text", [("REPEAT('漢', 200)", "漢" * 200)]),
    TypeCase("varchar(20) CHARACTER SET latin1", "text", [("'Zoë €'", "Zoë €"), ("x'8180ff'", "\x81€ÿ")]),
    TypeCase("varchar(20) CHARACTER SET cp1251", "text", [("'Привет'", "Привет")]),
    TypeCase("varchar(20) CHARACTER SET sjis", "text", [("'日本'", "日本")]),
    TypeCase("varchar(20) CHARACTER SET ucs2", "text", [("'日本'", "日本")]),
    TypeCase("char(20) COLLATE utf8mb3_czech_ci", "text", [("'žluť'", "žluť")]),
    TypeCase("mediumtext", "text", [("REPEAT('é', 70000)", "é" * 70000)]),
    TypeCase("tinytext", "text", [("'a\\nb\\\\'", "a\nb\\")]),
    TypeCase("varchar(300) COMPRESSED", "text", [("REPEAT('ab', 100)", "ab" * 100), ("'x'", "x"), ("''", "")]),
    TypeCase("blob COMPRESSED", "bytea", [("REPEAT('ab', 100)", "\\x" + "6162" * 100), ("''", "\\x")]),
    TypeCase("binary(5)", "bytea", [("x'0100'", "\\x0100000000"), ("x'0000000000'", "\\x0000000000"), _NULL]),
    TypeCase("varbinary(10)", "bytea", [("x'0100'", "\\x0100"), ("''", "\\x")]),
    TypeCase("blob", "bytea", [("x'00ff5c'", "\\x00ff5c"), _NULL]),
    TypeCase("binary(16)", "uuid", [("x'a0eebc999c0b4ef8bb6d6bb9bd380a00'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a00")]),
    TypeCase("char(36)", "uuid", [("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")]),
    TypeCase(
        "uuid", "uuid", [("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A00'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a00"), _NULL]
    ),
    TypeCase("inet6", "inet", [("'2001:db8::ff00:42:8300'", "2001:db8::ff00:42:8300"), ("'::'", "::")]),
    TypeCase("inet6", "text", [("'::ffff:1.2.3.4'", "::ffff:1.2.3.4")]),
    TypeCase(
        "enum('a,b','ö','it''s') CHARACTER SET latin1", "text", [("'a,b'", "a,b"), ("'ö'", "ö"), ("3", "it's"), _NULL]
    ),
    TypeCase("set('x','y','ž') CHARACTER SET utf8mb4", "text", [("'ž,x'", "x,ž"), ("''", ""), _NULL]),
    TypeCase("set('x','y','z')", "text[]", [("'z,x'", '{"x","z"}'), ("''", "{}")]),
    TypeCase("json", "jsonb", [('\'{"b": 1, "a": [1.50, null, "ü"]}\'', '{"b": 1, "a": [1.50, null, "ü"]}'), _NULL]),
]
