"""The Log on Kafka: what belongs together, made one."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import chain, islice

from connectors.log import (
    UNCHECKED,
    Expected,
    Extent,
    FencedError,
    Message,
    Record,
    TopicPartition,
    TopicReplacedError,
    UnknownTopicError,
)
from connectors.log.kafka.appending import Addition, Appended, Single, Transactions, unique_name
from connectors.log.kafka.cluster import POSITION_PREFIX, Cluster
from connectors.log.kafka.contact import Contact
from connectors.log.kafka.hints import Hints
from connectors.log.kafka.reading import Session
from connectors.log.kafka.retention import keep_from
from connectors.log.kafka.settings import Setting

_SESSIONS = 4  # readers of different partitions at a time; more take turns, each time from its position anew
_TAIL = 16  # records read back at first to find the last position; committing and aborting take numbers too
_POSITION_SETTINGS = {"cleanup.policy": "compact", "segment.bytes": str(4 * 1024 * 1024)}


class KafkaLog:
    """The log on the cluster behind `servers`. Nothing is connected before the first call.

    Args:
        servers: `HOST:PORT` of some brokers, joined by commas.
        settings: more settings of the client library (librdkafka), by its dotted names: TLS, SASL, limits.
        allow_plaintext: whether other hosts may be reached without encryption.
        group: the group whose offsets tell Kafka's tools how far reading is; None tells nobody.
        replication: copies of each topic that is created.
        patience: how long the servers may fail to answer before a call raises LogUnreachableError, in seconds.
    """

    def __init__(
        self,
        servers: str,
        *,
        settings: Mapping[str, Setting] | None = None,
        allow_plaintext: bool = False,
        group: str | None = None,
        replication: int = 1,
        patience: float = 30.0,
    ) -> None:
        self._contact = Contact(servers, settings or {}, allow_plaintext=allow_plaintext, patience=patience)
        self._cluster = Cluster(self._contact, replication=replication)
        self._group = group or f"rowtide-{uuid.uuid4()}"
        self._hints = None if group is None else Hints(self._contact, group)
        self._lock = threading.Lock()
        self._sessions: OrderedDict[frozenset[TopicPartition], Session] = OrderedDict()
        self._single = Single(self._contact)
        self._several = Transactions(self._contact, unique_name())
        self._captures: dict[str, Transactions] = {}
        self._told: dict[str, str | None] = {}
        self._next: dict[str, dict[int, int]] = {}  # by captured topic and partition, the offset behind the last append

    # --- topics ---

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """See `Log`. Raises RowtideError where it exists with another number of partitions."""
        self._cluster.create_topic(topic, partitions)

    def topics(self) -> Mapping[str, int]:
        """See `Log`. All topics of the cluster that these credentials may see, without internal ones."""
        return self._cluster.topics()

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """See `Log`."""
        return {name: identity.id for name, identity in self._cluster.describe(topics).items()}

    def expect(self, ids: Mapping[str, str]) -> None:
        """See `Log`."""
        self._cluster.expect(ids)

    def extents(self, topics: Iterable[str]) -> Mapping[TopicPartition, Extent]:
        """See `Log`. `end` is the end of what is committed."""
        found = self._cluster.describe(topics)
        return self._cluster.extents(TopicPartition(n, p) for n, i in found.items() for p in range(i.partitions))

    def leaves_out(self, topic: str) -> bool:
        """See `Log`. Where these credentials may not ask for the topic's settings, it is taken for one that does not."""
        return "compact" in self._cluster.setting(topic, "cleanup.policy")

    def positions_at(self, topics: Iterable[str], ts_ms: int) -> Mapping[TopicPartition, int]:
        """See `Log`. Kafka's index of times leads there; what lies between its entry and the record is read."""
        extents = self.extents(topics)
        reader = Session(self._contact, self._cluster, self._group)
        try:
            return keep_from(self._cluster, reader, extents, age=timedelta(0), size=None, now_ms=ts_ms)
        finally:
            reader.close()

    # --- appending ---

    def append(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        source_position: str | None = None,
        expect: Expected = UNCHECKED,
    ) -> int:
        """See `Log`. The messages are taken as they come: memory does not grow with their number.

        With a position it is the append of a capture: raises FencedError where another capture has appended since
        this log was last asked for the position. After any error, ask for it before appending again.
        """
        identity = self._cluster.check([topic])[topic]
        if source_position is not None:
            addition = Addition(topic, identity.partitions, messages)
            return self._append_captured(addition, identity.id, source_position, expect)
        pending = iter(messages)
        first = list(islice(pending, 2))
        if len(first) == 1:
            self._single.append(topic, identity.partitions, first[0])
            return 1
        if not first:
            return 0
        appended = self._several.append([Addition(topic, identity.partitions, chain(first, pending))])[0]
        self._cluster.settle(_firsts(topic, appended))
        return appended.count

    def _append_captured(self, addition: Addition, topic_id: str, position: str, expect: Expected) -> int:
        topic = addition.topic
        with self._lock:
            capture = self._captures.get(topic)
            if capture is None:
                name = f"rowtide-capture-{topic}"
                capture = Transactions(
                    self._contact,
                    name,
                    on_start=lambda: self._check_told(topic),
                    before_commit=lambda appended: self._check_same(topic, topic_id, appended[0]),
                )
                self._captures[topic] = capture
        with capture.lock:
            if expect is not UNCHECKED:
                # While the producer has its name nobody else has appended, so that what it stored last is stored; when
                # it takes the name, the position is read.
                if capture.started and self._told.get(topic, expect) != expect:
                    raise FencedError.of(topic)
                self._told[topic] = expect
            stored = Message(topic_id.encode(), position.encode(), 1)
            events, positions = capture.append([addition, Addition(POSITION_PREFIX + topic, 1, [stored])])
            self._told[topic] = position
            self._next[topic] = events.following()
        self._cluster.settle(_firsts(topic, events) | _firsts(POSITION_PREFIX + topic, positions))
        return events.count

    def _check_told(self, topic: str) -> None:
        """The name is ours now, so that nobody else appends: is the position still what the caller was told?"""
        self._cluster.create_topic(POSITION_PREFIX + topic, 1, _POSITION_SETTINGS)
        present = self._stored_position(topic)
        if topic in self._told and self._told[topic] != present:
            raise FencedError.of(topic)

    def _check_same(self, topic: str, topic_id: str, events: Appended) -> None:
        """What the servers have of the transaction is in the topic whose id is stored with the position.

        Where it stands right behind what was appended last, it is; else the servers are asked. A topic created anew
        begins at 0: one that somebody has filled to the very same offset since is met by the next append's check, and
        has no position until then, for the one stored here is the other's.
        """
        following = self._next.pop(topic, None)
        if events.first and events.first == following and events.first.keys() == events.counts.keys():
            return
        if self._cluster.check([topic], now=True)[topic].id != topic_id:
            raise TopicReplacedError(
                f"The topic {topic} was created anew.", hint="Run `rowtide init --snapshot`, then start again."
            )

    def source_position(self, topic: str) -> str | None:
        """See `Log`. It is that of the topic as it is: a topic created anew has none."""
        position = self._stored_position(topic)
        with self._lock:
            capture = self._captures.get(topic)
        if capture is not None:
            capture.forget_fencing()
        self._told[topic] = position
        return position

    def _stored_position(self, topic: str) -> str | None:
        """The last committed record of the topic's positions, looked for from their end backwards."""
        topic_id = self._cluster.describe([topic])[topic].id
        place = TopicPartition(POSITION_PREFIX + topic, 0)
        try:
            start, end = self._cluster.extents([place])[place]
        except UnknownTopicError:
            return None
        back = _TAIL
        reader = Session(self._contact, self._cluster, self._group)
        try:
            while start < end:
                last = None
                at = {place: max(start, end - back)}
                while records := reader.read(at, 1000, 16 * 1024 * 1024):
                    last = records[-1]
                    at = {place: last.offset + 1}
                if last is not None:
                    same = last.key == topic_id.encode() and last.value is not None
                    return last.value.decode() if same and last.value is not None else None
                if end - back <= start:
                    break
                back *= 16
        finally:
            reader.close()
        return None

    # --- reading ---

    def read(
        self, positions: Mapping[TopicPartition, int], *, limit: int, max_bytes: int = 16 * 1024 * 1024
    ) -> Sequence[Record]:
        """See `Log`. Partitions come in no particular order among each other."""
        self._contact.raise_if_hopeless()
        if not positions or limit < 1:
            return []
        places = frozenset(positions)
        with self._lock:
            session = self._sessions.pop(places, None) or Session(self._contact, self._cluster, self._group)
            self._sessions[places] = session
            oldest = self._sessions.popitem(last=False)[1] if len(self._sessions) > _SESSIONS else None
        if oldest is not None:
            oldest.close()
        return session.read(positions, limit, max_bytes)

    def wait(self, timeout: float) -> bool:
        """See `Log`. Waits for the partitions that were read last."""
        with self._lock:
            session = next(reversed(self._sessions.values()), None)
        if session is None:
            self._contact.closed.wait(min(timeout, 0.1))
            return not self._contact.closed.is_set()
        return session.wait(timeout)

    def commit_hint(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Log`. The offsets of the group, told by a thread of its own."""
        if self._hints is not None:
            self._hints.tell(positions)

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
        """See `Log`. Counts offsets. For a size, up to that many bytes are read back."""
        identity = self._cluster.describe([topic])[topic]
        places = [TopicPartition(topic, partition) for partition in range(identity.partitions)]
        extents = self._cluster.extents(places)
        reader = Session(self._contact, self._cluster, self._group)
        try:
            share = None if size is None else size // identity.partitions
            wanted = keep_from(self._cluster, reader, extents, age=age, size=share, now_ms=now_ms)
        finally:
            reader.close()
        for place, offset in (unread or {}).items():
            if place in wanted:
                wanted[place] = min(wanted[place], offset)
        going = {place: offset for place, offset in wanted.items() if offset > extents[place].start}
        self._cluster.remove_before(going)
        return sum(offset - extents[place].start for place, offset in going.items())

    def close(self) -> None:
        """See `Log`."""
        if self._hints is not None:
            self._hints.close()
        self._contact.closed.set()
        with self._lock:
            sessions, self._sessions = list(self._sessions.values()), OrderedDict()
            captures, self._captures = list(self._captures.values()), {}
        for session in sessions:
            session.close()
        self._single.close()
        for transactions in (self._several, *captures):
            transactions.close()


def _firsts(topic: str, appended: Appended) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): offset for partition, offset in appended.first.items()}
