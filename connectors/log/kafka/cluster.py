"""The cluster's side of the log: topics and who they are, their offsets, what is removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from connectors.errors import RowtideError
from connectors.log import (
    Extent,
    PartitionsAddedError,
    TopicPartition,
    TopicReplacedError,
    UnknownTopicError,
)
from connectors.log.kafka.contact import Contact, unknown
from connectors.log.kafka.settings import check_transport

T = TypeVar("T")
_NO_ANSWER = KafkaError._TIMED_OUT_QUEUE  # noqa: SLF001
_STALE = {KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, _NO_ANSWER}
_LOST = 3.0  # seconds beyond a request's own limit after which its answer does not come any more
_SPEC: Any = OffsetSpec
_CHECK_EVERY = 1.0  # seconds between two looks at whether a topic is still the same
_SETTLE = 5.0  # seconds; milliseconds as a rule
POSITION_PREFIX = "rowtide-position."

# Events carry business time, which may be years ago or ahead of the broker's clock: Kafka must neither drop nor refuse
# for that. What goes by age or size is decided by `enforce_retention`.
_TOPIC_SETTINGS = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "max.message.bytes": str(32 * 1024 * 1024),
}


class Identity(NamedTuple):
    """Which topic it is, and its number of partitions."""

    id: str
    partitions: int


class Cluster:
    """Questions to the cluster that are not about records.

    Args:
        replication: copies of each topic that is created.
    """

    def __init__(self, contact: Contact, *, replication: int) -> None:
        self._contact = contact
        self._replication = replication
        self._lock = threading.Lock()
        self._admin: AdminClient | None = None
        self._known: dict[str, Identity] = {}
        self._expected: dict[str, str] = {}
        self._checked: dict[str, float] = {}

    @property
    def _client(self) -> AdminClient:
        with self._lock:
            if self._admin is not None:
                return self._admin
            client = self._contact.build(AdminClient)

        def nodes(seconds: float) -> list[str]:
            return [node.host for node in _answer(client.describe_cluster(request_timeout=seconds), seconds).nodes]

        found = self._contact.persist("asking who belongs to the cluster", nodes, poll=client.poll)
        # What the first server names is where the rows would go.
        check_transport(found, self._contact.settings, allow_plaintext=self._contact.allow_plaintext)
        with self._lock:
            self._admin = client
        return client

    def _ask(self, what: str, request: Callable[[AdminClient, float], T]) -> T:
        """What `request(client, seconds)` returns, asked until patience ends; see `Contact.persist`."""

        def attempt(seconds: float) -> T:
            client = self._client
            try:
                return request(client, seconds)
            except KafkaException as failure:
                client.poll(0)
                if failure.args[0].code() in _STALE:
                    self._renew(client)
                raise

        return self._contact.persist(what, attempt)

    def _renew(self, client: AdminClient) -> None:
        """Leave a client that has lost a request, or asks by what it knew of a leader before that one changed.

        The latter would go on so for minutes.
        """
        renewed = self._contact.build(AdminClient)
        with self._lock:
            if self._admin is client:
                self._admin = renewed

    # --- topics ---

    def topics(self) -> dict[str, int]:
        """The topics with their partitions, without Kafka's internal ones and ours for positions."""
        found = self._ask("listing the topics", _listed)
        return {
            name: len(topic.partitions)
            for name, topic in sorted(found.items())
            if not name.startswith(("__", POSITION_PREFIX))
        }

    def describe(self, topics: Iterable[str]) -> dict[str, Identity]:
        """Who the topics are. Raises UnknownTopicError."""
        names = sorted(set(topics))
        if not names:
            return {}

        def described(client: AdminClient, seconds: float) -> dict[str, Identity]:
            futures = client.describe_topics(TopicCollection(names), request_timeout=seconds)
            found = {name: _present(name, future, seconds) for name, future in futures.items()}
            return {name: Identity(str(topic.topic_id), len(topic.partitions)) for name, topic in found.items()}

        return self._confirmed(lambda: self._ask(f"looking at {', '.join(names)}", described))

    def _confirmed(self, ask: Callable[[], T]) -> T:
        """What `ask` returns. A topic that was there and is missing is asked for until patience ends.

        A broker that has just started answers before it knows of its topics, or of itself.
        """
        deadline: float | None = None  # from the first answer on: what outlived an outage has patience anew
        while True:
            try:
                return ask()
            except _MissingTopicError as missing:
                self._ask("waiting for the brokers to find each other", _listed)
                deadline = deadline or time.monotonic() + self._contact.patience
                known = missing.topic in self._known or missing.topic in self._expected
                if known and time.monotonic() < deadline:
                    self._contact.closed.wait(0.1)
                    continue
                raise UnknownTopicError(
                    f"The log has no topic {missing.topic}.",
                    hint="See `rowtide log topics`; where it should be there, see whether the connector or capture runs.",
                ) from None

    def create_topic(self, topic: str, partitions: int, settings: Mapping[str, str] | None = None) -> None:
        """Create it where it is absent, with as many copies as told. Raises RowtideError where it is another."""
        try:
            present = self.describe([topic])[topic].partitions
        except UnknownTopicError:
            present = 0
        if present and present != partitions:
            raise RowtideError(
                f"The topic {topic} exists with {present} partitions, not {partitions}.",
                hint="Use the number it has, or another topic.",
            )
        if present:
            return
        chosen = _TOPIC_SETTINGS | {"min.insync.replicas": "2" if self._replication > 2 else "1"} | dict(settings or {})
        new = NewTopic(topic, num_partitions=partitions, replication_factor=self._replication, config=chosen)

        def created(client: AdminClient, seconds: float) -> None:
            try:
                _answer(client.create_topics([new], request_timeout=seconds)[topic], seconds)
            except KafkaException as failure:
                code = failure.args[0].code()
                if code == KafkaError.TOPIC_ALREADY_EXISTS:
                    return  # another process was faster, or our own attempt before
                if code == KafkaError.INVALID_REPLICATION_FACTOR:
                    raise RowtideError(
                        f"The cluster has fewer than {self._replication} brokers: the topic {topic} was not created.",
                        hint="Lower log.replication, or start the other brokers.",
                    ) from None
                if code == KafkaError.TOPIC_EXCEPTION:
                    raise RowtideError(
                        f"Kafka does not take {topic!r} as a topic's name.",
                        hint="A name has up to 249 letters, digits, dots, hyphens and underscores.",
                    ) from None
                raise

        self._ask(f"creating the topic {topic}", created)
        self._await_created(topic)
        self._known.pop(topic, None)

    def _await_created(self, topic: str) -> None:
        """Brokers hear of a new topic one after the other: wait until it can be read."""
        deadline = time.monotonic() + self._contact.patience
        while True:
            try:
                identity = self.describe([topic])[topic]
                self.extents([TopicPartition(topic, number) for number in range(identity.partitions)])
            except UnknownTopicError:
                if time.monotonic() > deadline:
                    raise
                self._contact.closed.wait(0.02)
            else:
                return

    # --- identity ---

    def expect(self, ids: Mapping[str, str]) -> None:
        """See `Log`."""
        self._expected.update(ids)
        self.check(ids, now=True)

    def check(self, topics: Iterable[str], *, now: bool = False) -> dict[str, Identity]:
        """Who the topics are, asked at most once a second unless `now`.

        Raises TopicReplacedError, PartitionsAddedError and UnknownTopicError where one is not what it was.
        """
        wanted, moment = set(topics), time.monotonic()
        stale = {name for name in wanted if now or moment - self._checked.get(name, -_CHECK_EVERY) >= _CHECK_EVERY}
        for name, present in self.describe(stale).items():
            self._compare(name, present)
            self._known[name] = present
            self._checked[name] = moment
        return {name: self._known[name] for name in wanted}

    def _compare(self, topic: str, present: Identity) -> None:
        known = self._known.get(topic)
        expected = self._expected.get(topic) or (known.id if known else present.id)
        if present.id != expected:
            raise TopicReplacedError(
                f"The topic {topic} was deleted and created anew: the stored positions are of the one before.",
                hint="Run `rowtide init --snapshot`, then start again; or `rowtide rebuild`, if all of the source is in it.",
            )
        if known is not None and present.partitions > known.partitions:
            raise PartitionsAddedError(
                f"The topic {topic} has {present.partitions} partitions now; reading began with {known.partitions}.",
                hint="Start Rowtide again to read them all. Keys may have moved between partitions: if changes were still "
                "unread when they were added, run `rowtide verify` afterwards.",
            )

    def setting(self, topic: str, name: str) -> str:
        """A setting of a topic; empty where these credentials may not ask for it."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)

        def told(client: AdminClient, seconds: float) -> str:
            try:
                found = _answer(client.describe_configs([resource], request_timeout=seconds)[resource], seconds)
            except KafkaException as failure:
                if failure.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    return ""
                raise
            return str(found[name].value)

        return self._ask(f"asking for {name} of {topic}", told)

    # --- offsets ---

    def extents(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Extent]:
        """The retained offsets, up to the last stable one: what lies behind is in open transactions."""
        wanted = list(places)
        starts = self._offsets(wanted, _SPEC.earliest())
        ends = self._offsets(wanted, _SPEC.latest())
        return {place: Extent(starts[place], max(starts[place], ends[place])) for place in wanted}

    def ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends alone: one request instead of two."""
        return self._offsets(list(places), _SPEC.latest())

    def offsets_at(self, places: Sequence[TopicPartition], ts_ms: int) -> dict[TopicPartition, int]:
        """An offset before which all records of a partition are older than the time; -1 where all are.

        Not the first one that is not: Kafka's marks of transactions have the broker's time.
        """
        return self._offsets(places, _SPEC.for_timestamp(ts_ms))

    def settle(self, appended: Mapping[TopicPartition, int]) -> None:
        """Wait until readers see a committed transaction: the servers tell of a commit before they have marked its end.

        Where somebody else's transaction is open before it, readers see it when that one ends: then it is not waited
        for, beyond a few seconds.

        Args:
            appended: an offset of the transaction in each partition; as long as it is open, the stable end is not behind.
        """
        hidden = dict(appended)
        deadline = time.monotonic() + _SETTLE
        while hidden and time.monotonic() < deadline and not self._contact.closed.is_set():
            stable = self._offsets(list(hidden), _SPEC.latest())
            hidden = {place: offset for place, offset in hidden.items() if stable[place] <= offset}
            if hidden:
                self._contact.closed.wait(0.002)

    def _offsets(self, places: Sequence[TopicPartition], spec: Any) -> dict[TopicPartition, int]:
        if not places:
            return {}

        def found(client: AdminClient, seconds: float) -> dict[TopicPartition, int]:
            futures = client.list_offsets(
                {Place(place.topic, place.partition): spec for place in places},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=seconds,
            )
            return {
                TopicPartition(p.topic, p.partition): int(_present(p.topic, f, seconds).offset)
                for p, f in futures.items()
            }

        what = f"asking for the offsets of {', '.join(sorted({place.topic for place in places}))}"
        return self._confirmed(lambda: self._ask(what, found))

    def remove_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Remove the records before the offsets."""
        if not offsets:
            return
        places = [Place(place.topic, place.partition, offset) for place, offset in offsets.items()]

        def removed(client: AdminClient, seconds: float) -> None:
            for future in client.delete_records(places, request_timeout=seconds).values():
                _answer(future, seconds)

        names = sorted({place.topic for place in offsets})
        self._ask(f"removing old records of {', '.join(names)}", removed)


class _MissingTopicError(Exception):
    """The servers do not know a topic, or do not know it yet."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


def _answer(future: Any, seconds: float) -> Any:
    """What a request for `seconds` came to. Raises KafkaException, one that passes where the library has lost it.

    That happens after brokers were silent for a while; waited for without a limit, it would be waited for for ever.
    """
    try:
        return future.result(seconds + _LOST)
    except TimeoutError:
        raise KafkaException(KafkaError(_NO_ANSWER)) from None


def _present(topic: str, future: Any, seconds: float) -> Any:
    """The same of a request about a topic. Raises _MissingTopicError."""
    try:
        return _answer(future, seconds)
    except KafkaException as failure:
        if unknown(failure.args[0]):
            raise _MissingTopicError(topic) from None
        raise


def _listed(client: AdminClient, seconds: float) -> dict[str, Any]:
    """The topics. Raises KafkaException where a broker has just started and knows neither of them nor of itself."""
    listing = client.list_topics(timeout=seconds)
    if not listing.brokers:
        raise KafkaException(KafkaError(KafkaError.BROKER_NOT_AVAILABLE))
    return dict(listing.topics)
