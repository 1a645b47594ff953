"""Capture from PostgreSQL: a consistent snapshot, then logical replication, without gap or overlap.

The replication slot is made first and exports the snapshot that the tables are read at: what the snapshot does not
show, the slot sends. With every append goes the position it leads to, in one transaction of the log; a transaction
that is sent again after a crash is continued where the log ends. The source hears that a transaction is done only
when it is durable in the log.
"""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import psycopg
import psycopg2
import psycopg2.extras
import structlog
from psycopg import sql

from connectors.capture import pgoutput
from connectors.capture.preflight import CaptureStoppedError, check, grants, object_name
from connectors.event import (
    UNAVAILABLE,
    Source,
    Value,
    encode_boundary,
    encode_change,
    encode_heartbeat,
    encode_truncate,
)
from connectors.log import Log, Message
from connectors.table import Table

__all__ = ["CaptureStoppedError", "PostgresCapture", "Progress", "grants"]

log = structlog.get_logger()
# Values as text that reads back the same in any session.
_SESSION = "-c datestyle=ISO -c timezone=UTC -c bytea_output=hex -c extra_float_digits=1 -c intervalstyle=postgres"
_CHUNK = 5000
_CHUNK_BYTES = 4 * 1024 * 1024


class Progress(NamedTuple):
    """How far a snapshot is: rows done of about so many of a table."""

    table: str
    rows: int
    estimate: int


