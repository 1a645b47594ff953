"""Capture from PostgreSQL: a consistent snapshot, then logical replication, without gap or overlap.

The replication slot is made first and exports the snapshot that the tables are read at: what the snapshot does not
show, the slot sends. With every append goes the position it leads to, in one transaction of the log; a transaction
that is sent again after a crash is continued where the log ends. The source hears that a transaction is done only
when it is durable in the log.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import psycopg
import structlog
from psycopg import sql

from connectors.capture.postgres.connection import Connection, connect, conninfo, losing
from connectors.capture.postgres.position import Position
from connectors.capture.postgres.preflight import Found, check, object_name
from connectors.capture.postgres.replication import Replication, format_lsn
from connectors.capture.postgres.rows import Rows
from connectors.capture.postgres.slot import Slot
from connectors.capture.postgres.snapshot import fetch, read_tables
from connectors.capture.postgres.stream import Stream
from connectors.capture.postgres.writer import Writer, moved
from connectors.capture.running import (
    CaptureStoppedError,
    Progress,
    Reporter,
    SourceUnavailableError,
    keep_running,
)
from connectors.event import SNAPSHOT, encode_boundary, encode_heartbeat
from connectors.failpoints import failpoint
from connectors.log import Log
from connectors.table import Table

log = structlog.get_logger()

_GIB = 1 << 30
_LONG_WAIT = 5.0  # seconds of waiting for the source's open transactions before an operator is told
_LOOK_AGAIN = 0.1


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
        slot_patience_seconds: how long another's use of the slot is waited out; a source lets go of a connection
            that was cut after its `wal_sender_timeout`, a minute unless set.
        retained_bytes: more WAL than this kept in the source for us is warned of.
        wait: how a pause before the next attempt is made, in seconds; by default a stop ends it.
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
        slot_patience_seconds: float = 90,
        retained_bytes: int = _GIB,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        application = f"rowtide {secrets.token_hex(8)}"
        self._info = conninfo(source_dsn, application=application)
        self._replication_info = conninfo(source_dsn, application=application, replication=True)
        self._tables = list(tables)
        self._log = log
        self._topic = topic
        self._name = name
        self._schema = schema
        self._heartbeat = heartbeat_seconds
        self._to_business_ms = to_business_ms
        self._on_progress = on_progress
        self._slot = Slot(object_name(name), application, patience=slot_patience_seconds, retained_bytes=retained_bytes)
        self._wait = wait

    def run(self, stop: threading.Event) -> None:
        """Capture until stopped; reconnects. Raises CaptureStoppedError where a person has to act."""
        keep_running(
            lambda connected: self._once(stop, connected, to_the_end=False),
            stop,
            source=self._name,
            wait=self._wait,
        )

    def run_until_now(self, stop: threading.Event) -> None:
        """Capture what was committed in the source before this call, then return. Raises as `run` does."""
        keep_running(
            lambda connected: self._once(stop, connected, to_the_end=True),
            stop,
            source=self._name,
            wait=self._wait,
        )

    # --- one connection's life ---

    def _once(self, stop: threading.Event, connected: Callable[[], None], *, to_the_end: bool) -> None:
        with connect(self._info) as connection, losing():
            self._writable(connection)
            found = check(connection, self._tables, schema=self._schema, name=self._name)
            writer = self._writer(connection)
            until = _mark(connection)[0] if to_the_end else None
            position = writer.position()
            anew = position is not None and position.phase == "anew"
            if position is not None and not anew:
                self._slot.check(connection, position)
            connected()
            reporter = Reporter(self._name, self._on_progress)
            if position is None or anew:
                position = self._snapshot(connection, found, writer, reporter, stop, emptying=anew)
            else:
                position = self._caught_up_with_declaration(connection, found, writer, position, reporter, stop)
                if position is not None and position.phase == "snapshot":
                    position = self._resumed(connection, found, writer, position, reporter, stop)
            if position is not None and not stop.is_set():
                self._stream(connection, found, writer, position, stop, until, self._tables)

    def _writable(self, connection: Connection) -> None:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        if row is not None and row[0]:
            raise SourceUnavailableError("The source is a standby, which cannot be captured until it is the primary.")

    def _writer(self, connection: Connection) -> Writer:
        return Writer(
            self._log,
            self._topic,
            name=self._name,
            database=connection.info.dbname,
            schema=self._schema,
            to_business_ms=self._to_business_ms,
        )

    # --- tables that come ---

    def _caught_up_with_declaration(
        self,
        connection: Connection,
        found: Found,
        writer: Writer,
        position: Position,
        reporter: Reporter,
        stop: threading.Event,
    ) -> Position | None:
        """Have tables read, beside the stream, that the log has nothing of, has missed changes of, or that are wanted.

        They were declared later, or were out of the publication for a while, or made anew. What was published until
        now is taken in first: of a table that was out, that is old, and what has undone it since is not to be had.
        Returns None where stopped.
        """
        marks = dict(found.publication.marks)
        lacking = _lacking(position, marks)
        removed = [name for name in position.marks if name not in marks]
        if removed and position.partial and position.phase == "stream":
            raise CaptureStoppedError(
                f"The table {removed[0]} is no longer in source.sql, and half of a large transaction is in the log.",
                hint=f"Put {removed[0]} back until capture has gone on for a while, then take it out.",
            )
        if lacking:
            if not self._settled(connection, stop):
                return None
            until = _mark(connection)[0]
            known = [table for table in self._tables if table.name in position.marks]
            following: Position | None = position
            if position.phase == "snapshot":
                following = self._resumed(connection, found, writer, position, reporter, stop)
            if following is not None:
                self._stream(connection, found, writer, following, stop, until, known)
                following = writer.position()
            if stop.is_set() or following is None:
                return None
            position = following
        elif removed:
            position = moved(position, marks=marks)
            writer.append([], writer.now_ms(), position)
        if not lacking:
            return position
        now, unit = writer.now_ms(), position.reached
        position = moved(
            position, phase="snapshot", marks=marks, tables=lacking, emptying=True, wanted=(), snapshot=unit
        )
        writer.append([encode_boundary("BEGIN", f"{SNAPSHOT}{unit}", now)], now, position)
        log.info("snapshot.extended", source=self._name, tables=lacking)
        return position

    def _settled(self, connection: Connection, stop: threading.Event) -> bool:
        """Wait for transactions begun before the publication had all tables: what they changed may not be sent.

        What is read once they have ended shows it.
        """
        began, told = time.monotonic(), False
        until = _number(connection, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        while _number(connection, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint") < until:
            if not told and time.monotonic() - began > _LONG_WAIT:
                told = True
                log.warning("snapshot.waits_for_transactions", source=self._name, reason="transactions are open there")
            if stop.wait(_LOOK_AGAIN):
                return False
        return True

    # --- snapshot ---

    def _snapshot(
        self,
        connection: Connection,
        found: Found,
        writer: Writer,
        reporter: Reporter,
        stop: threading.Event,
        *,
        emptying: bool,
    ) -> Position | None:
        """Make the slot, read the tables at the snapshot it exports. Returns the position to stream from.

        `emptying`: the log may have rows of an earlier snapshot, which are taken back within this one's unit.
        """
        self._slot.clear(connection)
        with Replication(self._replication_info) as replication:
            created = self._create_slot(replication, stop)
            if created is None:
                return None
            lsn = created[0]
            failpoint("slot_created")
            now = writer.now_ms()
            marks = dict(found.publication.marks)
            position = Position(
                "snapshot",
                lsn,
                reached=lsn,
                marks=marks,
                tables=tuple(table.name for table in self._tables),
                emptying=emptying,
                snapshot=lsn,
            )
            writer.append([encode_boundary("BEGIN", f"{SNAPSHOT}{lsn}", now)], now, position)
            log.info("snapshot.started", source=self._name, lsn=format_lsn(lsn))
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(created[1])))
                if not read_tables(connection, self._tables, found, writer, position, reporter, stop):
                    return None
        failpoint("snapshot_read")
        position = Position("stream", lsn, reached=lsn, marks=marks)
        writer.append([encode_boundary("END", f"{SNAPSHOT}{lsn}", now)], now, position)
        log.info("snapshot.completed", source=self._name)
        return position

    def _create_slot(self, replication: Replication, stop: threading.Event) -> tuple[int, str] | None:
        told = time.monotonic()

        def go_on() -> bool:
            nonlocal told
            if time.monotonic() - told > _LONG_WAIT:
                told = float("inf")
                log.warning("snapshot.waits_for_transactions", source=self._name, reason="transactions are open there")
            return not stop.is_set()

        try:
            return replication.create_slot(self._slot.name, go_on)
        except psycopg.errors.DuplicateObject:
            raise SourceUnavailableError(f"The replication slot {self._slot.name} is still in use.") from None
        except psycopg.errors.ConfigurationLimitExceeded:
            raise self._slot.limited() from None

    def _resumed(
        self,
        connection: Connection,
        found: Found,
        writer: Writer,
        position: Position,
        reporter: Reporter,
        stop: threading.Event,
    ) -> Position | None:
        """Go on with a snapshot whose exported view is gone.

        What is read now may be newer than the slot's start. The stream from there then brings every change once
        more, older ones included, so that a row may go back for a while; but behind the last change that the
        reading can have seen, each row is as the source has it. So the unit stays open until the stream has passed
        that point, and nobody sees what lies before.
        """
        table = position.tables[0] if position.tables else None
        log.info("snapshot.resumed", source=self._name, table=table, rows=position.rows)
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            if not read_tables(connection, self._tables, found, writer, position, reporter, stop):
                return None
        until, source_ms = _mark(connection)
        now = self._to_business_ms(source_ms)
        following = moved(position, phase="catchup", tables=(), last=None, rows=0, emptying=False, until=until)
        writer.append([encode_heartbeat(now)], now, following)
        failpoint("snapshot_read")
        return following

    # --- stream ---

    def _stream(
        self,
        connection: Connection,
        found: Found,
        writer: Writer,
        position: Position,
        stop: threading.Event,
        until: int | None,
        tables: Sequence[Table],
    ) -> None:
        def watch() -> None:
            now = check(connection, self._tables, schema=self._schema, name=self._name)
            for name, mark in now.publication.marks.items():
                if found.publication.marks[name] != mark:
                    raise SourceUnavailableError(
                        f"The table {name} was out of the publication {object_name(self._name)} for a while, or was made "
                        "anew: it is read again."
                    )
            self._slot.watch(connection)

        rows = Rows(tables, writer, lambda table, key: fetch(connection, table, found, self._schema, key))
        with Replication(self._replication_info) as replication:
            stream = Stream(
                replication,
                writer,
                rows,
                position,
                beat=lambda: _mark(connection),
                watch=watch,
                heartbeat=self._heartbeat,
            )
            try:
                replication.start(self._slot.name, position.lsn, object_name(self._name))
                stream.follow(stop, until)
            except psycopg.errors.ObjectInUse:
                raise SourceUnavailableError(f"The replication slot {self._slot.name} is still in use.") from None
            except psycopg.errors.ObjectNotInPrerequisiteState:
                raise self._slot.lost() from None
            except psycopg.errors.UndefinedObject:
                self._slot.check(connection, position)  # tells if it is the slot
                raise CaptureStoppedError(
                    f"The publication {object_name(self._name)} is gone from the source.",
                    hint="Changes since then are lost to the log. Run `rowtide init --snapshot`, then start again.",
                ) from None


def _lacking(position: Position, marks: Mapping[str, int]) -> tuple[str, ...]:
    """The tables that are to be read: those the log has not, or not all changes of, and those that are wanted."""
    return tuple(name for name, mark in marks.items() if position.marks.get(name) != mark or name in position.wanted)


def _number(connection: Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    if row is None:
        raise psycopg.OperationalError("the source did not answer")
    return int(row[0])


def _mark(connection: Connection) -> tuple[int, int]:
    """Write a mark into the source's WAL: its place, behind all that is committed now, and the source's time in ms.

    It is transactional so that it is flushed at once and the source's stream passes it.
    """
    row = connection.execute(
        "SELECT pg_logical_emit_message(true, 'rowtide', '') - '0/0', (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    ).fetchone()
    if row is None:
        raise psycopg.OperationalError("the source did not answer")
    return int(row[0]), int(row[1])
