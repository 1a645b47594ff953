"""Hints to Kafka's groups: how far reading is, for lag tools. Nothing of ours depends on them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import structlog
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as Place

from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.log.kafka.contact import Contact

log = structlog.get_logger()

_EVERY = 1.0  # seconds; lag tools look less often, and a request after each small batch would be much of a batch's cost


class Hints:
    """Tells a group's offsets to Kafka, at most once a second and always the latest; a failure is logged once.

    A consumer tells them that reads nothing: after the request of the library's AdminClient for this, asked of servers that
    had no group before, closing that client at times waits for ever.
    """

    def __init__(self, contact: Contact, group: str) -> None:
        self._contact = contact
        self._group = group
        self._changed = threading.Condition()
        self._pending: dict[TopicPartition, int] | None = None
        self._closed = False
        self._failing = False
        self._thread: threading.Thread | None = None

    def tell(self, positions: Mapping[TopicPartition, int]) -> None:
        """Have the positions told soon; positions not yet told are replaced."""
        with self._changed:
            self._pending = {**(self._pending or {}), **positions}
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="log-hints", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        consumer = self._contact.build(Consumer, group_id=self._group, enable_auto_commit=False)
        try:
            self._follow(consumer)
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending is not None or self._closed)
                if self._pending is None:
                    return
                positions, self._pending = self._pending, None
            try:
                _commit(consumer, positions)
            except (KafkaException, RowtideError) as error:
                if not self._failing:
                    name = error.args[0].name() if isinstance(error, KafkaException) else type(error).__name__
                    log.warning("log.hint_failed", group=self._group, error=name)
                self._failing = True
            else:
                self._failing = False
            with self._changed:
                self._changed.wait_for(lambda: self._closed, _EVERY)

    def close(self) -> None:
        """Tell the last positions, within two seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=2)


def _commit(consumer: Consumer, positions: Mapping[TopicPartition, int]) -> None:
    places = [Place(place.topic, place.partition, offset) for place, offset in positions.items()]
    for place in consumer.commit(offsets=places, asynchronous=False) or []:
        if place.error is not None:
            raise KafkaException(place.error)
