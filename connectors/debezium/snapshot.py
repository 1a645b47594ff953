"""Following a connector's first snapshot, by what it notifies and by how its topics grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from connectors.log import Extent, Log, TopicPartition, UnknownTopicError

_PORTION = 1000
_FINAL = {"COMPLETED": "completed", "SKIPPED": "skipped", "ABORTED": "aborted"}


class Progress(NamedTuple):
    """How far a snapshot is.

    Args:
        events: in the topics since following began: rows, and what has changed since.
        rows: those of the tables that are done, as the connector counts them.
        table: the one being read, as the connector names it.
        done, tables: how many tables.
        outcome: `completed`, `skipped` (it was taken before) or `aborted`; None: it goes on.
    """

    events: int
    rows: int
    table: str
    done: int
    tables: int
    outcome: str | None


class Following:
    """Follows the snapshot of one connector.

    Args:
        log: of Kafka.
        notifications: the topic that the connector notifies.
        topics: where its events go.
        fresh: whether the connector is about to be registered: then what it notified before does not count.
    """

    def __init__(self, log: Log, notifications: str, topics: Sequence[str], *, fresh: bool) -> None:
        self._log = log
        self._notifications = notifications
        self._topics = topics
        self._began = self._ends()
        extents = self._extents([notifications])
        self._positions = {place: extent.end if fresh else extent.start for place, extent in extents.items()}
        self._finished: dict[str, int] = {}
        self._table = ""
        self._tables = 0
        self._outcome: str | None = None

    def progress(self) -> Progress:
        """How far it is now."""
        for place, extent in self._extents([self._notifications]).items():
            self._positions.setdefault(place, extent.start)
        while self._positions:
            records = self._log.read(self._positions, limit=_PORTION)
            if not records:
                break
            for record in records:
                self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                self._learn(record.value)
        events = sum(end - self._began.get(place, 0) for place, end in self._ends().items())
        return Progress(
            events, sum(self._finished.values()), self._table, len(self._finished), self._tables, self._outcome
        )

    def _learn(self, value: bytes | None) -> None:
        try:
            told = msgspec.json.decode(value or b"null")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # another channel of notifications may share the topic
        told = told.get("payload", told) if isinstance(told, Mapping) else {}
        if not isinstance(told, Mapping) or told.get("aggregate_type") != "Initial Snapshot":
            return
        data: Any = told.get("additional_data") or {}
        kind = str(told.get("type"))
        if kind == "STARTED":
            self._finished, self._table, self._outcome = {}, "", None
        if isinstance(data.get("data_collections"), str):
            self._tables = len(data["data_collections"].split(","))
        if kind == "IN_PROGRESS":
            self._table = str(data.get("current_collection_in_progress") or "")
        if kind == "TABLE_SCAN_COMPLETED":
            count = str(data.get("total_rows_scanned") or "0")
            self._finished[str(data.get("scanned_collection"))] = int(count) if count.isdecimal() else 0
        self._outcome = _FINAL.get(kind, self._outcome)

    def _ends(self) -> dict[TopicPartition, int]:
        return {place: extent.end for place, extent in self._extents(self._topics).items()}

    def _extents(self, topics: Sequence[str]) -> dict[TopicPartition, Extent]:
        """The extents of those topics that are there."""
        there = self._log.topics()
        try:
            return dict(self._log.extents([topic for topic in topics if topic in there]))
        except UnknownTopicError:  # gone in between
            return {}
