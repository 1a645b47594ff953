"""Appending: whole or not at all, and for a capture together with the position that it leads to.

A capture's append is one transaction over the topic and a topic of positions beside it. The transaction's name is the
topic's, so that a capture which takes over stops the one before it; and it appends only if the stored position is still
the one it was told, so that nothing that came between is repeated.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from connectors.errors import RowtideError
from connectors.log import FencedError, Message
from connectors.log.kafka.contact import Contact

Delivery: TypeAlias = Callable[[KafkaError | None, Delivered], None]

_BUFFER_KB = 64 * 1024  # messages on their way; beyond that appending waits for the servers
_TRANSACTION_MS = 60_000
_ABORT = 5.0  # seconds; a transaction that cannot be aborted ends at the servers by its own time limit


class Addition(NamedTuple):
    """Messages for one topic of a transaction."""

    topic: str
    partitions: int
    messages: Iterable[Message]


@dataclass
class Appended:
    """What has gone to one topic: how many messages, and to each partition how many.

    Args:
        first: the offset of each partition's first one, as soon as the servers have told it.
    """

    count: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)

    def noting(self, partition: int) -> Delivery | None:
        """Take the first delivery in a partition down; None where one is taken down already."""
        if partition in self.counts:
            return None

        def delivered(error: KafkaError | None, message: Delivered) -> None:
            offset = message.offset()
            if error is None and offset is not None:
                self.first[partition] = offset

        return delivered

    def following(self) -> dict[int, int]:
        """The offsets that the next transaction begins at where nobody else appends; behind the messages comes a mark."""
        return {partition: offset + self.counts[partition] + 1 for partition, offset in self.first.items()}


class Transactions:
    """One transactional producer; calls come one at a time.

    Args:
        name: the transactional id: a later producer of the same name fences this one.
        on_start: called after the name was taken and before the first transaction; whatever it raises stops that.
        before_commit: called when the servers have everything, with what went to each topic; whatever it raises undoes
            that.
    """

    def __init__(
        self,
        contact: Contact,
        name: str,
        *,
        on_start: Callable[[], None] | None = None,
        before_commit: Callable[[Sequence[Appended]], None] | None = None,
    ) -> None:
        self._contact = contact
        self._name = name
        self._on_start = on_start
        self._before_commit = before_commit
        self._producer: Producer | None = None
        self._fenced: FencedError | None = None
        self.lock = threading.RLock()

    def append(self, additions: Iterable[Addition]) -> list[Appended]:
        """Append all or nothing; returns what went to each topic."""
        with self.lock:
            if self._fenced is not None:
                raise self._fenced
            producer = self._started()
            try:
                producer.begin_transaction()
                appended = [_produce(self._contact, producer, addition) for addition in additions]
                if self._before_commit is not None:
                    producer.flush(self._contact.patience)
                    self._before_commit(appended)
                self._commit(producer)
            except (KafkaException, SystemError) as failure:
                self._abort(producer)
                raise self._meaning(_error(failure)) from None
            except FencedError as fenced:
                self._fenced, self._producer = fenced, None
                raise
            except BaseException:
                self._abort(producer)
                raise
            self._contact.answered()
            return appended

    def forget_fencing(self) -> None:
        """Let the next append take the name again: its caller has learned where the topic stands."""
        with self.lock:
            self._fenced = None

    @property
    def started(self) -> bool:
        """Whether the name is taken."""
        return self._producer is not None

    def _started(self) -> Producer:
        if self._producer is not None:
            return self._producer
        producer = self._contact.build(
            Producer,
            transactional_id=self._name,
            transaction_timeout_ms=max(_TRANSACTION_MS, round(self._contact.patience * 2000)),
            message_timeout_ms=max(1000, round(self._contact.patience * 1000)),
            queue_buffering_max_kbytes=_BUFFER_KB,
            linger_ms=0,
        )
        self._contact.persist(f"beginning to append as {self._name}", producer.init_transactions, poll=producer.poll)
        if self._on_start is not None:
            self._on_start()
        self._producer = producer
        return producer

    def _commit(self, producer: Producer) -> None:
        """Commit; what times out is the same commit when called again."""
        self._contact.persist(f"committing what was appended as {self._name}", producer.commit_transaction)

    def _abort(self, producer: Producer) -> None:
        """Abort and leave the producer: after a refused message its numbering no longer fits the servers'.

        What can not be aborted now is aborted by the next producer of the name, or by the servers when its time is up.
        """
        self._producer = None
        try:
            producer.abort_transaction(_ABORT)
        except KafkaException:
            with suppress(KafkaException):
                producer.purge()

    def _meaning(self, error: KafkaError) -> RowtideError:
        meaning = self._contact.meaning(error, f"appending as {self._name}")
        if isinstance(meaning, FencedError):
            self._fenced = meaning
        return meaning

    def close(self) -> None:
        """Leave. An open transaction is of another thread: it fails there."""
        self._producer = None


class Single:
    """Appends messages one by one, each whole by itself, from any number of processes."""

    def __init__(self, contact: Contact) -> None:
        self._contact = contact
        self._producer: Producer | None = None
        self._lock = threading.Lock()

    def append(self, topic: str, partitions: int, message: Message) -> None:
        """Append one message and return when it is durable."""
        with self._lock:
            if self._producer is None:
                self._producer = self._contact.build(
                    Producer,
                    enable_idempotence=True,
                    message_timeout_ms=max(1000, round(self._contact.patience * 1000)),
                    linger_ms=0,
                )
            producer = self._producer
        done = threading.Event()
        errors: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Delivered) -> None:
            if error is not None:
                errors.append(error)
            done.set()

        try:
            _produce(self._contact, producer, Addition(topic, partitions, [message]), delivered)
            while not done.is_set():
                producer.poll(0.05)
                self._contact.raise_if_hopeless()
        except (KafkaException, SystemError) as failure:
            self._producer = None
            raise self._contact.meaning(_error(failure), f"appending to {topic}") from None
        if errors:
            self._producer = None
            raise self._contact.meaning(errors[0], f"appending to {topic}")
        self._contact.answered()

    def close(self) -> None:
        """Leave."""
        self._producer = None


def _produce(
    contact: Contact,
    producer: Producer,
    addition: Addition,
    delivered: Delivery | None = None,
) -> Appended:
    """Hand the messages over as they come; waits where the servers are slower than they come."""
    topic, partitions, _ = addition
    appended = Appended()
    for message in addition.messages:
        if not 0 <= message.partition < partitions:
            raise RowtideError(f"The topic {topic} has no partition {message.partition}.", hint=f"It has {partitions}.")
        deadline = time.monotonic() + contact.patience
        callback = delivered or appended.noting(message.partition)
        while True:
            try:
                producer.produce(
                    topic,
                    message.value,
                    message.key,
                    message.partition,
                    on_delivery=callback,
                    timestamp=max(1, message.ts_ms),  # 0 would be read as “now”
                )
            except BufferError:
                contact.raise_if_hopeless()
                if time.monotonic() >= deadline:
                    raise contact.unreachable(f"nothing appended to {topic} is taken") from None
                producer.poll(0.05)
            else:
                break
        appended.count += 1
        appended.counts[message.partition] = appended.counts.get(message.partition, 0) + 1
        if appended.count % 1000 == 0:
            producer.poll(0)
    return appended


def _error(failure: KafkaException | SystemError) -> KafkaError:
    """What the library says; any other SystemError is raised again.

    It raises what is fatal for a producer; Python calls it a SystemError where a callback came after.
    """
    cause = failure.__cause__ if isinstance(failure, SystemError) else failure
    if not isinstance(cause, KafkaException):
        raise failure
    error: KafkaError = cause.args[0]
    return error


def unique_name() -> str:
    """The name of a producer that nobody else is to fence."""
    return f"rowtide-append-{uuid.uuid4()}"
