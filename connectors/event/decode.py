"""Decode messages of Debezium's connectors and of our capture into events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeGuard
from zoneinfo import ZoneInfo

import msgspec

from connectors.event.columns import Columns, any_value
from connectors.event.types import (
    ACTIONS,
    Boundary,
    Change,
    Event,
    EventRefusedError,
    ForeignKey,
    ForeignKeys,
    Heartbeat,
    Ignored,
    Truncate,
)
from connectors.event.values import Wire, converter
from connectors.table import Table

UTC_ZONE = ZoneInfo("UTC")
_UNSET = msgspec.UNSET
Raw = msgspec.Raw
# A time beyond the year 9999 would stop business time for good.
_LAST_MS = 253_402_300_800_000
_SCHEMAS_KEPT = 1000  # a topic whose schema changes with every message must not fill the memory
_MYSQL = frozenset({"mysql", "mariadb"})
_OPS = frozenset("cudrtm")


class _Source(msgspec.Struct, gc=False):
    table: str | None = None
    ts_ms: int | None = None
    connector: str | None = None
    version: str | None = None
    snapshot: Any = None
    file: str | None = None
    pos: int | None = None
    row: int | None = None
    foreign_key_checks: bool | None = None


class _Transaction(msgspec.Struct, gc=False):
    id: str | None = None
    total_order: int | None = None


class _Envelope(msgspec.Struct, gc=False):
    """A change: absent parts stay unset, unknown ones are skipped."""

    schema: Raw | msgspec.UnsetType = _UNSET
    payload: Raw | msgspec.UnsetType = _UNSET
    op: str | msgspec.UnsetType | None = _UNSET
    before: Raw | msgspec.UnsetType = _UNSET
    after: Raw | msgspec.UnsetType = _UNSET
    source: _Source | msgspec.UnsetType | None = _UNSET
    ts_ms: int | None = None
    transaction: _Transaction | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_NULL = b"null"


class _Form(NamedTuple):
    """What decides how a table's values are read: the source's family, the writer, the schema's text if any."""

    table: str
    mysql: bool
    debezium: bool
    schema: bytes | None


