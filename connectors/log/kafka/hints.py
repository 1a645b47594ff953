"""Hints to Kafka's groups: how far reading is, for lag tools. Nothing of ours depends on them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import structlog
from confluent_kafka import KafkaException

from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.log.kafka.cluster import Cluster

log = structlog.get_logger()

_EVERY = 1.0  # seconds; lag tools look less often, and a request after each small batch would be much of a batch's cost


class Hints:
    """Tells a group's offsets to Kafka, at most once a second and always the latest; a failure is logged once."""

    def __init__(self, cluster: Cluster, group: str) -> None:
        self._cluster = cluster
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
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending is not None or self._closed)
                if self._pending is None:
                    return
                positions, self._pending = self._pending, None
            try:
                self._cluster.hint(self._group, positions)
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
