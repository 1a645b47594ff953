"""The embedded log: topics in tables of the state database.

Appends are serialised over all topics by one lock, so that the records' ids rise in the order of the commits: who
has read up to an id has missed nothing before it.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import psycopg

from connectors.errors import RowtideError
from connectors.log import (
    UNCHECKED,
    Expected,
    Extent,
    LogTruncatedError,
    Message,
    Record,
    RetentionGapError,
    TopicPartition,
    TopicReplacedError,
    UnknownTopicError,
)
from connectors.log.appending import APPEND_LOCK, LISTENERS_LOCK, OVERHEAD, TO_DISK, Appender, Place
from connectors.log.handover import Handover
from connectors.log.listening import Listener


class EmbeddedLog:
    """The log in the state database `dsn`, whose schema is up to date (`connectors.state.migrate`)."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._writer: psycopg.Connection[tuple[Any, ...]] | None = None
        self._reader: psycopg.Connection[tuple[Any, ...]] | None = None
        self._appender: Appender | None = None
        self._handover = Handover()
        self._listener = Listener(dsn, self._handover)
        self._topics: dict[str, tuple[int, int]] = {}
        self._names: dict[int, str] = {}
        self._places: dict[frozenset[tuple[TopicPartition, int]], int] = {}

    # --- topics ---

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """See `Log`. Raises RowtideError where it exists with another number of partitions."""
        if self._topics.get(topic, (0, 0))[1] == partitions:
            return
        with self._writing, self._connected("_writer").transaction():
            connection = self._connected("_writer")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
            row = connection.execute("SELECT partitions FROM rowtide.log_topic WHERE name = %s", [topic]).fetchone()
            if row is not None:
                if row[0] != partitions:
                    raise RowtideError(
                        f"The topic {topic} exists with {row[0]} partitions, not {partitions}.",
                        hint="Use the number it has, or another topic.",
                    )
                return
            connection.execute(
                "WITH t AS (INSERT INTO rowtide.log_topic (name, partitions) VALUES (%s, %s) RETURNING id, partitions) "
                "INSERT INTO rowtide.log_partition (topic_id, partition) SELECT id, generate_series(0, partitions - 1) FROM t",
                [topic, partitions],
            )

    def topics(self) -> Mapping[str, int]:
        """See `Log`."""
        with self._reading:
            self._load_topics(self._connected("_reader"))
        return {name: partitions for name, (_, partitions) in self._topics.items()}

    def _load_topics(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        found = connection.execute("SELECT name, id, partitions FROM rowtide.log_topic ORDER BY name").fetchall()
        self._topics = {name: (number, partitions) for name, number, partitions in found}
        self._names = {number: name for name, (number, _) in self._topics.items()}

    def _topic(self, connection: psycopg.Connection[tuple[Any, ...]], topic: str) -> tuple[int, int]:
        if topic not in self._topics:
            self._load_topics(connection)
        if topic not in self._topics:
            raise UnknownTopicError(
                f"The log has no topic {topic}.",
                hint="See `rowtide log topics`; capture or `rowtide log append` creates a topic at its first event.",
            )
        return self._topics[topic]

    # --- appending ---

    def append(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        source_position: str | None = None,
        expect: Expected = UNCHECKED,
    ) -> int:
        """See `Log`. The messages are taken as they come: memory does not grow with their number."""
        with self._writing:
            connection = self._connected("_writer")
            if self._appender is None or self._appender.connection is not connection:
                self._appender = Appender(connection, self._handover.put)
            place = Place(topic, *self._topic(connection, topic))
            return self._appender.append(place, messages, source_position, expect)

    def source_position(self, topic: str) -> str | None:
        """See `Log`."""
        with self._reading:
            connection = self._connected("_reader")
            topic_id, _ = self._topic(connection, topic)
            row = connection.execute(
                "SELECT source_position FROM rowtide.log_topic WHERE id = %s", [topic_id]
            ).fetchone()
            connection.execute(TO_DISK)  # a source is told that it need not keep what lies before
        return row[0] if row else None

    # --- reading ---

    def read(
        self, positions: Mapping[TopicPartition, int], *, limit: int, max_bytes: int = 16 * 1024 * 1024
    ) -> Sequence[Record]:
        """See `Log`."""
        if not positions or limit < 1:
            return []
        with self._reading:
            connection = self._connected("_reader")
            known = frozenset(positions.items())
            after = self._places.pop(known, None)
            if after is None:
                after = self._start(connection, positions)
            records: list[Record] = []
            last, size = after, 0
            wanted = {(self._topic(connection, place.topic)[0], place.partition) for place in positions}
            topics = sorted({topic_id for topic_id, _ in wanted})
            following = dict(positions)
            for row in self._rows(connection, after, topics, limit):
                if (row[1], row[2]) not in wanted:
                    last = row[0]
                    continue
                place, offset = TopicPartition(self._names[row[1]], row[2]), row[3]
                if offset > following[place]:  # retention, of this process or another, was faster than the reader
                    if records:
                        break
                    raise _gap(place, following[place], offset)
                last = row[0]
                if offset < following[place]:
                    continue
                records.append(Record(place.topic, place.partition, offset, row[4], row[5], row[6]))
                following[place] = offset + 1
                size += len(row[5] or b"") + len(row[6] or b"")
                if size >= max_bytes or len(records) >= limit:
                    break
            if not records:
                self._start(connection, positions)  # what is not there may have gone
            self._places = {frozenset(following.items()): last}
        return records

    def _rows(
        self, connection: psycopg.Connection[tuple[Any, ...]], after: int, topics: list[int], limit: int
    ) -> Iterator[tuple[Any, ...]]:
        """Records behind an id, by portions: what max_bytes cuts off is not fetched in vain."""
        if appended := self._handover.take(after):
            yield from appended
            return
        portion = min(limit, 1000)
        while True:
            rows = connection.execute(
                'SELECT id, topic_id, partition, "offset", ts_ms, key, value FROM rowtide.log_record '
                "WHERE id > %s AND topic_id = ANY(%s) ORDER BY id LIMIT %s",
                [after, topics, portion],
                prepare=True,
                binary=True,
            ).fetchall()
            yield from rows
            if len(rows) < portion:
                return
            after = rows[-1][0]

    def _start(self, connection: psycopg.Connection[tuple[Any, ...]], positions: Mapping[TopicPartition, int]) -> int:
        """The id behind which all the positions lie; checks that the log still has them."""
        extents = self._extents(connection, {place.topic for place in positions})
        lowest: int | None = None
        for place, offset in positions.items():
            extent = extents.get(place)
            if extent is None:
                raise UnknownTopicError(
                    f"The topic {place.topic} has no partition {place.partition}.",
                    hint="See `rowtide log topics`.",
                )
            if offset < extent.start:
                raise _gap(place, offset, extent.start)
            if offset > extent.end:
                raise LogTruncatedError(
                    f"The position {offset} of {place.topic}/{place.partition} lies behind the end of the log, "
                    f"{extent.end}.",
                    hint="The log was recreated or restored from a backup: run `rowtide init --snapshot`, then start again.",
                )
            row = connection.execute(
                'SELECT id FROM rowtide.log_record WHERE topic_id = %s AND partition = %s AND "offset" = %s',
                [self._topic(connection, place.topic)[0], place.partition, offset],
            ).fetchone()
            if row is not None:
                lowest = row[0] if lowest is None else min(lowest, row[0])
        if lowest is not None:
            return lowest - 1
        row = connection.execute("SELECT coalesce(max(id), 0) FROM rowtide.log_record").fetchone()
        return int(row[0]) if row else 0

    def extents(self, topics: Iterable[str]) -> Mapping[TopicPartition, Extent]:
        """See `Log`."""
        with self._reading:
            return self._extents(self._connected("_reader"), set(topics))

    def _extents(
        self, connection: psycopg.Connection[tuple[Any, ...]], topics: set[str]
    ) -> dict[TopicPartition, Extent]:
        ids = {self._topic(connection, topic)[0]: topic for topic in topics}
        rows = connection.execute(
            "SELECT topic_id, partition, start_offset, next_offset FROM rowtide.log_partition WHERE topic_id = ANY(%s)",
            [list(ids)],
        ).fetchall()
        return {TopicPartition(ids[t], partition): Extent(start, end) for t, partition, start, end in rows}

    def leaves_out(self, topic: str) -> bool:  # noqa: ARG002 - no topic does
        """See `Log`."""
        return False

    def positions_at(self, topics: Iterable[str], ts_ms: int) -> Mapping[TopicPartition, int]:
        """See `Log`. Reads the records' times, not their values."""
        with self._reading:
            connection = self._connected("_reader")
            extents = self._extents(connection, set(topics))
            found: dict[TopicPartition, int] = {}
            for place, extent in extents.items():
                row = connection.execute(
                    'SELECT min("offset") FROM rowtide.log_record WHERE topic_id = %s AND partition = %s AND ts_ms >= %s',
                    [self._topic(connection, place.topic)[0], place.partition, ts_ms],
                ).fetchone()
                found[place] = extent.end if row is None or row[0] is None else row[0]
        return found

    def wait(self, timeout: float) -> bool:
        """See `Log`."""
        writer = self._writer
        return self._listener.wait(timeout, None if writer is None or writer.closed else writer.info.backend_pid)

    # --- identity ---

    def commit_hint(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Log`. Nothing to tell: the positions lie in the same database."""

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """See `Log`."""
        with self._reading:
            connection = self._connected("_reader")
            self._load_topics(connection)
            return {topic: str(self._topic(connection, topic)[0]) for topic in topics}

    def expect(self, ids: Mapping[str, str]) -> None:
        """See `Log`. Rows name a topic by its id, so that a reader never meets another topic's."""
        for topic, present in self.topic_ids(ids).items():
            if present != ids[topic]:
                raise TopicReplacedError(
                    f"The topic {topic} is not the one the stored positions are of: it was created anew.",
                    hint="Run `rowtide init --snapshot`, then start again; or `rowtide rebuild`, if all of the source is in it.",
                )

    # --- retention ---

    def enforce_retention(
        self,
        topic: str,
        *,
        age: timedelta | None,
        size: int | None,
        now_ms: int,
        unread: Mapping[TopicPartition, int] | None = None,
    ) -> int:
        """See `Log`."""
        removed = 0
        with self._writing:
            connection = self._connected("_writer")
            topic_id, partitions = self._topic(connection, topic)
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [APPEND_LOCK])
                for partition in range(partitions):
                    bound = (unread or {}).get(TopicPartition(topic, partition))
                    removed += self._trim(connection, topic_id, partition, age, size, now_ms, partitions, bound)
        with self._reading:
            self._places = {}
        return removed

    def _trim(
        self,
        connection: psycopg.Connection[tuple[Any, ...]],
        topic_id: int,
        partition: int,
        age: timedelta | None,
        size: int | None,
        now_ms: int,
        partitions: int,
        bound: int | None,
    ) -> int:
        place = [topic_id, partition]
        row = connection.execute(
            "SELECT start_offset, next_offset FROM rowtide.log_partition WHERE topic_id = %s AND partition = %s",
            place,
        ).fetchone()
        start, end = row or (0, 0)
        keep_from = start
        if age is not None:
            oldest = now_ms - age // timedelta(milliseconds=1)
            found = connection.execute(
                'SELECT min("offset") FROM rowtide.log_record WHERE topic_id = %s AND partition = %s AND ts_ms >= %s',
                [*place, oldest],
            ).fetchone()
            keep_from = max(keep_from, end if found is None or found[0] is None else found[0])
        if size is not None:
            found = connection.execute(
                'SELECT min("offset") FROM (SELECT "offset", sum(coalesce(length(key), 0) + coalesce(length(value), 0) '
                f'+ {OVERHEAD}) OVER (ORDER BY "offset" DESC) AS total FROM rowtide.log_record '
                "WHERE topic_id = %s AND partition = %s) AS s WHERE total <= %s",
                [*place, size // partitions],
            ).fetchone()
            keep_from = max(keep_from, end if found is None or found[0] is None else found[0])
        if bound is not None:
            keep_from = min(keep_from, bound)
        if keep_from <= start:
            return 0
        gone = connection.execute(
            'WITH gone AS (DELETE FROM rowtide.log_record WHERE topic_id = %s AND partition = %s AND "offset" < %s '
            "RETURNING coalesce(length(key), 0) + coalesce(length(value), 0) AS size) "
            f"SELECT count(*), coalesce(sum(size + {OVERHEAD}), 0) FROM gone",
            [*place, keep_from],
        ).fetchone()
        count, size_gone = gone or (0, 0)
        connection.execute(
            "UPDATE rowtide.log_partition SET start_offset = %s, bytes = bytes - %s WHERE topic_id = %s AND partition = %s",
            [keep_from, size_gone, *place],
        )
        return int(count)

    # --- connections ---

    def _connected(self, role: str) -> psycopg.Connection[tuple[Any, ...]]:
        connection: psycopg.Connection[tuple[Any, ...]] | None = getattr(self, role)
        if connection is None or connection.closed or _has_gone(connection):
            connection = psycopg.connect(self._dsn, autocommit=True)
            connection.execute("SET synchronous_commit = on; SET TimeZone = 'UTC'")
            if role == "_writer":
                connection.execute("SELECT pg_advisory_lock_shared(%s)", [LISTENERS_LOCK])
            setattr(self, role, connection)
            self._places = {}
            self._handover.forget()
        return connection

    def close(self) -> None:
        """See `Log`."""
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()
        self._listener.close()
        self._handover.close()


def _has_gone(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has ended a connection on which nothing is asked: who asks next would be told in its place."""
    server = select.poll()
    server.register(connection.fileno(), select.POLLIN)
    try:
        while server.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        connection.close()
    return connection.closed


def _gap(place: TopicPartition, offset: int, start: int) -> RetentionGapError:
    return RetentionGapError(
        f"The events {offset} to {start - 1} of {place.topic}/{place.partition} are no longer in the log: it begins "
        f"at {start}.",
        hint="What they changed is lost to the log: run `rowtide init --snapshot`, then start again.",
    )
