"""Messages as the connectors write them, for the tests of the codec: one table with a column of each kind."""

from __future__ import annotations

import json
from typing import Any

from connectors.table import Column, Table

TABLE = Table(
    "thing",
    (
        Column("id", "integer", nullable=False),
        Column("code", "character varying(20)", nullable=False),
        Column("Amount", "numeric(12,2)"),
        Column("big", "numeric(20,0)"),
        Column("on_day", "date"),
        Column("at", "timestamp without time zone"),
        Column("seen", "timestamp with time zone"),
        Column("took", "interval"),
        Column("data", "jsonb"),
        Column("bytes", "bytea"),
        Column("tags", "text[]"),
        Column("note", "text", optional=True),
    ),
    ("id", "code"),
)
MARIADB: dict[str, Any] = {
    "version": "3.5.0.Final",
    "connector": "mariadb",
    "name": "shop",
    "ts_ms": 1700000000000,
    "snapshot": None,
    "db": "sakila",
    "sequence": None,
    "ts_us": 1700000000000000,
    "ts_ns": 1700000000000000000,
    "table": "thing",
    "server_id": 1,
    "gtid": "0-1-4114",
    "file": "mariadb-bin.000002",
    "pos": 1234,
    "row": 0,
    "thread": 12,
    "query": None,
}
POSTGRES: dict[str, Any] = {
    "version": "3.6.3.Final",
    "connector": "postgresql",
    "name": "crm",
    "ts_ms": 1700000000123,
    "snapshot": "false",
    "db": "data_analytics",
    "sequence": '["24023119","24023128"]',
    "ts_us": 1700000000123456,
    "ts_ns": 1700000000123456000,
    "schema": "public",
    "table": "thing",
    "txId": 555,
    "lsn": 24023128,
    "xmin": None,
}
KEY = {"id": 7, "code": "a"}
ROW: dict[str, Any] = {
    "id": 7,
    "code": "a",
    "Amount": "12.50",
    "big": "18446744073709551615",
    "on_day": "2024-02-29Z",
    "at": "2024-02-29T23:59:59.123456Z",
    "seen": "2024-02-29T23:59:59.123456Z",
    "took": 45296000000,
    "data": '{"a": [1, 2.50, null]}',
    "bytes": "AAH/",
    "tags": ["x", None, 'a"b'],
    "note": "grün",
    "unknown_column": {"x": 1},
}
# How PostgreSQL is to be given that row.
DECODED = (
    "7",
    "a",
    "12.50",
    "18446744073709551615",
    "2024-02-29",
    "2024-02-29 23:59:59.123456",
    "2024-02-29 23:59:59.123456+00",
    "12:34:56",
    '{"a": [1, 2.50, null]}',
    "\\x0001ff",
    '{"x",NULL,"a\\"b"}',
    "grün",
)


def change(op: str = "u", *, source: dict[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    """An envelope; `after` is ROW unless given."""
    after = None if op in "dt" else dict(ROW)
    return {
        "before": None,
        "after": after,
        "source": dict(source or MARIADB),
        "transaction": {"id": "0-1-4114", "total_order": 1, "data_collection_order": 1},
        "op": op,
        "ts_ms": 1700000000456,
        "ts_us": 1700000000456789,
        "ts_ns": 1700000000456789000,
        **parts,
    }


def wire(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def schema(fields: list[dict[str, Any]]) -> dict[str, Any]:
    """An envelope's schema whose rows have these fields."""
    row = {"type": "struct", "optional": True, "name": "shop.sakila.thing.Value", "fields": fields}
    source = {
        "type": "struct",
        "optional": False,
        "name": "io.debezium.connector.Source",
        "field": "source",
        "fields": [],
    }
    return {
        "type": "struct",
        "fields": [
            {**row, "field": "before"},
            {**row, "field": "after"},
            source,
            {"type": "string", "optional": False, "field": "op"},
            {"type": "int64", "optional": True, "field": "ts_ms"},
        ],
        "optional": False,
        "name": "shop.sakila.thing.Envelope",
        "version": 2,
    }


def fields() -> list[dict[str, Any]]:
    """The schemas of ROW's columns in the connector's default modes."""
    described = [
        ("id", "int32", None, None),
        ("code", "string", None, None),
        ("Amount", "bytes", "org.apache.kafka.connect.data.Decimal", {"scale": "2", "connect.decimal.precision": "12"}),
        ("big", "int64", None, None),
        ("on_day", "int32", "io.debezium.time.Date", None),
        ("at", "int64", "io.debezium.time.Timestamp", None),
        ("seen", "string", "io.debezium.time.ZonedTimestamp", None),
        ("took", "int64", "io.debezium.time.MicroTime", None),
        ("data", "string", "io.debezium.data.Json", None),
        ("bytes", "bytes", None, None),
        ("tags", "array", None, None),
        ("note", "string", None, None),
    ]
    found = []
    for name, type_, meaning, parameters in described:
        field: dict[str, Any] = {"type": type_, "optional": True, "field": name}
        if meaning is not None:
            field |= {"name": meaning, "version": 1}
        if parameters is not None:
            field["parameters"] = parameters
        if type_ == "array":
            field["items"] = {"type": "string", "optional": True}
        found.append(field)
    return found


# ROW in the connector's default modes, as its schema describes it.
TYPED_ROW = {
    **ROW,
    "Amount": "BOI=",
    "big": -1,
    "on_day": 19782,
    "at": 1709251199123,
    "took": 45296000000,
}
TYPED_DECODED = (*DECODED[:5], "2024-02-29 23:59:59.123000", *DECODED[6:])


def messages() -> list[tuple[bytes | None, bytes]]:
    """One message of every form."""
    key_schema = {"type": "struct", "fields": [{"type": "int32", "optional": False, "field": "id"}], "optional": False}
    keyed = wire(KEY)
    full = {"schema": schema(fields()), "payload": change(after=TYPED_ROW)}
    before = {**dict.fromkeys(ROW), "id": 7, "code": "a", "Amount": "0"}
    absent = {"note": "__debezium_unavailable_value", "bytes": "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="}
    begin = {"status": "BEGIN", "id": "0-1-4114", "event_count": None, "data_collections": None, "ts_ms": 1700000000000}
    ddl = {"databaseName": "sakila", "schemaName": None, "ddl": "DROP TABLE IF EXISTS `thing`", "tableChanges": []}
    return [
        (keyed, wire(change("c"))),
        (keyed, wire(change("u", source=POSTGRES, transaction={"id": "555:24023128", "total_order": 1}))),
        (keyed, wire(change("r", source={**MARIADB, "snapshot": "first_in_data_collection"}))),
        (keyed, wire(change("d", before=before))),
        (wire({"schema": key_schema, "payload": KEY}), wire(change("d", source=POSTGRES, before=before))),
        (wire({"schema": key_schema, "payload": KEY}), wire(full)),
        (None, wire(change("t"))),
        (keyed, wire(change(after={**ROW, **absent}))),
        (wire({"serverName": "shop"}), wire({"ts_ms": 1700000000000})),
        (wire({"id": "0-1-4114"}), wire(begin)),
        (wire({"databaseName": "sakila"}), wire({**ddl, "source": MARIADB, "ts_ms": 1700000000000})),
    ]