class Decoder:
    """Decodes messages for a set of declared tables.

    Args:
        tables: the declared tables; events of others are ignored.
        zone: where a value and the declared type differ in having a time zone, local time is this zone's.
    """

    def __init__(self, tables: Iterable[Table], *, zone: ZoneInfo = UTC_ZONE) -> None:
        self._zone = zone
        self._tables = {table.name: table for table in tables}
        self._by_lower = {name.lower(): table for name, table in self._tables.items()}
        self._columns: dict[_Form, Columns] = {}

    def decode(self, key: bytes | None, value: bytes | None) -> Event:
        """Decode one message. Raises EventRefusedError for what is to be parked."""
        if value is None or value == _NULL:
            return Ignored("tombstone")
        if value[:1] == b"\x00":
            raise EventRefusedError(
                "The message is in Avro (it begins with a zero byte).",
                hint="Set value.converter=org.apache.kafka.connect.json.JsonConverter in the connector.",
            )
        if value.startswith(_BOUNDARY_BEGINS) and (boundary := _plain_boundary(value)) is not None:
            return boundary
        schema: bytes | None = None
        body: bytes | Raw = value
        try:
            try:
                envelope = _envelope.decode(value)
                if isinstance(envelope.payload, Raw) and envelope.op is _UNSET:
                    schema = None if isinstance(envelope.schema, msgspec.UnsetType) else bytes(envelope.schema)
                    body = envelope.payload
                    if bytes(body) == _NULL:
                        return Ignored("tombstone")
                    envelope = _envelope.decode(body)
            except msgspec.ValidationError as error:
                return self._other(body, error)
            if isinstance(envelope.op, str) and isinstance(envelope.source, _Source):
                return self._change(key, envelope, envelope.source, schema)
            return self._other(body, None)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
            raise EventRefusedError(
                f"The message is not a change event in JSON: {_reason(error)}.",
                hint="Use Debezium's JsonConverter, or `rowtide log append` with its own format.",
            ) from None

    def _change(self, message_key: bytes | None, envelope: _Envelope, source: _Source, schema: bytes | None) -> Event:
        if envelope.op == "m":
            return Ignored("message")
        if not source.table:
            raise EventRefusedError(
                "The event does not say its table (source.table).",
                hint="Leave the `source` block in the envelope: the table is told by it, not by the topic.",
            )
        table = self._tables.get(source.table) or self._by_lower.get(source.table.lower())
        if table is None:
            return Ignored("undeclared-table", source.table)
        if envelope.op not in _OPS:
            raise EventRefusedError(f"An event of {table.name} has an unknown op.", hint="Known: c, u, d, r, t, m.")
        ts_ms = source.ts_ms if source.ts_ms is not None else envelope.ts_ms
        if not _is_time(ts_ms):
            raise EventRefusedError(
                f"An event of {table.name} has no usable time (ts_ms).", hint="Check the connector and its clock."
            )
        group = envelope.transaction.id if envelope.transaction else None
        transaction = _group(group, source.connector) if group else None
        order = envelope.transaction.total_order if envelope.transaction else None
        if envelope.op == "t":
            ends = source.connector in _MYSQL and source.version is not None and transaction is not None
            return Truncate(table.name, ts_ms, transaction, order, ends)
        mysql = source.connector in _MYSQL
        columns = self._read_as(table, mysql, source.version is not None, schema)
        op: Literal["c", "u", "d", "r"] = envelope.op  # type: ignore[assignment]
        snapshot = source.snapshot not in (None, False, "false", "incremental")
        cascades = mysql and op != "r" and source.foreign_key_checks is not False
        place = None
        if mysql and source.file is not None and source.pos is not None:
            place = (source.file, source.pos, source.row or 0)
        if op == "d":
            key = self._key(columns, message_key, envelope.before)
            return Change(table.name, op, key, None, ts_ms, transaction, snapshot, cascades, place, order)
        if not isinstance(envelope.after, Raw) or bytes(envelope.after) == _NULL:
            raise EventRefusedError(f"An event of {table.name} has no `after`.", hint="Check the connector.")
        row = columns.row(envelope.after)
        key = columns.key_of_row(row)
        return Change(table.name, op, key, row, ts_ms, transaction, snapshot, cascades, place, order)

    def _key(self, columns: Columns, message_key: bytes | None, before: Any) -> tuple[str, ...]:
        """The key of a deletion: the message's, else what `before` names (it is used for nothing else)."""
        if message_key is not None and message_key != _NULL:
            if message_key[:1] == b"\x00":
                raise EventRefusedError(
                    "The message's key is in Avro.",
                    hint="Set key.converter=org.apache.kafka.connect.json.JsonConverter in the connector.",
                )
            found = any_value.decode(message_key)
            if isinstance(found, Mapping) and set(found) == {"schema", "payload"}:
                found = found["payload"]
            if isinstance(found, Mapping):
                return columns.key(found)
            if isinstance(found, str | int) and len(columns.table.key) == 1:
                return columns.key({columns.table.key[0]: found})
        if isinstance(before, Raw) and bytes(before) != _NULL:
            found = any_value.decode(before)
            if isinstance(found, Mapping):
                return columns.key(found)
        raise EventRefusedError(
            f"A deletion of {columns.table.name} names no key.", hint="Give the source table a primary key."
        )

    def _read_as(self, table: Table, mysql: bool, debezium: bool, schema: bytes | None) -> Columns:
        """How the table's rows are read in this form of messages; made once for each."""
        form = _Form(table.name, mysql, debezium, schema)
        known = self._columns.get(form)
        if known is not None:
            return known
        fields = _fields(schema)
        plain = Wire(mysql=mysql, debezium=debezium)
        converters = []
        for column in table.columns:
            wire = _wire(fields.get(column.name.lower(), {}), plain)
            converters.append(converter(column.type, self._zone, wire))
        if len(self._columns) > _SCHEMAS_KEPT:
            self._columns.clear()
        return self._columns.setdefault(form, Columns(table, converters))

    @property
    def tables(self) -> Iterable[str]:
        """The names of the declared tables."""
        return self._tables.keys()

    # --- everything that is no row change ---

    def _boundary(self, found: Mapping[str, Any]) -> Boundary:
        ts_ms = found.get("ts_ms") or 0
        if not isinstance(found["id"], str) or not found["id"] or not _is_time(ts_ms):
            raise EventRefusedError(
                "The boundary of a transaction has no usable id or time (ts_ms).",
                hint="Check the connector and its clock.",
            )
        return Boundary(found["status"], _group(found["id"], None), ts_ms, self._counts(found))

    def _counts(self, found: Mapping[str, Any]) -> tuple[tuple[str, int], ...] | None:
        """The changes of each declared table; what is not declared does not count. None where it is not told."""
        listed = found.get("data_collections") or []
        if found["status"] != "END" or not isinstance(listed, list):
            return None
        counts: dict[str, int] = {}
        total = 0
        for entry in listed:
            name = entry.get("data_collection") if isinstance(entry, Mapping) else None
            count = entry.get("event_count") if isinstance(entry, Mapping) else None
            if not isinstance(name, str) or not isinstance(count, int):
                return None
            total += count
            # `database.table` or `schema.table`; either part may hold dots.
            parts = name.split(".")
            ends = [".".join(parts[number:]) for number in range(len(parts))]
            tables = (self._tables.get(end) or self._by_lower.get(end.lower()) for end in ends)
            table = next((table for table in tables if table is not None), None)
            if table is not None:
                counts[table.name] = counts.get(table.name, 0) + count
        return tuple(sorted(counts.items())) if total == found.get("event_count") else None

    def _other(self, body: bytes | Raw, error: msgspec.ValidationError | None) -> Event:
        """Recognise what is not a row change by all of its parts, so that no row is taken for one of these."""
        found = any_value.decode(body)
        if not isinstance(found, Mapping):
            raise EventRefusedError(
                "The message is JSON, but no change event.",
                hint="Use Debezium's JsonConverter, or `rowtide log append` with its own format.",
            )
        names = set(found)
        if names <= {"ts_ms", "ts_us", "ts_ns"} and _is_time(found.get("ts_ms")):
            return Heartbeat(found["ts_ms"])
        if {"status", "id"} <= names <= _BOUNDARY and found["status"] in ("BEGIN", "END"):
            return self._boundary(found)
        if {"foreignKeys", "databaseName"} <= names <= _SCHEMA_CHANGE:
            return _foreign_keys(found)
        if {"ddl", "databaseName"} <= names <= _SCHEMA_CHANGE:
            return Ignored("schema-change")
        if found.get("op") == "m":
            return Ignored("message")
        if isinstance(found.get("op"), str) and names & {"before", "after", "source"}:
            if isinstance(found.get("source"), Mapping) and error is not None:
                raise EventRefusedError(
                    f"The envelope is not as Debezium writes it: {_reason(error)}.",
                    hint="Remove transforms that change `source`, `transaction` or `ts_ms`.",
                )
            raise EventRefusedError(
                "The event does not say its table (source.table).",
                hint="Leave the `source` block in the envelope: the table is told by it, not by the topic.",
            )
        raise EventRefusedError(
            "The message has no `op`: it is no change event, or it was flattened.",
            hint="Remove the transform ExtractNewRecordState from the connector: the whole envelope is needed.",
        )


