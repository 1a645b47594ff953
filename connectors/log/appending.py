"""Appending to the embedded log: whole or not at all, and with the position in the source that it leads to.

An append can be read before it is on disk, for its readers' state is in the same database: after a crash of the machine
that has no more than the log. Whoever is told that it has been appended may rely on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby, islice
from operator import attrgetter
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus

from connectors.errors import RowtideError
from connectors.log import UNCHECKED, Expected, FencedError, Message
from connectors.log.handover import Row
from connectors.pipe import Pipe, Rows

APPEND_LOCK = 0x6C6F67
CHANNEL = "rowtide_log"
# Held by each process that listens to the channel. Who appends tells the others, if there are any: a notification costs
# a fifth of a small append, and its own process knows already.
LISTENERS_LOCK = 0x6C6F68
OVERHEAD = 64  # bytes of a record besides key and value, for the accounting of sizes
_INSERT = """
WITH place AS (UPDATE rowtide.log_partition SET next_offset = next_offset + $3, bytes = bytes + $4
     WHERE topic_id = $1 AND partition = $2 RETURNING next_offset - $3 AS first)
INSERT INTO rowtide.log_record (id, topic_id, partition, "offset", ts_ms, key, value)
SELECT nextval('rowtide.log_record_id'), $1, $2, first + n - 1, ts_ms, key, value
  FROM place, unnest($5::bigint[], $6::bytea[], $7::bytea[]) WITH ORDINALITY AS m(ts_ms, key, value, n)
