"""From the plug-in's rows to encoded events: columns by name, keys, values that were not sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from connectors.capture.postgres import pgoutput
from connectors.capture.postgres.preflight import quoted
from connectors.capture.postgres.writer import Encoded, Writer
from connectors.capture.running import CaptureStoppedError
from connectors.event import UNAVAILABLE, Source, Value, encode_change
from connectors.table import Table, spelled

Fetch = Callable[[Table, tuple[str, ...]], "tuple[Value, ...] | None"]


class _Known(NamedTuple):
    """How rows of a relation are read: where each declared column stands among the sent ones, -1 if absent."""

    table: Table
    places: tuple[int, ...]


class Rows:
    """Encodes the rows of the declared tables; others are nothing.

    Args:
        fetch: reads a row of the source as it is now, by its key; None if it is not there.
    """

    def __init__(self, tables: Iterable[Table], writer: Writer, fetch: Fetch) -> None:
        self._tables = {table.name: table for table in tables}
        self._writer = writer
        self._fetch = fetch
        self._known: dict[int, _Known | None] = {}
        self._sources: dict[str, Source] = {}
        self._lsn = self._ts_ms = 0
        self._transaction = ""

    def began(self, lsn: int, ts_ms: int, transaction: str) -> None:
        """The rows that follow belong to this transaction."""
        self._lsn, self._ts_ms, self._transaction = lsn, ts_ms, transaction
        self._sources.clear()

    def described(self, relation: pgoutput.Relation) -> None:
        """Learn what a table's rows look like. Raises CaptureStoppedError where they no longer serve."""
        table = self._tables.get(relation.table) if relation.schema == self._writer.schema else None
        if table is None:
            self._known[relation.oid] = None
            return
        names = spelled(table.names, relation.columns)
        missing = [c.name for c in table.columns if c.name not in names and not c.optional]
        if missing:
            raise CaptureStoppedError(
                f"The source's table {table.name} has lost the column {missing[0]} (dropped or renamed).",
                hint="Take it out of source.sql (or list it under [source.optional]) and run `rowtide rebuild`.",
            )
        if relation.identity != "f" and not {names[part] for part in table.key} <= set(relation.keys):
            raise CaptureStoppedError(
                f"The replica identity of {table.name} no longer contains the key ({', '.join(table.key)}): deletions "
                "cannot be followed.",
                hint=f"Run ALTER TABLE {quoted(relation.schema, table.name)} REPLICA IDENTITY FULL in the source; what was "
                f"deleted meanwhile needs `rowtide init --snapshot {table.name}`.",
            )
        places = tuple(relation.columns.index(names[n]) if n in names else -1 for n in table.names)
        self._known[relation.oid] = _Known(table, places)

    def sources(self, oids: Sequence[int]) -> Iterator[Source]:
        """The `source` block of each declared table among the relations."""
        for oid in oids:
            known = self._known.get(oid)
            if known is not None:
                yield self._source(known.table)

    def encode(self, row: pgoutput.Row) -> list[Encoded]:
        """The events of one row change: one, or two where the key moved."""
        known = self._known.get(row.oid)
        if known is None:
            return []
        table, places = known
        source, transaction = self._source(table), self._transaction
        old = None if row.old is None else _values(row.old, places)
        if row.new is None:
            return [encoded(table, "d", _key(table, old or ()), None, source=source, transaction=transaction)]
        new = _values(row.new, places)
        if old is not None and UNAVAILABLE in new:
            new = tuple([o if n is UNAVAILABLE and o is not None else n for n, o in zip(new, old, strict=True)])
        key = _key(table, new)
        if row.kind == "I":
            return [encoded(table, "c", key, new, source=source, transaction=transaction)]
        if old is None or (before := _key(table, old)) == key:
            return [encoded(table, "u", key, new, source=source, transaction=transaction)]
        if UNAVAILABLE in new:
            new = self._completed(table, key, new)
        return [
            encoded(table, "d", before, None, source=source, transaction=transaction),
            encoded(table, "c", key, new, source=source, transaction=transaction),
        ]

    def _completed(self, table: Table, key: tuple[str, ...], row: tuple[Value, ...]) -> tuple[Value, ...]:
        """A row under a new key, whose large unchanged values nobody has under that key: read from the source.

        If it was changed or moved on since, the events that follow say so, and bring their values themselves.
        """
        current = self._fetch(table, key)
        if current is None:
            return row
        return tuple([c if value is UNAVAILABLE else value for value, c in zip(row, current, strict=True)])

    def _source(self, table: Table) -> Source:
        source = self._sources.get(table.name)
        if source is None:
            source = self._sources[table.name] = self._writer.source(table, self._ts_ms, self._lsn)
        return source


def encoded(
    table: Table,
    op: str,
    key: tuple[str, ...],
    row: Sequence[Value] | None,
    *,
    source: Source,
    transaction: str | None = None,
) -> Encoded:
    """Encode a change. Raises CaptureStoppedError where the source's type can not be the declared one."""
    try:
        return encode_change(table, op, key, row, source=source, transaction=transaction)
    except ValueError:
        columns = [c for c, v in zip(table.columns, row or (), strict=False) if isinstance(v, str) and not _integer(v)]
        wrong = next((c.name for c in columns if c.type in ("smallint", "integer", "bigint")), table.key[0])
        raise CaptureStoppedError(
            f"The source's column {table.name}.{wrong} holds what is no integer, as which source.sql declares it.",
            hint="Declare the source's own type in source.sql and run `rowtide rebuild`.",
        ) from None


def _integer(value: str) -> bool:
    return value.removeprefix("-").isdigit()


def _values(row: tuple[Value, ...], places: tuple[int, ...]) -> tuple[Value, ...]:
    return tuple([row[place] if place >= 0 else None for place in places])


def _key(table: Table, row: tuple[Value, ...]) -> tuple[str, ...]:
    key = tuple([row[position] for position in table.key_positions])
    if not all(isinstance(value, str) for value in key):
        raise CaptureStoppedError(
            f"A change of {table.name} does not tell its key ({', '.join(table.key)}).",
            hint="Give the source's table that primary key and REPLICA IDENTITY DEFAULT, and run `rowtide init --snapshot`.",
        )
    return key  # type: ignore[return-value]
