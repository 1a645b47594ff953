"""Reading: one consumer per set of partitions, assigned to the caller's positions."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as Place

from connectors.errors import RowtideError
from connectors.log import LogTruncatedError, Record, RetentionGapError, TopicPartition, UnknownTopicError
from connectors.log.kafka.cluster import Cluster
from connectors.log.kafka.contact import Contact, transient

_PORTION = 1000
_SLICE = 0.1  # seconds: how soon a waiting reader notices that the log is closed
_PREFETCH_KB = 32 * 1024
_LONG_POLL_MS = 100  # going to another position waits for the fetch that is under way
_OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION}  # noqa: SLF001
_END = KafkaError._PARTITION_EOF  # noqa: SLF001


class Session:
    """One reader's consumer: it fetches ahead within bounds while the caller works.

    What the client library holds ready is bounded in bytes; it stops fetching until some is taken.
    """

    def __init__(self, contact: Contact, cluster: Cluster, group: str) -> None:
        self._contact = contact
        self._cluster = cluster
        self._lock = threading.Lock()
        self._group = group
        self._consumer: Consumer | None = None
        self._handed: dict[TopicPartition, int] | None = None  # where the caller is, if it goes on from here
        self._fetched: dict[TopicPartition, int] = {}  # where the consumer is
        self._ready: deque[Record] = deque()
        self._failure: RowtideError | None = None

    def read(self, positions: Mapping[TopicPartition, int], limit: int, max_bytes: int) -> Sequence[Record]:
        """See `Log`."""
        with self._lock:
            if self._failure is not None and not self._ready:
                failure, self._failure, self._handed = self._failure, None, None
                raise failure
            if dict(positions) != self._handed:
                self._seek(dict(positions))
            self._fill(limit, max_bytes)
            if not self._ready and self._failure is None:
                self._await_records()
                self._fill(limit, max_bytes)
            # Asked after fetching: what was fetched is of the topics that are still there under their ids.
            self._cluster.check({place.topic for place in positions}, now=bool(self._ready))
            return self._take(limit, max_bytes)

    def wait(self, timeout: float) -> bool:
        """Block until records are there (True) or the time is over (False)."""
        deadline = time.monotonic() + timeout
        with self._lock:
            while not self._contact.closed.is_set():
                if self._ready or self._failure is not None or self._consumer is None:
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._receive(self._consumer.consume(1, min(left, _SLICE)))
        return False

    def close(self) -> None:
        """Leave the cluster."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
            self._consumer = self._handed = self._failure = None
            self._ready.clear()

    # --- positions ---

    def _seek(self, positions: dict[TopicPartition, int]) -> None:
        """Go to where the caller is, if the log still has it."""
        self._handed, self._failure = None, None
        self._ready.clear()
        identities = self._cluster.check({place.topic for place in positions}, now=True)
        for place in positions:
            if not 0 <= place.partition < identities[place.topic].partitions:
                raise UnknownTopicError(
                    f"The topic {place.topic} has no partition {place.partition}.", hint="See `rowtide log topics`."
                )
        self._check_range(positions)
        self._opened().assign([Place(place.topic, place.partition, offset) for place, offset in positions.items()])
        self._handed = dict(positions)
        self._fetched = dict(positions)

    def _check_range(self, positions: Mapping[TopicPartition, int]) -> None:
        extents = self._cluster.extents(positions)
        for place, offset in positions.items():
            start, end = extents[place]
            if offset < start:
                raise RetentionGapError(
                    f"The events {offset} to {start - 1} of {place.topic}/{place.partition} are no longer in the log: it "
                    f"begins at {start}.",
                    hint="What they changed is lost to the log: run `rowtide init --snapshot`, then start again, and raise "
                    "retention.ms of the topic.",
                )
            if offset > end:
                raise LogTruncatedError(
                    f"The position {offset} of {place.topic}/{place.partition} lies behind the end of the log, {end}.",
                    hint="The cluster lost records (an unclean leader election, or a restored disk): run "
                    "`rowtide init --snapshot`, then start again.",
                )

    def _opened(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._contact.build(
                Consumer,
                group_id=self._group,
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="error",
                isolation_level="read_committed",
                enable_partition_eof=True,
                allow_auto_create_topics=False,
                queued_max_messages_kbytes=_PREFETCH_KB,
                fetch_queue_backoff_ms=5,
                fetch_error_backoff_ms=50,
                fetch_wait_max_ms=_LONG_POLL_MS,
                fetch_max_bytes=64 * 1024 * 1024,
            )
        return self._consumer

    # --- records ---

    def _fill(self, limit: int, max_bytes: int) -> None:
        """Take what has been fetched already, up to what is asked for."""
        consumer = self._opened()
        size = sum(_size(record) for record in self._ready)
        while len(self._ready) < limit and size < max_bytes and self._failure is None:
            before = len(self._ready)
            messages = consumer.consume(min(_PORTION, limit - before), 0)
            if not messages:
                return
            self._receive(messages)
            size += sum(_size(self._ready[i]) for i in range(before, len(self._ready)))

    def _await_records(self) -> None:
        """Nothing has been fetched: find out whether there is anything, and wait for it if so."""
        ends = self._cluster.ends(self._fetched)
        deadline = time.monotonic() + self._contact.patience
        while not self._ready and self._failure is None:
            if all(self._fetched[place] >= end for place, end in ends.items()):
                return
            self._contact.raise_if_hopeless()
            if time.monotonic() >= deadline:
                raise self._contact.unreachable("the records are announced but do not come")
            self._receive(self._opened().consume(1, _SLICE))

    def _receive(self, messages: Sequence[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                self._learn(message, error)
                if self._failure is not None:
                    return
                continue
            place = TopicPartition(str(message.topic()), _number(message.partition()))
            offset = _number(message.offset())
            if offset < self._fetched[place]:
                continue  # fetched before the last assignment
            self._ready.append(
                Record(
                    place.topic,
                    place.partition,
                    offset,
                    message.timestamp()[1],
                    _bytes(message.key()),
                    _bytes(message.value()),
                )
            )
            self._fetched[place] = offset + 1

    def _learn(self, message: Message, error: KafkaError) -> None:
        """What comes in place of a record: the end of a partition, or a failure, told once what came before is read."""
        if message.topic() is None or message.partition() is None:
            self._contact.heard(error)
            return
        place = TopicPartition(str(message.topic()), _number(message.partition()))
        if error.code() == _END:
            self._fetched[place] = max(self._fetched[place], _number(message.offset()))
            return
        if transient(error):
            self._contact.heard(error)
            return
        try:
            self._cluster.check([place.topic], now=True)
            if error.code() not in _OUT_OF_RANGE:
                raise self._contact.meaning(error, f"reading {place.topic}/{place.partition}")
            self._check_range({place: self._fetched[place]})
        except RowtideError as failure:
            self._failure = failure
        else:  # a leader that was behind answered: go on where we are
            self._opened().assign([Place(p.topic, p.partition, offset) for p, offset in self._fetched.items()])

    def _take(self, limit: int, max_bytes: int) -> list[Record]:
        taken: list[Record] = []
        size = 0
        if self._handed is None:
            return taken
        while self._ready and len(taken) < limit and size < max_bytes:
            record = self._ready.popleft()
            size += _size(record)
            taken.append(record)
            self._handed[TopicPartition(record.topic, record.partition)] = record.offset + 1
        return taken


def _size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"")


def _bytes(value: object) -> bytes | None:
    return value if isinstance(value, bytes) or value is None else str(value).encode()


def _number(value: int | None) -> int:
    return -1 if value is None else value
