"""Appends what a capture reads to the log, each time with the position it leads to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from connectors.capture.postgres.connection import losing
from connectors.capture.postgres.position import Position
from connectors.capture.running import SourceUnavailableError
from connectors.event import Source
from connectors.failpoints import failpoint
from connectors.log import Log, LogUnreachableError, Message
from connectors.table import Table

CHUNK = 5000
CHUNK_BYTES = 4 * 1024 * 1024

Encoded = tuple[bytes | None, bytes]


class Writer:
    """The way from one source to one topic.

    Args:
        name: the source's name in the events.
        database: the source database's name.
        to_business_ms: the business time of a moment of the source, both in ms.
    """

    def __init__(
        self, log: Log, topic: str, *, name: str, database: str, schema: str, to_business_ms: Callable[[int], int]
    ) -> None:
        self._log = log
        self._topic = topic
        self.name = name
        self.database = database
        self.schema = schema
        self.to_business_ms = to_business_ms
        self._stored: str | None = None

    def now_ms(self) -> int:
        """Business time now."""
        return self.to_business_ms(round(time.time() * 1000))

    def position(self) -> Position | None:
        """Where the log ends in the source. To be asked for before the first append, and after one that failed."""
        with _waiting_for_log():
            self._stored = self._log.source_position(self._topic)
        return None if self._stored is None else Position.decode(self._stored)

    def append(self, messages: Sequence[Encoded], ts_ms: int, position: Position) -> None:
        """Make the messages durable, and with them the position behind them.

        Raises FencedError where the log is no longer where the last append or `position` has left it.
        """
        failpoint("before_append")
        following = position.encode()
        with _waiting_for_log():
            self._log.append(
                self._topic,
                [Message(key, value, ts_ms) for key, value in messages],
                source_position=following,
                expect=self._stored,
            )
        self._stored = following
        failpoint("appended")

    def source(self, table: Table, ts_ms: int, lsn: int, snapshot: str | None = None) -> Source:
        """The `source` block of an event."""
        return Source("postgresql", self.name, self.database, self.schema, table.name, ts_ms, lsn, snapshot)


@contextmanager
def _waiting_for_log() -> Iterator[None]:
    """Turn the log's absence into SourceUnavailableError."""
    try:
        with losing("log"):
            yield
    except LogUnreachableError as error:
        raise SourceUnavailableError(f"The connection to the log was lost: {error.message}") from None


def moved(position: Position, **changes: object) -> Position:
    """The position with some of its parts changed."""
    return msgspec.structs.replace(position, **changes)
