"""Decode messages of Debezium's connectors and of our capture into events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from connectors.event.types import (
    Boundary,
    Change,
    Event,
    EventRefusedError,
    Heartbeat,
    Ignored,
    Truncate,
    Value,
)
from connectors.event.values import Converter, converter
from connectors.table import Table

UTC_ZONE = ZoneInfo("UTC")
_UNSET = msgspec.UNSET
Raw = msgspec.Raw


class _Source(msgspec.Struct, gc=False):
    table: str | None = None
    ts_ms: int | None = None
    connector: str | None = None
    snapshot: Any = None


class _Transaction(msgspec.Struct, gc=False):
    id: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    """Every form at once: absent parts stay unset, unknown ones are skipped."""

    schema: Raw | msgspec.UnsetType = _UNSET
    payload: Raw | msgspec.UnsetType = _UNSET
    op: str | msgspec.UnsetType | None = _UNSET
    before: Raw | msgspec.UnsetType = _UNSET
    after: Raw | msgspec.UnsetType = _UNSET
    source: _Source | msgspec.UnsetType | None = _UNSET
    ts_ms: int | None = None
    transaction: _Transaction | None = None
    status: str | None = None
    id: str | None = None
    ddl: Any = _UNSET
    tableChanges: Any = _UNSET  # noqa: N815 - as it is on the wire
    databaseName: Any = _UNSET  # noqa: N815


_envelope = msgspec.json.Decoder(_Envelope)
_any = msgspec.json.Decoder()
_NULL = b"null"


class _Columns:
    """How the rows of one table are read: by column name, with a converter for each."""

    def __init__(self, table: Table, converters: Sequence[Converter]) -> None:
        self.table = table
        self.converters = tuple(converters)
        names = [f"c{number}" for number in range(len(table.columns))]
        shape = msgspec.defstruct(
            "Row",
            [(name, Any, _UNSET) for name in names],
            rename=dict(zip(names, table.names, strict=True)),
            gc=False,
        )
        self._rows = msgspec.json.Decoder(shape)
        self._lower = {name.lower(): position for position, name in enumerate(table.names)}

    def row(self, raw: Raw) -> tuple[Value, ...]:
        """All columns' values. Raises EventRefusedError."""
        values = msgspec.structs.astuple(self._rows.decode(raw))
        if _UNSET in values:
            values = self._filled(raw, values)
        row: list[Value] = []
        for value, convert, column in zip(values, self.converters, self.table.columns, strict=True):
            if value is None:
                if not column.nullable and not column.optional:
                    raise _refused(self.table.name, column.name, "NULL in a column declared NOT NULL")
                row.append(None)
                continue
            try:
                row.append(convert(value))
            except (ValueError, TypeError, OverflowError, AttributeError) as error:
                raise _refused(self.table.name, column.name, str(error)) from None
        return tuple(row)

    def _filled(self, raw: Raw, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values with those that are spelled in another case; optional columns that are absent are NULL."""
        found = {str(name).lower(): value for name, value in _any.decode(raw).items()}
        filled = list(values)
        for name, position in self._lower.items():
            if filled[position] is _UNSET:
                column = self.table.columns[position]
                if name not in found and not column.optional:
                    raise EventRefusedError(
                        f"An event of {self.table.name} lacks the declared column {column.name}.",
                        hint="Remove the column from source.sql, or add it under [source.optional] in domain.toml.",
                    )
                filled[position] = found.get(name)
        return tuple(filled)

    def key(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The key's values. Raises EventRefusedError."""
        lower = {str(name).lower(): value for name, value in values.items()}
        key: list[str] = []
        for position in self.table.key_positions:
            name = self.table.names[position]
            value = values.get(name, lower.get(name.lower()))
            if value is None:
                raise EventRefusedError(
                    f"An event of {self.table.name} has no value for the key column {name}.",
                    hint="The PRIMARY KEY in source.sql must be the source table's own.",
                )
            try:
                text = self.converters[position](value)
            except (ValueError, TypeError, OverflowError, AttributeError) as error:
                raise _refused(self.table.name, name, str(error)) from None
            if not isinstance(text, str):
                raise _refused(self.table.name, name, "an unavailable value in the key")
            key.append(text)
        return tuple(key)


def _refused(table: str, column: str, reason: str) -> EventRefusedError:
    return EventRefusedError(
        f"An event of {table} has in {column} {reason}.",
        hint=f"Check the type of {table}.{column} in source.sql against the source's.",
    )


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
        self._bare = {
            name: _Columns(table, [converter(c.type, zone) for c in table.columns])
            for name, table in self._tables.items()
        }
        self._schemas: dict[tuple[str, bytes], _Columns] = {}

    def decode(self, key: bytes | None, value: bytes | None) -> Event:
        """Decode one message. Raises EventRefusedError for what is to be parked."""
        if value is None:
            return Ignored("tombstone")
        if value[:1] == b"\x00":
            raise EventRefusedError(
                "The message is in Avro (it begins with a zero byte).",
                hint="Set value.converter=org.apache.kafka.connect.json.JsonConverter in the connector.",
            )
        try:
            envelope = _envelope.decode(value)
            schema: Raw | None = None
            if isinstance(envelope.payload, Raw) and envelope.op is _UNSET:
                schema = None if isinstance(envelope.schema, msgspec.UnsetType) else envelope.schema
                if bytes(envelope.payload) == _NULL:
                    return Ignored("tombstone")
                envelope = _envelope.decode(envelope.payload)
            return self._event(key, envelope, schema)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EventRefusedError(
                f"The message is not a change event in JSON: {_reason(error)}.",
                hint="Use Debezium's JsonConverter, or `rowtide log append` with its own format.",
            ) from None

    def _event(self, key: bytes | None, envelope: _Envelope, schema: Raw | None) -> Event:
        if isinstance(envelope.op, str):
            return self._change(key, envelope, schema)
        if envelope.ddl is not _UNSET or envelope.tableChanges is not _UNSET:
            return Ignored("schema-change")
        if envelope.status in ("BEGIN", "END") and envelope.id:
            return Boundary(envelope.status, _group(envelope.id, None), envelope.ts_ms or 0)  # type: ignore[arg-type]
        if envelope.ts_ms is not None and isinstance(envelope.source, msgspec.UnsetType):
            return Heartbeat(envelope.ts_ms)
        raise EventRefusedError(
            "The message has no `op`: it is no change event, or it was flattened.",
            hint="Remove the transform ExtractNewRecordState from the connector: the whole envelope is needed.",
        )

    def _change(self, message_key: bytes | None, envelope: _Envelope, schema: Raw | None) -> Event:
        source = envelope.source if isinstance(envelope.source, _Source) else None
        if envelope.op == "m":
            return Ignored("message")
        if source is None or source.table is None:
            raise EventRefusedError(
                "The event does not say its table (source.table).",
                hint="Leave the `source` block in the envelope: the table is told by it, not by the topic.",
            )
        table = self._tables.get(source.table) or self._by_lower.get(source.table.lower())
        if table is None:
            return Ignored("undeclared-table", source.table)
        ts_ms = source.ts_ms if source.ts_ms is not None else envelope.ts_ms
        if ts_ms is None or not 0 <= ts_ms < 250_000_000_000_000:
            raise EventRefusedError(
                f"An event of {table.name} has no usable time (ts_ms).", hint="Check the connector."
            )
        group = envelope.transaction.id if envelope.transaction else None
        transaction = _group(group, source.connector) if group else None
        if envelope.op == "t":
            return Truncate(table.name, ts_ms, transaction)
        if envelope.op not in ("c", "u", "d", "r"):
            raise EventRefusedError(f"An event of {table.name} has an unknown op.", hint="Known: c, u, d, r, t, m.")
        columns = self._bare[table.name] if schema is None else self._with_schema(table, schema)
        op: Literal["c", "u", "d", "r"] = envelope.op  # type: ignore[assignment]
        snapshot = source.snapshot not in (None, False, "false", "incremental")
        if op == "d":
            return Change(
                table.name,
                op,
                self._key(columns, message_key, envelope.before),
                None,
                ts_ms,
                transaction,
                snapshot,
            )
        if not isinstance(envelope.after, Raw) or bytes(envelope.after) == _NULL:
            raise EventRefusedError(f"An event of {table.name} has no `after`.", hint="Check the connector.")
        row = columns.row(envelope.after)
        key: list[str] = []
        for position in table.key_positions:
            part = row[position]
            if not isinstance(part, str):
                raise _refused(table.name, table.names[position], "no value in the key")
            key.append(part)
        return Change(table.name, op, tuple(key), row, ts_ms, transaction, snapshot)

    def _key(self, columns: _Columns, message_key: bytes | None, before: Any) -> tuple[str, ...]:
        """The key of a deletion: the message's, else what `before` names (it is used for nothing else)."""
        if message_key is not None:
            if message_key[:1] == b"\x00":
                raise EventRefusedError("The message's key is in Avro.", hint="Set key.converter to the JsonConverter.")
            found = _any.decode(message_key)
            if isinstance(found, Mapping) and set(found) == {"schema", "payload"}:
                found = found["payload"]
            if isinstance(found, Mapping):
                return columns.key(found)
        if isinstance(before, Raw) and bytes(before) != _NULL:
            found = _any.decode(before)
            if isinstance(found, Mapping):
                return columns.key(found)
        raise EventRefusedError(
            f"A deletion of {columns.table.name} names no key.", hint="Give the source table a primary key."
        )

    def _with_schema(self, table: Table, schema: Raw) -> _Columns:
        """The converters that an event's schema asks for; made once for each schema."""
        text = bytes(schema)
        known = self._schemas.get((table.name, text))
        if known is not None:
            return known
        fields: dict[str, Mapping[str, Any]] = {}
        decoded = _any.decode(text) if text != _NULL else None
        if isinstance(decoded, Mapping):
            for part in decoded.get("fields") or []:
                if isinstance(part, Mapping) and part.get("field") == "after":
                    fields = {
                        str(f.get("field")).lower(): f for f in part.get("fields") or [] if isinstance(f, Mapping)
                    }
        converters = []
        for column in table.columns:
            field = fields.get(column.name.lower(), {})
            name, parameters = field.get("name"), field.get("parameters")
            converters.append(
                converter(
                    column.type,
                    self._zone,
                    name if isinstance(name, str) else None,
                    {str(k): str(v) for k, v in parameters.items()} if isinstance(parameters, Mapping) else None,
                )
            )
        if len(self._schemas) > 1000:  # a topic whose schema changes with every message must not fill the memory
            self._schemas.clear()
        return self._schemas.setdefault((table.name, text), _Columns(table, converters))


def _group(identifier: str, connector: str | None) -> str:
    """What groups the events of one transaction: PostgreSQL's `txId:lsn` differs in the second part."""
    head, colon, tail = identifier.partition(":")
    if colon and head.isdigit() and tail.isdigit() and connector in (None, "postgresql"):
        return head
    return identifier


def _reason(error: Exception) -> str:
    """What is wrong with the text, without any of it."""
    text = str(error)
    return text.split(" - ", 1)[0] if isinstance(error, msgspec.ValidationError) else text.rstrip(".")
