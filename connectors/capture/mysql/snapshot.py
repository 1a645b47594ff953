"""The snapshot: every captured table as it was at one moment, read without locking anybody out.

MariaDB tells which place of the binlog a consistent snapshot shows; the stream goes on from exactly there. MySQL does
not, and a snapshot that was interrupted is gone. There the stream begins at a place that is certainly not too late and
brings some changes once more, older ones included, so that a row may go back for a while; but behind the last change
that the reading can have seen, each row is as the source has it. Until then the snapshot's unit stays open, and nobody
sees what lies before.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import pymysql
import structlog
from pymysql.cursors import SSCursor

from connectors.capture.mysql import types
from connectors.capture.mysql.binlog import drop
from connectors.capture.mysql.catalogue import SourceTable
from connectors.capture.mysql.connection import Connection, Dsn, Server, connect, pairs, quoted, rows, value
from connectors.capture.mysql.errors import code
from connectors.capture.mysql.position import Place, Position
from connectors.capture.mysql.preflight import binlog_status
from connectors.capture.mysql.rows import Row, key_of
from connectors.capture.mysql.types import Convert, Shape
from connectors.capture.mysql.writer import CHUNK, CHUNK_BYTES, Writer
from connectors.capture.running import CaptureStoppedError, Reporter
from connectors.event import SNAPSHOT, encode_boundary, encode_change, encode_heartbeat, encode_truncate
from connectors.log import Message
from connectors.table import Table

log = structlog.get_logger()

# Kinds of key columns by which reading can go on behind a row, and how a value is written in a statement.
_LITERALS = {
    **dict.fromkeys(("integer", "decimal", "bit", "year"), "number"),
    **dict.fromkeys(("text", "date", "datetime", "timestamp", "uuid"), "text"),
    "binary": "bytes",
}
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class _Field(NamedTuple):
    """A declared column: what to select and how to read it; `shape` is None where the source lacks it."""

    expression: str
    shape: Shape | None
    convert: Convert | None


class Snapshot:
    """Reads tables into the log.

    Args:
        found: the tables as the source has them, by declared name.
    """

    def __init__(
        self,
        dsn: Dsn,
        server: Server,
        tables: Sequence[Table],
        found: Mapping[str, SourceTable],
        writer: Writer,
        reporter: Reporter,
    ) -> None:
        self._dsn = dsn
        self._server = server
        self._tables = {table.name: table for table in tables}
        self._found = found
        self._writer = writer
        self._reporter = reporter

    def begin(self, stop: threading.Event, told: Sequence[Message], keys: str, *, emptying: bool) -> Position | None:
        """Take a snapshot of all tables. Returns the position to stream from, None where stopped before the end.

        Args:
            stop: ends the reading between two portions.
            told: goes into the log before everything else.
            keys: marks the foreign keys that are in it.
            emptying: the log may have rows of an earlier snapshot, which are taken back within this one's unit.
        """
        connection = connect(self._dsn, cursor=SSCursor, read_timeout=None)
        try:
            gtids, place, exact = self._open(connection)
            unit = f"{SNAPSHOT}{gtids if gtids and self._server.mariadb else f'{place.file}:{place.offset}'}"
            position = Position(
                "snapshot",
                gtids,
                place.file,
                place.offset,
                server=self._server.identity,
                tables=tuple(self._tables),
                emptying=emptying,
                snapshot=unit,
                columns={name: self._found[name].definitions(table) for name, table in self._tables.items()},
                keys=keys,
            )
            now = self._writer.now_ms()
            boundary = encode_boundary("BEGIN", unit, now)
            self._writer.append([*told, Message(*boundary, now)], position)
            log.info("snapshot.started", source=self._writer.name, gtid=gtids, file=place.file, offset=place.offset)
            read = self._read(connection, position, stop)
            return None if read is None else self._end(read, exact=exact)
        finally:
            drop(connection)

    def resume(self, position: Position, stop: threading.Event) -> Position | None:
        """Read the rest of a snapshot that was interrupted, at a new moment."""
        connection = connect(self._dsn, cursor=SSCursor, read_timeout=None)
        try:
            self._open(connection)
            read = self._read(connection, position, stop)
            return None if read is None else self._end(read, exact=False)
        finally:
            drop(connection)

    # --- the moment ---

    def _open(self, connection: Connection) -> tuple[str | None, Place, bool]:
        """Begin the reading transaction: GTIDs and place to stream from, and whether it shows exactly those."""
        rows(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
        if self._server.mariadb:
            rows(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            status = pairs(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'")
            place = Place(status.get("Binlog_snapshot_file", ""), int(status.get("Binlog_snapshot_position") or 0))
            gtids = value(connection, "SELECT BINLOG_GTID_POS(%s, %s)", [place.file, str(place.offset)])
            return gtids, place, all(table.transactional for table in self._found.values())
        if self._server.gtid:
            # What is executed by now is certainly visible to the snapshot; more may be.
            gtids = value(connection, "SELECT @@GLOBAL.gtid_executed").replace("\n", "")
            place, _, _ = binlog_status(connection, self._server)
            rows(connection, begin)
            return gtids, place, False
        try:
            rows(connection, "FLUSH TABLES WITH READ LOCK")
        except pymysql.err.MySQLError as error:
            if code(error) not in (1227, 1044, 1045):
                raise
            raise CaptureStoppedError(
                "The source has no GTIDs, and its user may not lock for the moment that a snapshot begins at.",
                hint="Set gtid_mode = ON and enforce_gtid_consistency = ON in the source, or GRANT RELOAD to the user.",
            ) from None
        try:
            place, _, _ = binlog_status(connection, self._server)
            rows(connection, begin)
        finally:
            rows(connection, "UNLOCK TABLES")
        return None, place, all(table.transactional for table in self._found.values())

    def _end(self, position: Position, *, exact: bool) -> Position:
        """Everything is read: stream on, or first catch up with what the reading can have seen."""
        now = self._writer.now_ms()
        if exact:
            following = position.with_(phase="stream", snapshot="", tables=(), emptying=False)
            self._writer.append([Message(*encode_boundary("END", position.snapshot, now), now)], following)
            log.info("snapshot.completed", source=self._writer.name)
            return following
        connection = connect(self._dsn)
        try:
            place, _, _ = binlog_status(connection, self._server)
            gtids = value(connection, "SELECT @@gtid_binlog_pos" if self._server.mariadb else "SELECT @@gtid_executed")
        finally:
            connection.close()
        following = position.with_(
            phase="catchup",
            tables=(),
            emptying=False,
            server=self._server.identity,
            until_file=place.file,
            until_offset=place.offset,
            until_gtids=gtids.replace("\n", ""),
        )
        self._writer.append([Message(*encode_heartbeat(now), now)], following)
        return following

    # --- the tables ---

    def _read(self, connection: Connection, position: Position, stop: threading.Event) -> Position | None:
        for name in position.tables:
            table = self._tables.get(name)
            if table is not None and name in self._found:
                rows(connection, "SAVEPOINT rowtide_table")
                read = self._read_table(connection, table, position, stop)
                if read is None:
                    return None
                position = read
                rows(
                    connection, "ROLLBACK TO SAVEPOINT rowtide_table"
                )  # lets go of the table's definition: DDL may pass
            position = position.with_(tables=position.tables[1:], last=None, rows=0)
        return position

    def _read_table(
        self, connection: Connection, table: Table, position: Position, stop: threading.Event
    ) -> Position | None:
        source = self._found[table.name]
        now = self._writer.now_ms()
        block = self._writer.source(
            table, now, file=position.file, pos=position.offset, gtid=position.gtids or None, snapshot="true"
        )
        fields = [self._field(table, place) for place in range(len(table.columns))]
        messages: list[Message] = []
        size, last = 0, position.last
        done = 0 if last is None else position.rows
        if position.emptying and last is None:
            self._writer.append([Message(*encode_truncate(source=block), now)], position)
        for raw, row in self._rows(connection, table, fields, position):
            key = key_of(table, row)
            message = Message(*encode_change(table, "r", key, row, source=block), now)
            messages.append(message)
            size += len(message.value or b"")
            last = raw
            if len(messages) >= CHUNK or size >= CHUNK_BYTES:
                done += len(messages)
                position = position.with_(last=last, rows=done)
                self._writer.append(messages, position)
                messages, size = [], 0
                self._reporter.advanced(table.name, done, source.estimate)
                if stop.is_set():
                    return None
        if stop.is_set():
            return None
        if messages:
            done += len(messages)
            position = position.with_(last=last, rows=done)
            self._writer.append(messages, position)
            self._reporter.advanced(table.name, done, source.estimate)
        self._reporter.completed(table.name, done)
        return position

    def _field(self, table: Table, place: int) -> _Field:
        column = table.columns[place]
        stored = self._found[table.name].columns.get(column.name.lower())
        if stored is None:
            return _Field("NULL", None, None)
        expression = types.selected(quoted(stored.name), stored.shape)
        return _Field(expression, stored.shape, types.target(stored.shape, column, table.name))

    def _rows(
        self, connection: Connection, table: Table, fields: Sequence[_Field], position: Position
    ) -> Iterator[tuple[tuple[str, ...] | None, Row]]:
        """The rows behind the position in the order of the key: the raw key where one can go on behind it, the row."""
        source = self._found[table.name]
        shapes = [fields[place].shape for place in table.key_positions]
        names = [quoted(table.names[place]) for place in table.key_positions]
        resumable = all(shape is not None and shape.kind in _LITERALS for shape in shapes)
        query = (
            f"SELECT {', '.join(field.expression for field in fields)} "
            f"FROM {quoted(self._dsn.database)}.{quoted(source.name)}"
        )
        values: list[str] = []
        if position.last is not None and resumable:
            condition, values = _behind(names, [s.kind for s in shapes if s is not None], position.last)
            query += f" WHERE {condition}"
        if resumable:
            query += f" ORDER BY {', '.join(names)}"
        reads = [None if f.shape is None else types.read_selected(f.shape) for f in fields]
        with connection.cursor(SSCursor) as cursor:
            cursor.execute(query, values or None)
            while (found := cursor.fetchone()) is not None:
                texts = [
                    None if data is None or read is None else read(data)
                    for data, read in zip(found, reads, strict=True)
                ]
                row = tuple(
                    text if text is None or field.convert is None else field.convert(text)
                    for text, field in zip(texts, fields, strict=True)
                )
                raw = None
                if resumable:
                    raw = tuple(_kept(texts[place]) for place in table.key_positions)
                yield raw, cast(Row, row)


def _kept(text: str | bytes | None) -> str:
    return text.hex() if isinstance(text, bytes) else text or ""


def _behind(names: Sequence[str], kinds: Sequence[str], last: Sequence[str]) -> tuple[str, list[str]]:
    """The condition for rows behind a key, written so that the key's index serves it, and its values."""
    literals: list[tuple[str, list[str]]] = []
    for kind, text in zip(kinds, last, strict=True):
        form = _LITERALS[kind]
        if form == "number" and _NUMBER.fullmatch(text):
            literals.append((text, []))
        else:
            literals.append(("UNHEX(%s)" if form == "bytes" else "%s", [text]))
    parts: list[str] = []
    values: list[str] = []
    for place in range(len(names)):
        equal = [f"{names[i]} = {literals[i][0]}" for i in range(place)]
        parts.append("(" + " AND ".join([*equal, f"{names[place]} > {literals[place][0]}"]) + ")")
        for i in range(place + 1):
            values.extend(literals[i][1])
    return " OR ".join(parts), values