RETURNING id, "offset"
"""
_COPY = 'COPY rowtide.log_record (id, topic_id, partition, "offset", ts_ms, key, value) FROM STDIN'
_OFFSETS = "SELECT partition, next_offset FROM rowtide.log_partition WHERE topic_id = $1"
_LAST_NUMBER = (
    "SELECT greatest((SELECT max(id) FROM rowtide.log_record), (SELECT last_value FROM rowtide.log_record_id))"
)
_GROW = "UPDATE rowtide.log_partition SET next_offset = $1, bytes = bytes + $2 WHERE topic_id = $3 AND partition = $4"
_EXPECT = "SELECT 1 / (source_position IS NOT DISTINCT FROM $2)::integer FROM rowtide.log_topic WHERE id = $1"
_STORE_POSITION = "UPDATE rowtide.log_topic SET source_position = $1 WHERE id = $2"
_TELL = f"SELECT pg_notify('{CHANNEL}', '') WHERE NOT pg_try_advisory_xact_lock($1)"
# Of the transaction that appends: until its end, in the order of the commits, and nobody waits for the disk.
_LOCK = "SELECT pg_advisory_xact_lock($1), set_config('synchronous_commit', 'off', true)"
# All that has been committed before is on disk with it: a transaction of its own, which writes that it was here.
TO_DISK = "SELECT pg_logical_emit_message(true, 'rowtide', '')"
_FEW = 200  # messages that go with the other statements, in one round trip; more go by COPY
_CHUNK = 5000
_COPIED_NULL = "\\N"


class Place(NamedTuple):
    """Where to append: a topic with its number and how many partitions it has."""

    topic: str
    id: int
    partitions: int


class Appender:
    """Appends by one connection, in autocommit, which holds the listeners' lock for its process. Not thread-safe.

    Args:
        tell: is called when something can be read that could not before, with the rows where they are a few, else with
            none.
    """

    def __init__(self, connection: psycopg.Connection[Any], tell: Callable[[Sequence[Row]], object]) -> None:
        self.connection = connection
        self._tell = tell
        self._appended: list[Row] = []
        self._pipe = Pipe(connection)

    def append(self, place: Place, messages: Iterable[Message], source_position: str | None, expect: Expected) -> int:
        """See `Log`. One transaction."""
        self._appended = []
        try:
            return self._append(place, messages, source_position, expect)
        except BaseException:
            self._tell(())  # it may have been done all the same
            raise
        finally:
            self._pipe.forget()
            # Statements are sent together, so a failure may leave a transaction open.
            if not self.connection.closed and self.connection.info.transaction_status != TransactionStatus.IDLE:
                self.connection.rollback()

    def _append(self, place: Place, messages: Iterable[Message], source_position: str | None, expect: Expected) -> int:
        pipe = self._pipe
        pipe.later("BEGIN", prepare=False)
        pipe.later(_LOCK, [APPEND_LOCK])
        if expect is not UNCHECKED:

            def fenced(error: psycopg.Error) -> Exception:
                return FencedError.of(place.topic) if isinstance(error, psycopg.errors.DivisionByZero) else error

            pipe.later(_EXPECT, [place.id, expect], failed=fenced)
        pending = iter(messages)
        chunk = list(islice(pending, _FEW + 1))
        if len(chunk) > _FEW:
            count = self._copy(place, chain(chunk, pending))
        else:
            count = len(chunk)
            self._insert(place, chunk)
        if source_position is not None:
            pipe.later(_STORE_POSITION, [source_position, place.id])
        pipe.later(_TELL, [LISTENERS_LOCK])
        pipe.later("COMMIT", (), lambda _: self._tell(self._appended), prepare=False)
        pipe.later(TO_DISK, apart=True)
        pipe.flush()
        return count

    def _insert(self, place: Place, messages: Sequence[Message]) -> None:
        """Append a few; the server numbers them, so that nothing is asked before."""
        for partition, run in groupby(messages, attrgetter("partition")):
            few = list(run)
            _check(place, partition)
            times = "{" + ",".join([str(message.ts_ms) for message in few]) + "}"
            keys, values = _array([message.key for message in few]), _array([message.value for message in few])
            parameters = [place.id, partition, len(few), sum(map(_size, few)), times, keys, values]
            self._pipe.later(_INSERT, parameters, partial(self._inserted, place.id, few))

    def _inserted(self, topic_id: int, messages: Sequence[Message], answer: Rows) -> None:
        self._appended += [
            (number, topic_id, message.partition, offset, message.ts_ms, message.key, message.value)
            for message, (number, offset) in zip(messages, answer, strict=True)
        ]

    def _copy(self, place: Place, messages: Iterator[Message]) -> int:
        """Append any number, numbered here. Returns how many."""
        pipe = self._pipe
        offsets: dict[int, int] = dict(pipe.now(_OFFSETS, [place.id]))
        before, sizes = dict(offsets), dict.fromkeys(offsets, 0)
        first, count = pipe.now(_LAST_NUMBER)[0][0], 0
        with self.connection.cursor().copy(_COPY) as copy:
            while chunk := list(islice(messages, _CHUNK)):
                lines = []
                for message in chunk:
                    partition = message.partition
                    _check(place, partition)
                    count += 1
                    lines.append(_line(first + count, place.id, offsets[partition], message))
                    offsets[partition] += 1
                    sizes[partition] += _size(message)
                copy.write("".join(lines))
        pipe.later("SELECT setval('rowtide.log_record_id', $1)", [first + count])
        for partition, offset in offsets.items():
            if offset != before[partition]:
                pipe.later(_GROW, [offset, sizes[partition], place.id, partition])
        return count


def _check(place: Place, partition: int) -> None:
    if not 0 <= partition < place.partitions:
        raise RowtideError(f"The topic {place.topic} has no partition {partition}.", hint=f"It has {place.partitions}.")


def _size(message: Message) -> int:
    return len(message.key or b"") + len(message.value or b"") + OVERHEAD


def _line(number: int, topic_id: int, offset: int, message: Message) -> str:
    """A row as COPY takes it."""
    key, value, ts_ms, partition = message
    return f"{number}\t{topic_id}\t{partition}\t{offset}\t{ts_ms}\t{_hex(key, _COPIED_NULL)}\t{_hex(value, _COPIED_NULL)}\n"


def _array(values: Sequence[bytes | None]) -> str:
    """Values as the text of a bytea[]: psycopg takes thirty times as long for a list."""
    return "{" + ",".join([_hex(value, "NULL") for value in values]) + "}"


def _hex(value: bytes | None, null: str) -> str:
    """A bytea with its backslash escaped, as COPY and arrays want it."""
    return null if value is None else "\\\\x" + value.hex()