class PostgresCapture:
    """Captures the tables of one source into one topic.

    Args:
        source_dsn: of the source, for a user with the rights that `grants` prints.
        tables: what is captured.
        log: where to; the topic exists.
        name: names the slot and the publication in the source: `rowtide_<name>`.
        schema: the source's schema.
        heartbeat_seconds: how often an idle source is acknowledged and business time is told.
        to_business_ms: the business time of a moment of the source, both in ms.
        on_progress: told about the snapshot.
    """

    def __init__(
        self,
        source_dsn: str,
        tables: Sequence[Table],
        log: Log,
        topic: str,
        *,
        name: str,
        schema: str = "public",
        heartbeat_seconds: float = 10,
        to_business_ms: Callable[[int], int] = lambda ms: ms,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._dsn = source_dsn
        self._tables = {table.name: table for table in tables}
        self._log = log
        self._topic = topic
        self._name = object_name(name)
        self._domain = name
        self._schema = schema
        self._heartbeat = heartbeat_seconds
        self._to_business_ms = to_business_ms
        self._on_progress = on_progress
        self._database = ""
        self._present: dict[str, set[str]] = {}

    # --- running ---

    def run(self, stop: threading.Event) -> None:
        """Capture until stopped; reconnects. Raises CaptureStoppedError where a person has to act."""
        self._attempt(stop, until=None)

    def run_until_now(self, stop: threading.Event) -> None:
        """Capture what was committed in the source before this call, then return."""
        with self._connect() as connection:
            row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        self._attempt(stop, until=int(row[0]) if row else 0)

    def _attempt(self, stop: threading.Event, *, until: int | None) -> None:
        wait = 0.1
        while not stop.is_set():
            began = time.monotonic()
            try:
                self._once(stop, until)
            except (psycopg.OperationalError, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if isinstance(error, psycopg2.errors.ObjectNotInPrerequisiteState):
                    raise self._slot_lost() from None
                wait = 0.1 if time.monotonic() - began > 10 else min(wait * 2, 10)
                log.warning("capture.reconnecting", source=self._domain, error=type(error).__name__, seconds=wait)
                stop.wait(wait)
            else:
                return

    def _once(self, stop: threading.Event, until: int | None) -> None:
        with self._connect() as connection:
            self._database = connection.info.dbname
            self._present = check(connection, list(self._tables.values()), schema=self._schema, name=self._domain)
            position = self._position()
            if position is None:
                position = self._snapshot(connection, stop)
            elif position["phase"] == "snapshot":
                self._check_slot(connection)
                position = self._resume_snapshot(connection, position, stop)
            else:
                self._check_slot(connection)
            if position is not None and not stop.is_set():
                self._stream(position, stop, until)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._dsn, autocommit=True, options=_SESSION)

    def _position(self) -> dict[str, Any] | None:
        text = self._log.source_position(self._topic)
        return None if text is None else dict(json.loads(text))

    def _check_slot(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute(
            "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", [self._name]
        ).fetchone()
        if row is None or row[0] == "lost":
            raise self._slot_lost()

    def _slot_lost(self) -> CaptureStoppedError:
        return CaptureStoppedError(
            f"The replication slot {self._name} is gone from the source, and with it changes that were never read.",
            hint="Take a new snapshot into a new topic; raise max_slot_wal_keep_size if the source dropped it.",
        )

    # --- snapshot ---

    def _replication(self) -> Any:
        return psycopg2.connect(
            self._dsn, connection_factory=psycopg2.extras.LogicalReplicationConnection, options=_SESSION
        )

    def _snapshot(self, connection: psycopg.Connection[Any], stop: threading.Event) -> dict[str, Any] | None:
        """Make the slot, read the tables at the snapshot it exports. Returns the position to stream from."""
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active",
            [self._name],
        )
        replication = self._replication()
        try:
            cursor = replication.cursor()
            cursor.execute(f"CREATE_REPLICATION_SLOT {self._name} LOGICAL pgoutput (SNAPSHOT 'export')")
            _, consistent, snapshot, _ = cursor.fetchone()
            high, low = consistent.split("/")
            lsn = (int(high, 16) << 32) + int(low, 16)
            now = self._now_ms()
            position = {"phase": "snapshot", "lsn": lsn, "table": None, "last": None}
            self._append([encode_boundary("BEGIN", f"snapshot:{lsn}", now)], now, position)
            log.info("snapshot.started", source=self._domain, lsn=consistent)
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
                if not self._read_tables(connection, position, now, stop):
                    return None
        finally:
            replication.close()
        position = {"phase": "stream", "lsn": lsn, "index": 0}
        self._append([encode_boundary("END", f"snapshot:{lsn}", now)], now, position)
        log.info("snapshot.completed", source=self._domain)
        return position

    def _resume_snapshot(
        self, connection: psycopg.Connection[Any], position: dict[str, Any], stop: threading.Event
    ) -> dict[str, Any] | None:
        """Go on with a snapshot whose exported view is gone.

        What is read now may be newer than the slot's start. The stream from there then brings every change once
        more, older ones included, so that a row may go back for a while; but behind the last change that the
        reading can have seen, each row is as the source has it. So the unit stays open until the stream has passed
        that point, and nobody sees what lies before.
        """
        now = self._now_ms()
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            if not self._read_tables(connection, position, now, stop):
                return None
        row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        following = {"phase": "catchup", "lsn": position["lsn"], "index": 0, "snapshot": position["lsn"]}
        following["until"] = int(row[0]) if row else 0
        self._append([encode_heartbeat(now)], now, following)
        return following

    def _read_tables(
        self, connection: psycopg.Connection[Any], position: dict[str, Any], now: int, stop: threading.Event
    ) -> bool:
        names = list(self._tables)
        begin = names.index(position["table"]) if position["table"] else 0
        for name in names[begin:]:
            table = self._tables[name]
            last = position["last"] if name == position["table"] else None
            source = self._source(table, now, position["lsn"], snapshot="true")
            row = connection.execute(
                "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(%s)",
                [f'"{self._schema}"."{name}"'],
            ).fetchone()
            done, estimate = 0, int(row[0]) if row else 0
            rows = self._rows(connection, table, last)
            while chunk := list(islice(rows, _CHUNK)):
                if stop.is_set():
                    return False
                keys = [tuple(values[p] for p in table.key_positions) for values in chunk]
                messages = [
                    encode_change(table, "r", key, values, source=source)
                    for key, values in zip(keys, chunk, strict=True)
                ]
                self._append(messages, now, {**position, "table": name, "last": keys[-1]})
                done += len(chunk)
                if self._on_progress is not None:
                    self._on_progress(Progress(name, done, max(estimate, done)))
            log.info("snapshot.table_read", source=self._domain, table=name, rows=done)
        return True

    def _rows(
        self, connection: psycopg.Connection[Any], table: Table, last: Sequence[str] | None
    ) -> Iterator[tuple[Any, ...]]:
        present = self._present[table.name]
        columns = [
            sql.SQL("{}::text").format(sql.Identifier(name)) if name in present else sql.SQL("NULL")
            for name in table.names
        ]
        key = sql.SQL(", ").join(sql.Identifier(name) for name in table.key)
        query = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(columns), sql.Identifier(self._schema, table.name)
        )
        if last is not None:
            types = {column.name: column.type for column in table.columns}
            values = [sql.SQL("{}::" + types[n]).format(sql.Literal(v)) for n, v in zip(table.key, last, strict=True)]
            query += sql.SQL(" WHERE ({}) > ({})").format(key, sql.SQL(", ").join(values))
        query += sql.SQL(" ORDER BY {}").format(key)
        with connection.cursor(name="rowtide_snapshot") as cursor:
            cursor.itersize = _CHUNK
            cursor.execute(query)
            yield from cursor

    # --- stream ---

    def _stream(self, position: dict[str, Any], stop: threading.Event, until: int | None) -> None:
        replication = self._replication()
        try:
            cursor = replication.cursor()
            try:
                cursor.start_replication(
                    slot_name=self._name,
                    decode=False,
                    start_lsn=position["lsn"],
                    status_interval=5,
                    options={"proto_version": "1", "publication_names": self._name},
                )
            except psycopg2.errors.UndefinedObject:
                raise self._slot_lost() from None
            except psycopg2.errors.ObjectInUse as error:
                raise psycopg2.OperationalError(str(error)) from None  # the one before has not left yet: try again
            _Stream(self, cursor, position).follow(stop, until)
        finally:
            replication.close()

    def _append(self, messages: Sequence[tuple[bytes | None, bytes]], ts_ms: int, position: dict[str, Any]) -> None:
        self._log.append(
            self._topic,
            (Message(key, value, ts_ms) for key, value in messages),
            source_position=json.dumps(position),
        )

    def _now_ms(self) -> int:
        return self._to_business_ms(round(time.time() * 1000))

    def _source(self, table: Table, ts_ms: int, lsn: int, snapshot: str | None = None) -> Source:
        return Source("postgresql", self._domain, self._database, self._schema, table.name, ts_ms, lsn, snapshot)


