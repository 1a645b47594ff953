"""The stream of changes: groups transactions into appends and tells the source what is durable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from connectors.capture.postgres import pgoutput
from connectors.capture.postgres.position import Position
from connectors.capture.postgres.replication import Replication
from connectors.capture.postgres.rows import Rows
from connectors.capture.postgres.writer import CHUNK, CHUNK_BYTES, Encoded, Writer, moved
from connectors.capture.running import CaptureStoppedError
from connectors.event import SNAPSHOT, encode_boundary, encode_heartbeat, encode_truncate
from connectors.failpoints import failpoint

log = structlog.get_logger()

_POLL_SECONDS = 0.2


class Stream:
    """One connection's stream, from a position on.

    Args:
        beat: writes a mark into the source's WAL; returns its place and the source's time in ms.
        watch: looks whether the source still publishes what it should; called when nothing is on its way.
        heartbeat: after how many idle seconds both happen.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        replication: Replication,
        writer: Writer,
        rows: Rows,
        position: Position,
        *,
        beat: Callable[[], tuple[int, int]],
        watch: Callable[[], None],
        heartbeat: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replication = replication
        self._writer = writer
        self._rows = rows
        self._position = position
        self._beat = beat
        self._watch = watch
        self._heartbeat = heartbeat
        self._clock = clock
        self._messages: list[Encoded] = []
        self._bytes = 0
        self._begin: pgoutput.Begin | None = None
        self._transaction = ""
        self._ts_ms = 0
        self._index = 0  # messages of the current transaction so far
        # What the position will be once the queue is appended.
        self._lsn, self._done, self._reached = position.lsn, position.index, position.reached
        self._mark: tuple[int, int] | None = None
        self._stopping: CaptureStoppedError | None = None
        self._take: Mapping[type, Callable[..., None]] = {
            pgoutput.Row: self._row,
            pgoutput.Begin: self._started,
            pgoutput.Commit: self._committed,
            pgoutput.Relation: self._relation,
            pgoutput.Truncated: self._truncated,
        }

    def follow(self, stop: threading.Event, until: int | None = None) -> None:
        """Read until stopped, or until everything that was committed before `until` is in the log."""
        heard = self._clock()
        while not stop.is_set():
            data = self._replication.read()
            if data is not None:
                message = pgoutput.parse(data)
                if message is not None:
                    self._take[type(message)](message)
                if len(self._messages) >= CHUNK or self._bytes >= CHUNK_BYTES:
                    self._flush()
                    heard = self._clock()
                if not self._awaited(until):
                    continue
            if self._messages:
                self._flush()
                heard = self._clock()
            if self._begin is None:
                self._idle()
                if until is not None and self._replication.reached >= until and self._position.phase == "stream":
                    self._arrived()
                    return
                if self._clock() - heard >= self._heartbeat:
                    heard = self._clock()
                    self._look()
            if until is not None:
                self._replication.confirm(self._position.reached, ask=True)
            self._replication.wait(_POLL_SECONDS)

    def _awaited(self, until: int | None) -> bool:
        """Whether a place has been reached that something waits for, though the source may have more to send."""
        if self._begin is not None:
            return False
        return (until is not None and self._reached >= until) or (
            self._position.phase == "catchup" and self._reached >= self._position.until
        )

    def _look(self) -> None:
        """Look after the source; where it says stop, what was committed until now is still taken."""
        try:
            self._watch()
        except CaptureStoppedError as error:
            self._stopping = error
        self._mark = self._beat()

    # --- messages ---

    def _started(self, begin: pgoutput.Begin) -> None:
        self._begin, self._index, self._transaction = begin, 0, str(begin.xid)
        self._ts_ms = self._writer.to_business_ms(begin.ts_ms)
        self._rows.began(begin.lsn, self._ts_ms, self._transaction)

    def _committed(self, commit: pgoutput.Commit) -> None:
        begin = self._begin
        if begin is None:
            return
        if self._index:
            self._emit(encode_boundary("END", self._transaction, self._ts_ms, self._index - 1))
            if begin.lsn >= self._lsn:
                self._done = self._index
                self._lsn = begin.lsn
        self._begin = None
        self._reached = max(self._reached, commit.end_lsn)

    def _relation(self, relation: pgoutput.Relation) -> None:
        try:
            self._rows.described(relation)
        except CaptureStoppedError:
            self._flush()  # what was committed before stays ours
            raise

    def _row(self, row: pgoutput.Row) -> None:
        for message in self._rows.encode(row):
            self._emit(message)

    def _truncated(self, truncated: pgoutput.Truncated) -> None:
        for source in self._rows.sources(truncated.oids):
            self._emit(encode_truncate(source=source, transaction=self._transaction))

    def _emit(self, message: Encoded) -> None:
        """Queue a message of the current transaction, unless an earlier run has appended it."""
        if self._index == 0:
            self._queue(encode_boundary("BEGIN", self._transaction, self._ts_ms))
        self._queue(message)

    def _queue(self, message: Encoded) -> None:
        begin = self._begin
        assert begin is not None  # noqa: S101 - messages come between Begin and Commit
        self._index += 1
        if begin.lsn < self._lsn or (begin.lsn == self._lsn and self._index <= self._done):
            return
        self._messages.append(message)
        self._bytes += len(message[1])

    # --- positions ---

    def _flush(self) -> None:
        """Append what is queued, with the position it leads to; then tell the source."""
        if not self._messages:
            return
        if self._begin is not None and self._index:
            self._store(self._messages, self._ts_ms, self._begin.lsn, self._index, partial=True)
            failpoint("piece")
        else:
            self._store(self._messages, self._ts_ms, self._lsn, self._done)
        self._messages, self._bytes = [], 0
        self._replication.confirm(self._position.reached)
        failpoint("confirmed")

    def _store(self, messages: list[Encoded], ts_ms: int, lsn: int, index: int, *, partial: bool = False) -> None:
        reached = max(self._position.reached, self._reached)
        position = moved(self._position, lsn=lsn, index=index, partial=partial, reached=reached)
        self._writer.append(messages, ts_ms, position)
        self._position = position

    def _idle(self) -> None:
        """Nothing is on its way: what the source has sent is in the log."""
        reached = self._replication.reached
        if self._mark is not None and reached >= self._mark[0]:
            ts_ms = self._writer.to_business_ms(self._mark[1])
            self._mark = None
            self._reached = max(self._reached, reached)
            self._store([encode_heartbeat(ts_ms)], ts_ms, self._lsn, self._done)
            self._replication.confirm(self._position.reached)
            if self._stopping is not None:
                raise self._stopping
        if self._position.phase == "catchup" and reached >= self._position.until:
            self._caught_up()

    def _caught_up(self) -> None:
        """Close the snapshot's unit: the stream has passed all that the resumed reading can have seen."""
        now = self._writer.now_ms()
        end = encode_boundary("END", f"{SNAPSHOT}{self._position.snapshot}", now)
        position = moved(self._position, phase="stream", snapshot=0, until=0)
        self._writer.append([end], now, position)
        self._position = position
        log.info("snapshot.completed", source=self._writer.name)

    def _arrived(self) -> None:
        """The source need not keep what lies before the place that was asked for."""
        self._reached = max(self._reached, self._replication.reached)
        self._store([], self._ts_ms or self._writer.now_ms(), self._lsn, self._done)
        self._replication.confirm(self._position.reached)
