"""The log: an ordered, replayable store of change events, in topics and partitions.

A log knows bytes, never what they mean. Two kinds implement this protocol: `embedded` (the state database)
and `kafka`; one conformance suite holds for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from connectors.errors import RowtideError


class TopicPartition(NamedTuple):
    """One ordered sequence of records."""

    topic: str
    partition: int


class Message(NamedTuple):
    """What is appended. `ts_ms` is in milliseconds since the epoch; key and value are as on the wire."""

    key: bytes | None
    value: bytes | None
    ts_ms: int
    partition: int = 0


class Record(NamedTuple):
    """What is read: a message with the place it got. Offsets of a partition rise by one from 0."""

    topic: str
    partition: int
    offset: int
    ts_ms: int
    key: bytes | None
    value: bytes | None


class Extent(NamedTuple):
    """The retained offsets of a partition: `start` is the first, `end` the one the next message will get."""

    start: int
    end: int


class RetentionGapError(RowtideError):
    """A read asked for offsets that retention has already removed."""


class UnknownTopicError(RowtideError):
    """The topic does not exist in this log."""


class Log(Protocol):
    """An ordered, replayable store of messages.

    All methods may be called from any thread; each call is atomic. What `append` returned from is durable.
    """

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Create the topic; nothing happens where it exists with as many partitions."""

    def topics(self) -> Mapping[str, int]:
        """The topics with their number of partitions."""

    def append(self, topic: str, messages: Iterable[Message], *, source_position: str | None = None) -> int:
        """Append the messages in order, all or none, and store `source_position` (opaque) with them.

        Returns how many were appended. Raises UnknownTopicError.
        """

    def source_position(self, topic: str) -> str | None:
        """The last position a capture stored with what it appended to the topic."""

    def read(
        self, positions: Mapping[TopicPartition, int], *, limit: int, max_bytes: int = 16 * 1024 * 1024
    ) -> Sequence[Record]:
        """Up to `limit` records from the positions on (a position is the next offset to read).

        Per partition records come in the order of their offsets without holes. The embedded log returns the
        partitions merged in the order of appending, the same at every reading. Stops after the record that
        exceeds `max_bytes`. Raises RetentionGapError if a position lies before the retained start, and
        RowtideError if it lies beyond the end.
        """

    def extents(self, topics: Iterable[str]) -> Mapping[TopicPartition, Extent]:
        """The retained offsets of every partition of the topics. Raises UnknownTopicError."""

    def wait(self, timeout: float) -> bool:
        """Block until something may have been appended (True) or `timeout` seconds have passed (False)."""

    def enforce_retention(
        self,
        topic: str,
        *,
        age: timedelta | None,
        size: int | None,
        now_ms: int,
        unread: Mapping[TopicPartition, int] | None = None,
    ) -> int:
        """Remove records from the start that are older than `age` or make the topic larger than `size` bytes.

        Only whole prefixes of a partition go, and nothing from its offset in `unread` on. Returns how many went.
        """

    def close(self) -> None:
        """Release connections. The log can not be used afterwards."""