class _Stream:
    """One connection's stream: groups transactions into appends and acknowledges what is durable."""

    def __init__(self, capture: PostgresCapture, cursor: Any, position: dict[str, Any]) -> None:
        self._capture = capture
        self._cursor = cursor
        self._done_lsn: int = position["lsn"]
        self._done_index: int = position["index"]
        self._catchup: dict[str, Any] | None = position if position["phase"] == "catchup" else None
        self._relations: dict[int, tuple[Table | None, tuple[int, ...]]] = {}
        self._messages: list[tuple[bytes | None, bytes]] = []
        self._bytes = 0
        self._begin: pgoutput.Begin | None = None
        self._ts_ms = 0
        self._index = 0  # messages of the current transaction so far
        self._appended_index = 0
        self._acknowledge = 0

    def follow(self, stop: threading.Event, until: int | None) -> None:
        """Read until stopped, or until everything before `until` is in the log."""
        heard = time.monotonic()
        while not stop.is_set():
            message = self._cursor.read_message()
            if message is not None:
                heard = time.monotonic()
                self._take(message.payload)
                if len(self._messages) >= _CHUNK or self._bytes >= _CHUNK_BYTES:
                    self._flush()
                continue
            self._flush()
            if self._begin is None:
                # Nothing is on its way: the server has sent all that was committed before wal_end.
                self._acknowledge = max(self._acknowledge, self._cursor.wal_end)
                self._cursor.send_feedback(flush_lsn=self._acknowledge)
                self._end_catchup(self._cursor.wal_end)
                if until is not None and max(self._done_lsn, self._cursor.wal_end) >= until:
                    return
            idle = time.monotonic() - heard
            if idle >= self._capture._heartbeat:  # noqa: SLF001 - one idea in two classes of one file
                heard = time.monotonic()
                self._beat()
            select.select([self._cursor], [], [], 0.05 if until is not None else 0.2)
            if until is not None:
                self._cursor.send_feedback(flush_lsn=self._acknowledge, reply=True)

    def _take(self, payload: bytes) -> None:
        message = pgoutput.parse(payload)
        if isinstance(message, pgoutput.Row):
            self._row(message)
        elif isinstance(message, pgoutput.Begin):
            self._begin, self._index, self._appended_index = message, 0, 0
            self._ts_ms = self._capture._to_business_ms(message.ts_ms)  # noqa: SLF001
            self._emit(encode_boundary("BEGIN", str(message.xid), self._ts_ms))
        elif isinstance(message, pgoutput.Commit):
            begin = self._begin
            if begin is None:
                return
            if self._index == 1:  # nothing of ours in it: BEGIN is not worth an entry
                self._drop_begin()
            else:
                self._emit(encode_boundary("END", str(begin.xid), self._ts_ms, self._index - 1))
            self._begin = None
            if begin.lsn >= self._done_lsn:
                self._done_lsn, self._done_index = (
                    begin.lsn,
                    max(self._index, self._done_index if begin.lsn == self._done_lsn else 0),
                )
            self._acknowledge_after = message.end_lsn
            self._committed = message.end_lsn
        elif isinstance(message, pgoutput.Relation):
            self._relation(message)
        elif isinstance(message, pgoutput.Truncated):
            for oid in message.oids:
                table = self._relations.get(oid, (None, ()))[0]
                if table is not None and self._begin is not None:
                    source = self._capture._source(table, self._ts_ms, self._begin.lsn)  # noqa: SLF001
                    self._emit(encode_truncate(source=source, transaction=str(self._begin.xid)))

    _acknowledge_after = 0
    _committed = 0

    def _emit(self, message: tuple[bytes | None, bytes]) -> None:
        """Queue a message of the current transaction, unless an earlier run has appended it."""
        begin = self._begin
        assert begin is not None  # noqa: S101 - messages come between Begin and Commit
        self._index += 1
        if begin.lsn < self._done_lsn or (begin.lsn == self._done_lsn and self._index <= self._done_index):
            return
        self._messages.append(message)
        self._bytes += len(message[1])

    def _drop_begin(self) -> None:
        if self._messages and self._appended_index == 0:
            begin = self._begin
            if begin is not None and (begin.lsn > self._done_lsn or self._done_index == 0):
                self._messages.pop()

    def _row(self, row: pgoutput.Row) -> None:
        table, places = self._relations.get(row.oid, (None, ()))
        begin = self._begin
        if table is None or begin is None:
            return
        source = self._capture._source(table, self._ts_ms, begin.lsn)  # noqa: SLF001
        transaction = str(begin.xid)
        old = None if row.old is None else self._values(row.old, places)
        if row.kind == "D":
            key = self._key(table, old or ())
            self._emit(encode_change(table, "d", key, None, source=source, transaction=transaction))
            return
        new = self._values(row.new or (), places)
        if old is not None and UNAVAILABLE in new:
            new = tuple(o if n is UNAVAILABLE and o is not None else n for n, o in zip(new, old, strict=True))
        key = self._key(table, new)
        op = "c" if row.kind == "I" else "u"
        if old is not None and (before := self._key(table, old)) != key:
            self._emit(encode_change(table, "d", before, None, source=source, transaction=transaction))
            op = "c"
        self._emit(encode_change(table, op, key, new, source=source, transaction=transaction))

    def _values(self, row: tuple[Value, ...], places: tuple[int, ...]) -> tuple[Value, ...]:
        return tuple([row[place] if place >= 0 else None for place in places])

    def _key(self, table: Table, row: tuple[Value, ...]) -> tuple[str, ...]:
        return tuple(str(row[position]) for position in table.key_positions)

    def _relation(self, relation: pgoutput.Relation) -> None:
        capture = self._capture
        table = capture._tables.get(relation.table) if relation.schema == capture._schema else None  # noqa: SLF001
        if table is None:
            self._relations[relation.oid] = (None, ())
            return
        missing = [c.name for c in table.columns if c.name not in relation.columns and not c.optional]
        if missing:
            self._flush()
            raise CaptureStoppedError(
                f"The source's table {table.name} has lost the column {missing[0]} (dropped or renamed).",
                hint="Take it out of source.sql (or make it optional) and run `rowtide rebuild`.",
            )
        places = tuple(relation.columns.index(n) if n in relation.columns else -1 for n in table.names)
        self._relations[relation.oid] = (table, places)

    def _flush(self) -> None:
        """Append what is queued, with the position it leads to; then acknowledge the committed part."""
        if self._messages:
            if self._begin is not None:
                lsn, index = self._begin.lsn, self._index
            else:
                lsn, index = self._done_lsn, self._done_index
            position: dict[str, Any] = {"phase": "stream", "lsn": lsn, "index": index}
            if self._catchup is not None:
                position = {**self._catchup, "lsn": lsn, "index": index}
            self._capture._append(self._messages, self._ts_ms, position)  # noqa: SLF001
            self._messages, self._bytes = [], 0
            self._appended_index = self._index
        if self._acknowledge_after > self._acknowledge:
            self._acknowledge = self._acknowledge_after
            self._cursor.send_feedback(flush_lsn=self._acknowledge)
            self._end_catchup(self._committed)

    def _end_catchup(self, reached: int) -> None:
        """Close the snapshot's unit once the stream has passed all that the resumed reading can have seen."""
        if self._catchup is None or self._begin is not None or reached < self._catchup["until"]:
            return
        now = self._capture._now_ms()  # noqa: SLF001
        end = encode_boundary("END", f"snapshot:{self._catchup['snapshot']}", now)
        position = {"phase": "stream", "lsn": self._done_lsn, "index": self._done_index}
        self._catchup = None
        self._capture._append([end], now, position)  # noqa: SLF001
        log.info("snapshot.completed", source=self._capture._domain)  # noqa: SLF001

    def _beat(self) -> None:
        """Move an idle slot on, and let business time be known."""
        with self._capture._connect() as connection:  # noqa: SLF001
            connection.execute("SELECT pg_logical_emit_message(false, 'rowtide', '')")
        now = self._capture._now_ms()  # noqa: SLF001
        position: dict[str, Any] = {"phase": "stream", "lsn": self._done_lsn, "index": self._done_index}
        if self._catchup is not None:
            position = {**self._catchup, "lsn": self._done_lsn, "index": self._done_index}
        self._capture._append([encode_heartbeat(now)], now, position)  # noqa: SLF001
