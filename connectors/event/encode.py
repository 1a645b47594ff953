"""Encode what our own capture writes: Debezium's envelope, bare, with values as plain text or JSON scalars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.event.types import ForeignKey, Unavailable, Value
from connectors.event.values import PLACEHOLDER
from connectors.table import Table

_encode = msgspec.json.Encoder().encode
_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TRUTHS = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a change comes from, as the envelope's `source` block.

    MySQL's family tells `file`, `pos` and `row` of each change: the deletion and the creation that one change of a
    key becomes have the same. `foreign_key_checks` is False where the session had switched the checks off.
    """

    connector: str
    name: str
    db: str
    schema: str
    table: str
    ts_ms: int
    lsn: int | None = None
    snapshot: str | None = None
    file: str | None = None
    pos: int | None = None
    row: int | None = None
    gtid: str | None = None
    foreign_key_checks: bool = True


def encode_change(
    table: Table,
    op: str,
    key: Sequence[str],
    row: Sequence[Value] | None,
    *,
    source: Source,
    transaction: str | None = None,
) -> tuple[bytes, bytes]:
    """The key and value of one row change. `row` is None for a deletion."""
    keys = {
        name: _scalar(value, table.columns[position].type)
        for name, value, position in zip(table.key, key, table.key_positions, strict=True)
    }
    after = None
    if row is not None:
        after = {c.name: _scalar(value, c.type) for c, value in zip(table.columns, row, strict=True)}
    envelope = {
        "before": keys if op == "d" else None,
        "after": after,
        "source": source,
        "op": op,
        "ts_ms": source.ts_ms,
    }
    if transaction is not None:
        envelope["transaction"] = {"id": transaction}
    return _encode(keys), _encode(envelope)


def encode_truncate(*, source: Source, transaction: str | None = None) -> tuple[None, bytes]:
    """All rows of `source.table` went."""
    envelope: dict[str, Any] = {
        "before": None,
        "after": None,
        "source": source,
        "op": "t",
        "ts_ms": source.ts_ms,
    }
    if transaction is not None:
        envelope["transaction"] = {"id": transaction}
    return None, _encode(envelope)


def encode_boundary(status: str, transaction: str, ts_ms: int, count: int | None = None) -> tuple[bytes, bytes]:
    """BEGIN or END of a source transaction."""
    value = {"status": status, "id": transaction, "ts_ms": ts_ms, "event_count": count}
    return _encode({"id": transaction}), _encode(value)


def encode_heartbeat(ts_ms: int) -> tuple[None, bytes]:
    """Business time has reached ts_ms."""
    return None, _encode({"ts_ms": ts_ms})


def encode_foreign_keys(
    keys: Sequence[ForeignKey], *, ts_ms: int, database: str = "", ddl: str | None = None
) -> tuple[bytes, bytes]:
    """All foreign keys among the captured tables, in the form of a schema change; they replace those told before."""
    value = {
        "ts_ms": ts_ms,
        "databaseName": database,
        "ddl": ddl,
        "tableChanges": [],
        "foreignKeys": [
            {
                "name": key.name,
                "table": key.table,
                "columns": key.columns,
                "parent": key.parent,
                "parentColumns": key.parent_columns,
                "onDelete": key.on_delete,
                "onUpdate": key.on_update,
            }
            for key in keys
        ],
    }
    return _encode({"databaseName": database}), _encode(value)


def _scalar(value: Value, type_: str) -> Any:
    """PostgreSQL's output text as a JSON value that reads back as the same text."""
    if value is None:
        return None
    if isinstance(value, Unavailable):
        return PLACEHOLDER
    if type_ in _INTEGERS:
        return int(value)
    if type_ == "boolean":
        # A source may keep a truth as a number; what is neither is left for the decoder to refuse.
        return _TRUTHS.get(value.lower(), value)
    return value
