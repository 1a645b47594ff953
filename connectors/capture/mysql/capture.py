"""Capture from MySQL and MariaDB: a consistent snapshot, then the binlog, without gap or overlap.

With every append goes the position it leads to, in one transaction of the log; a transaction that is sent again
after a crash is continued where the log ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from connectors.capture.mysql.binlog import Binlog, BinlogRefusedError
from connectors.capture.mysql.catalogue import SourceTable, foreign_keys, read_tables
from connectors.capture.mysql.charsets import Charsets
from connectors.capture.mysql.connection import Connection, Server, connect, describe, read_dsn
from connectors.capture.mysql.errors import losing
from connectors.capture.mysql.position import Place, Position
from connectors.capture.mysql.preflight import binlog_status, check, check_table, server_number
from connectors.capture.mysql.refusals import (
    binlog_refused,
    half_a_transaction,
    may_not_replicate,
    number_taken,
    other_server,
)
from connectors.capture.mysql.snapshot import Snapshot
from connectors.capture.mysql.stream import SchemaChange, Stream
from connectors.capture.mysql.writer import Writer
from connectors.capture.running import CaptureStoppedError, Progress, Reporter, SourceUnavailableError, keep_running
from connectors.event import SNAPSHOT, encode_boundary, encode_foreign_keys
from connectors.log import Log, Message
from connectors.table import Table

log = structlog.get_logger()

_TAKEN = 4052  # another replica has our number
_DENIED = frozenset({1045, 1142, 1227})
_GOING = frozenset({1053, 1077, 1317, 1927, 2013, 3169})  # the server, or our thread in it, ends
_REFUSED = 1236


class MySQLCapture:
    """Captures the tables of one MySQL or MariaDB database into one topic.

    Args:
        source_dsn: `mysql://user:password@host:port/database?ssl-ca=…`, for a user with the rights that `grants`
            prints.
        tables: what is captured.
        log: where to; the topic exists.
        name: names the source in the events, and gives the capture its number among the source's replicas.
        heartbeat_seconds: how often business time and the position are told while the source is idle.
        to_business_ms: the business time of a moment of the source, both in ms.
        on_progress: told about the snapshot.
        wait: how a pause between two attempts is made, in seconds; by default a stop ends it.
    """

    def __init__(
        self,
        source_dsn: str,
        tables: Sequence[Table],
        log: Log,
        topic: str,
        *,
        name: str,
        heartbeat_seconds: float = 10,
        to_business_ms: Callable[[int], int] = lambda ms: ms,
        on_progress: Callable[[Progress], None] | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._dsn = read_dsn(source_dsn)
        self._tables = list(tables)
        self._name = name
        self._number = server_number(name)
        self._heartbeat = heartbeat_seconds
        self._writer = Writer(log, topic, name=name, database=self._dsn.database, to_business_ms=to_business_ms)
        self._reporter = Reporter(name, on_progress)
        self._wait = wait
        self._charsets = Charsets()
        self._found: Mapping[str, SourceTable] = {}

    def run(self, stop: threading.Event) -> None:
        """Capture until stopped; reconnects. Raises CaptureStoppedError where a person has to act."""
        keep_running(lambda told: self._once(stop, told, None), stop, source=self._name, wait=self._wait)

    def run_until_now(self, stop: threading.Event) -> None:
        """Capture what was committed in the source before this call, then return."""
        until: list[Place] = []

        def once(told: Callable[[], None]) -> None:
            if not until:
                with losing():
                    connection = connect(self._dsn)
                    try:
                        until.append(binlog_status(connection, describe(connection))[0])
                    finally:
                        connection.close()
            self._once(stop, told, until[0])

        keep_running(once, stop, source=self._name, wait=self._wait)

    def _once(self, stop: threading.Event, connected: Callable[[], None], until: Place | None) -> None:
        with losing():
            connection = connect(self._dsn)
            try:
                server = describe(connection)
                self._writer.serve(server)
                position = self._writer.position()
                self._found = check(
                    connection,
                    server,
                    self._tables,
                    database=self._dsn.database,
                    name=self._name,
                    streaming=position is not None and position.phase not in ("snapshot", "anew"),
                )
                keys = self._foreign_keys(connection, self._found)
            finally:
                connection.close()
            connected()
            if position is not None and position.phase == "anew":
                position = self._begin(server, keys, stop, emptying=True)
                if position is None:
                    return
            if position is not None and position.gtids is None and position.server != server.identity:
                raise other_server()
            while not stop.is_set():
                if position is not None:
                    position = self._caught_up_with_declaration(server, position, keys, stop)
                following = self._step(server, position, keys, stop, until)
                if following is None:
                    return
                position = following

    def _step(
        self,
        server: Server,
        position: Position | None,
        keys: tuple[list[Message], str],
        stop: threading.Event,
        until: Place | None,
    ) -> Position | None:
        """Read tables or follow the stream; returns the position to go on from, None where there is nothing more."""
        if position is None:
            return self._begin(server, keys, stop, emptying=False)
        if position.phase == "snapshot":
            return self._snapshot(server).resume(position, stop)
        try:
            return self._stream(server, position, stop, until, self._tables)
        except BinlogRefusedError as error:
            raise self._refused(error, position) from None

    def _snapshot(self, server: Server) -> Snapshot:
        return Snapshot(self._dsn, server, self._tables, self._found, self._writer, self._reporter)

    def _begin(
        self, server: Server, keys: tuple[list[Message], str], stop: threading.Event, *, emptying: bool
    ) -> Position | None:
        return self._snapshot(server).begin(stop, *keys, emptying=emptying)

    def _caught_up_with_declaration(
        self, server: Server, position: Position, keys: tuple[list[Message], str], stop: threading.Event
    ) -> Position:
        """Take in tables that were declared since, or are wanted anew: their rows are read, beside the stream.

        A transaction that is in the log by half is finished with the tables it was begun with.
        """
        declared = {table.name: table for table in self._tables}
        added = tuple(name for name in declared if name not in position.columns or name in position.wanted)
        removed = [name for name in position.columns if name not in declared]
        if position.partial and (added or removed):
            if removed:
                raise half_a_transaction(removed[0])
            known = [table for table in self._tables if table.name in position.columns]
            self._stream(server, position, stop, Place(position.file, position.offset + 1), known)
            position = self._writer.position() or position
            if position.partial:
                return position  # stopped
        told, mark = keys
        if position.partial or not (added or removed or mark != position.keys):
            return position
        messages = list(told) if mark != position.keys else []
        columns = {name: position.columns[name] for name in position.columns if name in declared}
        columns |= {name: self._found[name].definitions(declared[name]) for name in added}
        following = position.with_(columns=columns, keys=mark)
        if added:
            for name in added:
                check_table(declared[name], self._found, self._dsn.database)
            unit = position.snapshot or f"{SNAPSHOT}{position.gtids or position.file}:{added[0]}"
            if not position.snapshot:
                now = self._writer.now_ms()
                messages.append(Message(*encode_boundary("BEGIN", unit, now), now))
            reading = bool(position.tables) and position.tables[0] not in added
            following = following.with_(
                phase="snapshot",
                snapshot=unit,
                tables=(*(name for name in position.tables if name not in added), *added),
                last=position.last if reading else None,
                rows=position.rows if reading else 0,
                emptying=True,
                wanted=(),
            )
            log.info("snapshot.extended", source=self._name, tables=added)
        self._writer.append(messages, following)
        return following

    def _refused(self, error: BinlogRefusedError, position: Position) -> Exception:
        if error.number == _TAKEN:
            return number_taken(self._number)
        if error.number in _DENIED:
            return may_not_replicate()
        if error.number in _GOING:
            return SourceUnavailableError(f"The source ended the stream (error {error.number}).")
        start = (
            f"{position.file}:{position.offset}"
            if position.gtids is None
            else f"the GTIDs {position.gtids or '(none)'}"
        )
        if error.number == _REFUSED:
            return binlog_refused(error.number, error.text, start)
        return CaptureStoppedError(
            f"The source ended the stream (error {error.number}: {error.text.rstrip('.')}).",
            hint="See the source's error log, then start again.",
        )

    def _stream(
        self, server: Server, position: Position, stop: threading.Event, until: Place | None, tables: Sequence[Table]
    ) -> Position | None:
        heartbeat = self._heartbeat if until is None else min(self._heartbeat, 0.2)
        with Binlog(
            self._dsn,
            server,
            server_id=self._number,
            gtids=position.gtids,
            place=position.place,
            heartbeat_seconds=heartbeat,
        ) as binlog:
            stream = Stream(
                binlog,
                server,
                tables,
                self._found,
                self._writer,
                position,
                self._charsets,
                self._load_charsets,
                lambda at, names: self._schema_changed(server, at, names),
                heartbeat_seconds=self._heartbeat,
            )
            return stream.follow(stop, until)

    def _load_charsets(self, numbers: set[int]) -> None:
        if self._charsets.knows(numbers):
            return
        connection = connect(self._dsn)
        try:
            self._charsets.load(connection, numbers)
        finally:
            connection.close()

    def _foreign_keys(self, connection: Connection, found: Mapping[str, SourceTable]) -> tuple[list[Message], str]:
        """The message that tells the foreign keys, and its mark."""
        keys = foreign_keys(connection, self._dsn.database, self._tables, found)
        now = self._writer.now_ms()
        message = Message(*encode_foreign_keys(keys, ts_ms=now, database=self._dsn.database), now)
        return [message], msgspec.json.encode(keys).decode()

    def _schema_changed(self, server: Server, position: Position, names: list[str]) -> SchemaChange:
        """Look at captured tables whose definition has changed."""
        connection = connect(self._dsn)
        try:
            found = read_tables(connection, self._dsn.database, self._tables, folds_names=server.folds_names)
            for table in self._tables:
                check_table(table, found, self._dsn.database)
            messages, keys = self._foreign_keys(connection, found)
        finally:
            connection.close()
        self._found = found
        reread = tuple(
            table.name
            for table in self._tables
            if table.name in names and _differs(position.columns.get(table.name, {}), found[table.name], table)
        )
        definitions = {table.name: found[table.name].definitions(table) for table in self._tables}
        changes: dict[str, object] = {}
        if definitions != position.columns:
            changes["columns"] = definitions
        if keys != position.keys:
            changes["keys"] = keys
        return SchemaChange(found, messages if keys != position.keys else (), changes, reread)


def _differs(before: Mapping[str, str], now: SourceTable, table: Table) -> bool:
    """Whether rows may have other values than before: a type changed, or a column came with values in it."""
    for name, definition in now.definitions(table).items():
        if name not in before:
            if not now.columns[name].empty:
                return True
        elif before[name] != definition:
            return True
    return False
