"""The stream: the binlog's transactions as appends to the log, each with the position it leads to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog

from connectors.capture.mysql import events
from connectors.capture.mysql.binlog import Binlog, RawEvent
from connectors.capture.mysql.catalogue import SourceTable
from connectors.capture.mysql.charsets import Charsets
from connectors.capture.mysql.connection import Server
from connectors.capture.mysql.ddl import Does, Statement, read_statement
from connectors.capture.mysql.position import Place, Position, gtids
from connectors.capture.mysql.refusals import (
    compressed_transaction,
    incident,
    partial_update,
    rolled_back,
    rows_gone,
    statement_logged,
    tagged_gtid,
    two_phase,
)
from connectors.capture.mysql.rows import RowReader, key_of
from connectors.capture.mysql.tablemap import table_map, table_name
from connectors.capture.mysql.writer import CHUNK, CHUNK_BYTES, Writer
from connectors.event import SNAPSHOT, encode_boundary, encode_change, encode_heartbeat, encode_truncate
from connectors.failpoints import failpoint
from connectors.log import Message
from connectors.table import Table

log = structlog.get_logger()


class SchemaChange(NamedTuple):
    """What follows from a changed schema: messages to append, and how the position changes.

    Args:
        found: the tables as the source has them now.
        reread: tables whose rows changed without being logged: they are to be read again.
    """

    found: Mapping[str, SourceTable]
    messages: Sequence[Message] = ()
    changes: Mapping[str, object] = {}
    reread: tuple[str, ...] = ()


class _Transaction:
    """The transaction that is being read.

    Args:
        name: tells it from all others of the source.
        in_log: how many of its messages are in the log already.
        begun: whether it has more than one statement, and an end of its own.
    """

    def __init__(self, name: str, gtid: str | None, ts_ms: int, in_log: int, *, begun: bool) -> None:
        self.name = name
        self.gtid = gtid
        self.ts_ms = ts_ms
        self.in_log = in_log
        self.begun = begun
        self.count = 0  # its messages so far, its BEGIN included
        self.savepoints: dict[str, int] = {}


class Stream:
    """Reads a binlog from a position on.

    Args:
        tables: the declared tables.
        found: the same as the source has them.
        schema_changed: called behind a statement that may have changed captured tables (named) or their foreign keys.
    """

    def __init__(
        self,
        binlog: Binlog,
        server: Server,
        tables: Sequence[Table],
        found: Mapping[str, SourceTable],
        writer: Writer,
        position: Position,
        charsets: Charsets,
        load_charsets: Callable[[set[int]], None],
        schema_changed: Callable[[Position, list[str]], SchemaChange],
        *,
        heartbeat_seconds: float,
    ) -> None:
        self._binlog = binlog
        self._server = server
        self._found = found
        self._writer = writer
        self._charsets = charsets
        self._load_charsets = load_charsets
        self._schema_changed = schema_changed
        self._heartbeat = heartbeat_seconds
        fold = str.lower if server.folds_names else str
        self._fold: Callable[[str], str] = fold
        self._tables = {fold(table.name): table for table in tables}
        self._database = fold(writer.database)
        self._stored = position  # what the log has
        self._gtids = None if position.gtids is None else gtids(position.gtids, mariadb=server.mariadb)
        self._place = position.place  # the end of the last whole transaction
        self._transaction: _Transaction | None = None
        self._readers: dict[int, tuple[bytes, RowReader | None]] = {}
        self._messages: list[Message] = []
        self._bytes = 0
        self._partial = bool(position.partial)  # whether the log ends within a transaction that is still to come
        self._moved = False  # whether transactions have passed since the last append
        self._appended_at = time.monotonic()
        self._ts_ms = writer.now_ms()
        self._reread: SchemaChange | None = None

    def follow(self, stop: threading.Event, until: Place | None) -> Position | None:
        """Read until stopped, or until everything before `until` is in the log.

        Returns a position to read tables at, where a changed schema asks for it.
        """
        while not stop.is_set():
            event = self._binlog.read()
            if event is not None:
                self._take(event)
                if self._reread is not None:
                    return self._reread_position(self._reread)
            if self._idle:
                self._flush()
                self._end_catchup()
                if until is not None and self._binlog.place.order >= until.order:
                    self._confirm()
                    return None
                if self._moved and time.monotonic() - self._appended_at >= self._heartbeat:
                    self._beat(self._ts_ms)  # busy with what we do not capture
        self._flush()
        return None

    @property
    def _idle(self) -> bool:
        """Whether all that was received is read, up to a transaction's end."""
        return self._transaction is None and not self._partial and not self._binlog.pending

    # --- events ---

    def _take(self, event: RawEvent) -> None:
        kind = event.kind
        if kind in events.ROWS:
            self._rows(event)
        elif kind == events.TABLE_MAP:
            self._table_map(event)
        elif kind == events.XID:
            self._commit(event)
        elif kind == events.MARIADB_GTID:
            self._begin(event, events.mariadb_gtid(event.body, event.server_id))
        elif kind in (events.GTID, events.ANONYMOUS_GTID):
            self._begin(event, events.mysql_gtid(kind, event.body))
        elif kind in (events.QUERY, events.MARIADB_QUERY, events.LOAD_QUERY):
            self._query(event)
        elif kind in (events.HEARTBEAT, events.HEARTBEAT_2):
            if self._idle:
                self._flush()
                self._beat(self._writer.now_ms())
        elif kind == events.XA_PREPARE:
            self._xa_prepare(event)
        elif kind == events.PARTIAL_UPDATE:
            if self._reader(int.from_bytes(event.body[:6], "little")) is not None:
                raise partial_update()
        elif kind == events.PAYLOAD:
            raise compressed_transaction()
        elif kind == events.INCIDENT:
            raise incident()
        elif kind == events.TAGGED_GTID:
            raise tagged_gtid()

    def _begin(self, event: RawEvent, gtid: events.Gtid) -> None:
        name = gtid.text or f"file={self._binlog.file},pos={event.end}"
        moment = gtid.ts_ms if gtid.ts_ms is not None else event.time * 1000
        in_log = self._stored.index if self._stored.partial == name else 0
        begun = self._server.mariadb and gtid.text is not None and not gtid.standalone
        self._transaction = _Transaction(name, gtid.text, self._writer.to_business_ms(moment), in_log, begun=begun)

    def _current(self, event: RawEvent) -> _Transaction:
        """The transaction that an event belongs to; it begins one where the source did not say so."""
        if self._transaction is None:
            self._begin(event, events.Gtid(None))
        assert self._transaction is not None  # noqa: S101 - just begun
        return self._transaction

    def _table_map(self, event: RawEvent) -> None:
        table_id, database, name = table_name(event.body)
        known = self._readers.get(table_id)
        if known is not None and known[0] == event.body:
            return
        reader = None
        table = self._tables.get(self._fold(name)) if self._fold(database) == self._database else None
        if table is not None:
            described = table_map(event.body, mariadb=self._server.mariadb)
            self._load_charsets({column.collation for column in described.columns} - {0, 63})
            found = self._found.get(table.name)
            reader = RowReader(table, described, self._charsets, found.plain_bytes() if found else {})
        if len(self._readers) > 10_000:  # numbers grow as tables are opened anew
            self._readers.clear()
        self._readers[table_id] = (event.body, reader)

    def _reader(self, table_id: int) -> RowReader | None:
        known = self._readers.get(table_id)
        return None if known is None else known[1]

    def _rows(self, event: RawEvent) -> None:
        reader = self._reader(int.from_bytes(event.body[:6], "little"))
        if reader is None:
            return
        transaction = self._current(event)
        parsed = events.rows(event.kind, event.body)
        table, name = reader.table, transaction.name
        file, gtid = self._binlog.file, transaction.gtid
        for number, change in enumerate(reader.changes(parsed)):
            source = self._writer.source(
                table,
                transaction.ts_ms,
                file=file,
                pos=event.end,
                row=number,
                gtid=gtid,
                foreign_key_checks=parsed.foreign_key_checks,
            )
            if change.before is not None:
                key = key_of(table, change.before)
                self._emit(transaction, encode_change(table, "d", key, None, source=source, transaction=name))
            if change.after is not None:
                op = "u" if parsed.op == "u" and change.before is None else "c"
                key = key_of(table, change.after)
                self._emit(transaction, encode_change(table, op, key, change.after, source=source, transaction=name))

    def _emit(self, transaction: _Transaction, message: tuple[bytes | None, bytes]) -> None:
        """Queue a message of the transaction, unless an earlier run has appended it."""
        if transaction.count == 0:
            self._queue(transaction, encode_boundary("BEGIN", transaction.name, transaction.ts_ms))
        self._queue(transaction, message)

    def _queue(self, transaction: _Transaction, message: tuple[bytes | None, bytes]) -> None:
        transaction.count += 1
        if transaction.count > transaction.in_log:
            self._messages.append(Message(message[0], message[1], transaction.ts_ms))
            self._bytes += len(message[1])
            if len(self._messages) >= CHUNK or self._bytes >= CHUNK_BYTES:
                self._flush()

    def _commit(self, event: RawEvent) -> None:
        transaction = self._current(event)
        if transaction.count:
            end = encode_boundary("END", transaction.name, transaction.ts_ms, transaction.count - 1)
            self._queue(transaction, end)
        self._passed(transaction, event)

    def _passed(self, transaction: _Transaction, event: RawEvent) -> None:
        """The transaction is over: all of it is queued or in the log."""
        if self._gtids is not None and transaction.gtid is not None:
            self._gtids.add(transaction.gtid)
        self._place = Place(self._binlog.file, event.end or self._binlog.offset)
        self._ts_ms = max(self._ts_ms, transaction.ts_ms) if transaction.count else transaction.ts_ms
        self._transaction = None
        self._partial = False
        self._moved = True

    def _rollback(self, event: RawEvent) -> None:
        transaction = self._current(event)
        self._undo(transaction, 0)
        self._passed(transaction, event)

    def _undo(self, transaction: _Transaction, count: int) -> None:
        """Forget the transaction's messages behind the first `count`; none of them may be in the log yet."""
        if transaction.count <= count:
            return
        if transaction.in_log > count:
            raise rolled_back()
        for message in self._messages[len(self._messages) - (transaction.count - count) :]:
            self._bytes -= len(message.value or b"")
        del self._messages[len(self._messages) - (transaction.count - count) :]
        transaction.count = count

    def _xa_prepare(self, event: RawEvent) -> None:
        if not events.xa_one_phase(event.body) and self._current(event).count:
            raise two_phase()
        self._commit(event)

    # --- statements ---

    def _query(self, event: RawEvent) -> None:
        query = events.query(event.kind, event.body)
        statement = read_statement(query.text)
        does = statement.does
        if does is Does.BEGIN:
            self._current(event).begun = True
        elif does is Does.COMMIT:
            self._commit(event)
        elif does is Does.ROLLBACK:
            self._rollback(event)
        elif does is Does.SAVEPOINT:
            transaction = self._current(event)
            transaction.savepoints[statement.name.lower()] = transaction.count
        elif does is Does.ROLLBACK_TO:
            transaction = self._current(event)
            self._undo(transaction, transaction.savepoints.get(statement.name.lower(), 0))
        elif does is Does.XA:
            if statement.name in ("COMMIT", "ROLLBACK"):
                self._commit(event)
        else:
            self._statement(event, query, statement)

    def _statement(self, event: RawEvent, query: events.Query, statement: Statement) -> None:
        ours = self._fold(query.database) == self._database
        tables = [
            self._tables[self._fold(name)]
            for database, name in statement.tables
            if self._fold(name) in self._tables and (self._fold(database) == self._database if database else ours)
        ]
        does = statement.does
        transaction = self._current(event)
        if does is Does.TRUNCATE:
            for table in tables:
                source = self._writer.source(
                    table, transaction.ts_ms, file=self._binlog.file, pos=event.end, row=0, gtid=transaction.gtid
                )
                self._emit(transaction, encode_truncate(source=source, transaction=transaction.name))
        elif does in (Does.WRITE, Does.CALL):
            if tables or (ours and does is Does.CALL):
                self._flush()
                raise statement_logged(tables[0].name if tables else None)
        elif (does is Does.DROP and tables) or (
            does is Does.DROP_DATABASE and self._fold(statement.name) == self._database
        ):
            self._flush()
            raise rows_gone(tables[0].name if tables else statement.name)
        if transaction.begun:
            return  # its end is still to come
        if not (does is Does.ALTER and tables):
            self._commit(event)
            return
        self._flush()  # what follows from the change must be stored in one step with the position behind it
        self._passed(transaction, event)
        self._readers.clear()
        self._apply(self._schema_changed(self._position(), [table.name for table in tables]))

    def _apply(self, change: SchemaChange) -> None:
        self._found = change.found
        if change.reread:
            self._reread = change
        elif change.messages or change.changes:
            self._append(change.messages, self._position().with_(**change.changes))

    # --- appending ---

    def _position(self) -> Position:
        """The end of the last whole transaction."""
        return self._stored.with_(
            gtids=None if self._gtids is None else str(self._gtids),
            file=self._place.file,
            offset=self._place.offset,
            partial="",
            index=0,
        )

    def _flush(self) -> None:
        """Append what is queued, with the position it leads to."""
        if not self._messages:
            return
        position, transaction = self._position(), self._transaction
        if transaction is not None and transaction.count:
            transaction.in_log = max(transaction.count, transaction.in_log)
            position = position.with_(partial=transaction.name, index=transaction.in_log)
        messages, self._messages, self._bytes = self._messages, [], 0
        failpoint("before_flush")
        self._append(messages, position)

    def _append(self, messages: Sequence[Message], position: Position) -> None:
        self._writer.append(messages, position)
        self._stored = position
        self._moved = False
        self._appended_at = time.monotonic()

    def _beat(self, ts_ms: int) -> None:
        """Let business time be known, and the position with it."""
        self._append([Message(*encode_heartbeat(ts_ms), ts_ms)], self._position())

    def _confirm(self) -> None:
        """Store the position behind transactions that had nothing for us."""
        if self._moved:
            self._append([], self._position())

    def _end_catchup(self) -> None:
        """Close the snapshot's unit once the stream has passed all that the reading can have seen."""
        position = self._stored
        if position.phase != "catchup":
            return
        # On MySQL a change can be seen before its GTID counts as executed, but not before it is in the file.
        by_file = not self._server.mariadb and position.server == self._server.identity
        if by_file:
            reached = self._binlog.place.order >= Place(position.until_file, position.until_offset).order
        else:
            reached = self._gtids is not None and self._gtids.covers(position.until_gtids)
        if not reached:
            return
        now = self._writer.now_ms()
        following = self._position().with_(phase="stream", snapshot="", until_file="", until_offset=0, until_gtids="")
        self._append([Message(*encode_boundary("END", position.snapshot, now), now)], following)
        log.info("snapshot.completed", source=self._writer.name)

    def _reread_position(self, change: SchemaChange) -> Position:
        """Begin to read tables again behind a change of the schema."""
        now = self._writer.now_ms()
        position = self._position().with_(**change.changes)
        unit = position.snapshot or f"{SNAPSHOT}{position.gtids or f'{position.file}:{position.offset}'}"
        tables = change.reread
        messages = list(change.messages)
        if not position.snapshot:
            messages.append(Message(*encode_boundary("BEGIN", unit, now), now))
        position = position.with_(phase="snapshot", snapshot=unit, tables=tables, last=None, rows=0)
        self._append(messages, position)
        log.info("snapshot.repeated", source=self._writer.name, tables=tables)
        return position
