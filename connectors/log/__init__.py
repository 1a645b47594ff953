"""The log: an ordered, replayable store of change events, in topics and partitions.

A log knows bytes, never what they mean. Two kinds implement this protocol: `embedded` (the state database)
and `kafka`; one conformance suite holds for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

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
    """What is read: a message with the place it got.

    Offsets of a partition rise. The embedded log counts without holes from 0; Kafka leaves numbers out.
    """

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


class LogTruncatedError(RowtideError):
    """A position lies behind the end of its partition: the log lost records that were already read."""


class UnknownTopicError(RowtideError):
    """The topic does not exist in this log."""


class TopicReplacedError(RowtideError):
    """The topic was deleted and created anew: offsets of the one before mean nothing in it."""


class PartitionsAddedError(RowtideError):
    """The topic has more partitions than when reading began."""


class LogUnreachableError(RowtideError):
    """The log's servers do not answer. Nothing is lost: the same call may be made again once they do.

    Whether an append that raised this was carried out is unknown: ask for the source position before going on.
    """


class LogRefusedError(RowtideError):
    """The log's servers, or the rules of how to reach them, refuse: wrong credentials, rights or settings."""


class FencedError(RowtideError):
    """Another capture appends to the topic now; this one must not go on."""

    @classmethod
    def of(cls, topic: str) -> FencedError:
        """The error for a topic that another has appended to."""
        return cls(
            f"Another capture has appended to {topic} meanwhile.", hint="Start again: it goes on where the topic ends."
        )


class Unchecked(Enum):
    """No position is expected to be stored."""

    UNCHECKED = "unchecked"


UNCHECKED: Final = Unchecked.UNCHECKED
Expected: TypeAlias = str | Literal[Unchecked.UNCHECKED] | None


class Log(Protocol):
    """An ordered, replayable store of messages.

    All methods may be called from any thread; each call is atomic. What `append` returned from is durable.
    """

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Create the topic; nothing happens where it exists with as many partitions."""

    def topics(self) -> Mapping[str, int]:
        """The topics with their number of partitions."""

    def append(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        source_position: str | None = None,
        expect: Expected = UNCHECKED,
    ) -> int:
        """Append the messages in order, all or none, and store `source_position` (opaque) with them.

        `expect` is the position that the caller believes to be stored (None: that there is none); where another one is,
        another capture has appended meanwhile, and nothing is appended. It is given together with `source_position`.

        Returns how many were appended. Raises UnknownTopicError, and FencedError where `expect` is not what is stored.
        """

    def source_position(self, topic: str) -> str | None:
        """The last position a capture stored with what it appended to the topic. Raises UnknownTopicError."""

    def read(
        self, positions: Mapping[TopicPartition, int], *, limit: int, max_bytes: int = 16 * 1024 * 1024
    ) -> Sequence[Record]:
        """Up to `limit` records from the positions on (a position is the next offset to read).

        Per partition records come in the order of their offsets without holes. The embedded log returns the
        partitions merged in the order of appending, the same at every reading. Stops after the record that
        exceeds `max_bytes`. Empty means that there was nothing behind the positions. Raises RetentionGapError if a
        position lies before the retained start, LogTruncatedError if it lies beyond the end, TopicReplacedError,
        PartitionsAddedError, UnknownTopicError and LogUnreachableError; never skips.
        """

    def commit_hint(self, positions: Mapping[TopicPartition, int]) -> None:
        """Tell the log's own tools how far a reader is, as far as the log has such. Neither blocks nor raises."""

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """What tells each topic from one of the same name created later. Raises UnknownTopicError."""

    def expect(self, ids: Mapping[str, str]) -> None:
        """Compare with what `topic_ids` returned when the positions were stored, now and at every later read.

        Raises TopicReplacedError and UnknownTopicError.
        """

    def extents(self, topics: Iterable[str]) -> Mapping[TopicPartition, Extent]:
        """The retained offsets of every partition of the topics. Raises UnknownTopicError."""

    def leaves_out(self, topic: str) -> bool:
        """Whether the topic may remove records from among others, as Kafka's compaction does. Raises UnknownTopicError."""

    def positions_at(self, topics: Iterable[str], ts_ms: int) -> Mapping[TopicPartition, int]:
        """Of every partition, the offset of the first record with `ts_ms` or later; the end where all are earlier.

        Before it, every retained record is earlier; behind it, where times do not rise, some may be. Raises
        UnknownTopicError.
        """

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
