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
from collections.abc import Callable, Sequence

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
from connectors.event import encode_boundary, encode_heartbeat
from connectors.failpoints import failpoint
from connectors.log import Log
from connectors.table import Table

log = structlog.get_logger()

_GIB = 1 << 30


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
            if position is not None:
                self._covered(position, found)
                self._slot.check(connection, position)
            connected()
            reporter = Reporter(self._name, self._on_progress)
            if position is None:
                position = self._snapshot(connection, found, writer, reporter, stop)
            elif position.phase == "snapshot":
                position = self._resumed(connection, found, writer, position, reporter, stop)
            if position is not None and not stop.is_set():
                self._stream(connection, found, writer, position, stop, until)

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

    def _covered(self, position: Position, found: Found) -> None:
        """What was out of the publication for a while has changes that nobody has seen, or no snapshot."""
        for table, mark in found.publication.marks.items():
            known = position.marks.get(table)
            if position.marks and known is None:
                raise CaptureStoppedError(
                    f"The table {table} is new in source.sql: the log has none of the rows that it had before.",
                    hint="Take a new snapshot into a new topic.",
                )
            if known is not None and known != mark:
                raise CaptureStoppedError(
                    f"The table {table} was out of the publication {object_name(self._name)} for a while, or was made "
                    "anew: changes of it were never published.",
                    hint="Take a new snapshot into a new topic.",
                )

    # --- snapshot ---

    def _snapshot(
        self, connection: Connection, found: Found, writer: Writer, reporter: Reporter, stop: threading.Event
    ) -> Position | None:
        """Make the slot, read the tables at the snapshot it exports. Returns the position to stream from."""
        self._slot.clear(connection)
        with Replication(self._replication_info) as replication:
            created = self._create_slot(replication, stop)
            if created is None:
                return None
            lsn = created[0]
            failpoint("slot_created")
            now = writer.now_ms()
            marks = dict(found.publication.marks)
            position = Position("snapshot", lsn, reached=lsn, marks=marks, snapshot=lsn)
            writer.append([encode_boundary("BEGIN", f"snapshot:{lsn}", now)], now, position)
            log.info("snapshot.started", source=self._name, lsn=format_lsn(lsn))
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(created[1])))
                if not read_tables(connection, self._tables, found, writer, position, reporter, stop):
                    return None
        failpoint("snapshot_read")
        position = Position("stream", lsn, reached=lsn, marks=marks)
        writer.append([encode_boundary("END", f"snapshot:{lsn}", now)], now, position)
        log.info("snapshot.completed", source=self._name)
        return position

    def _create_slot(self, replication: Replication, stop: threading.Event) -> tuple[int, str] | None:
        told = time.monotonic()

        def go_on() -> bool:
            nonlocal told
            if time.monotonic() - told > 5:
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
        log.info("snapshot.resumed", source=self._name, table=position.table, rows=position.rows)
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            if not read_tables(connection, self._tables, found, writer, position, reporter, stop):
                return None
        until, source_ms = _mark(connection)
        now = self._to_business_ms(source_ms)
        following = moved(position, phase="catchup", table=None, last=None, rows=0, until=until)
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
    ) -> None:
        def watch() -> None:
            now = check(connection, self._tables, schema=self._schema, name=self._name)
            self._covered(moved(position, marks=dict(found.publication.marks)), now)
            self._slot.watch(connection)

        rows = Rows(self._tables, writer, lambda table, key: fetch(connection, table, found, self._schema, key))
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
                    hint="Changes since then are lost to the log: take a new snapshot into a new topic.",
                ) from None


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