_SCHEMA_CHANGE = {
    "source",
    "position",
    "ts_ms",
    "ts_us",
    "ts_ns",
    "databaseName",
    "schemaName",
    "ddl",
    "tableChanges",
    "foreignKeys",
}
_BOUNDARY = {"status", "id", "event_count", "data_collections", "ts_ms", "ts_us", "ts_ns"}


def _is_time(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LAST_MS


class _PlainBoundary(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    status: Literal["BEGIN", "END"]
    id: str
    ts_ms: int = 0
    event_count: Raw | None = None
    data_collections: Raw | None = None


_plain = msgspec.json.Decoder(_PlainBoundary)
_BOUNDARY_BEGINS = b'{"status":'


def _plain_boundary(value: bytes) -> Boundary | None:
    """A boundary as our own capture writes it, which is every second message of many a topic; None: look closer."""
    try:
        found = _plain.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Boundary(found.status, _group(found.id, None), found.ts_ms) if found.id and _is_time(found.ts_ms) else None


def _foreign_keys(found: Mapping[str, Any]) -> ForeignKeys:
    try:
        keys = msgspec.convert(found["foreignKeys"], list[_WireKey])
        told = [
            ForeignKey(k.name, k.table, k.columns, k.parent, k.parentColumns, _action(k.onDelete), _action(k.onUpdate))
            for k in keys
        ]
    except (msgspec.ValidationError, ValueError):
        told = None
    ts_ms = found.get("ts_ms") or 0
    if (
        told is None
        or not _is_time(ts_ms)
        or any(len(k.columns) != len(k.parent_columns) or not k.columns for k in told)
    ):
        raise EventRefusedError(
            "The message tells foreign keys in a form that is not known.",
            hint="It was written by another version of Rowtide: run `rowtide init --snapshot`, then start again.",
        )
    return ForeignKeys(tuple(told), ts_ms)


class _WireKey(msgspec.Struct):
    name: str
    table: str
    columns: tuple[str, ...]
    parent: str
    parentColumns: tuple[str, ...]  # noqa: N815 - as it is on the wire
    onDelete: str  # noqa: N815
    onUpdate: str  # noqa: N815


def _action(text: str) -> str:
    action = text.upper().replace("_", " ")
    if action not in ACTIONS:
        raise ValueError
    return action


def _fields(schema: bytes | None) -> dict[str, Mapping[str, Any]]:
    """The schemas of the row's columns, by column name in lower case."""
    decoded = any_value.decode(schema) if schema is not None and schema != _NULL else None
    for part in _list(decoded, "fields"):
        if isinstance(part, Mapping) and part.get("field") == "after":
            return {str(f.get("field")).lower(): f for f in _list(part, "fields") if isinstance(f, Mapping)}
    return {}


def _list(found: Any, name: str) -> list[Any]:
    value = found.get(name) if isinstance(found, Mapping) else None
    return value if isinstance(value, list) else []


def _wire(field: Mapping[str, Any], plain: Wire) -> Wire:
    """What a column's schema tells: its meaning, its type and its scale."""
    if not field:
        return plain
    items = field.get("items")
    inner = _wire(items, plain) if isinstance(items, Mapping) else None
    name, type_, parameters = field.get("name"), field.get("type"), field.get("parameters")
    scale = parameters.get("scale") if isinstance(parameters, Mapping) else None
    return plain._replace(
        name=name if isinstance(name, str) else "",
        type=type_ if isinstance(type_, str) else "",
        scale=int(scale) if isinstance(scale, str | int) and str(scale).lstrip("-").isdecimal() else 0,
        items=inner,
    )


def _group(identifier: str, connector: str | None) -> str:
    """What groups the events of one transaction: PostgreSQL's `txId:lsn` differs in the second part."""
    head, colon, tail = identifier.partition(":")
    if colon and head.isdigit() and tail.isdigit() and connector in (None, "postgresql"):
        return head
    return identifier


def _reason(error: Exception) -> str:
    """What is wrong with the text, without any of it."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error)
    return text.split(" - ", 1)[0] if isinstance(error, msgspec.ValidationError) else text.rstrip(".")
