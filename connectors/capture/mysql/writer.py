"""Appends what a capture reads to the log, each time with the position it leads to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psycopg

from connectors.capture.mysql.connection import Server
from connectors.capture.mysql.position import Position
from connectors.capture.running import SourceUnavailableError
from connectors.event import Source
from connectors.failpoints import failpoint
from connectors.log import Log, LogUnreachableError, Message
from connectors.table import Table

CHUNK = 5000
CHUNK_BYTES = 4 * 1024 * 1024


class Writer:
    """The way from one source to one topic.

    Args:
        name: the source's name in the events.
        database: the source database's name.
        to_business_ms: the business time of a moment of the source, both in ms.
    """

    def __init__(self, log: Log, topic: str, *, name: str, database: str, to_business_ms: Callable[[int], int]) -> None:
        self._log = log
        self._topic = topic
        self.name = name
        self.database = database
        self.to_business_ms = to_business_ms
        self.connector = "mysql"
        self._stored: str | None = None

    def serve(self, server: Server) -> None:
        """Events come from this server from here on."""
        self.connector = "mariadb" if server.mariadb else "mysql"

    def now_ms(self) -> int:
        """Business time now."""
        return self.to_business_ms(round(time.time() * 1000))

    def position(self) -> Position | None:
        """Where the log ends in the source. To be asked for before the first append, and after one that failed."""
        try:
            text = self._stored = self._log.source_position(self._topic)
        except (LogUnreachableError, psycopg.OperationalError) as error:
            raise _lost(error) from None
        return None if text is None else Position.decode(text)

    def append(self, messages: Sequence[Message], position: Position) -> None:
        """Make the messages durable, and with them the position behind them.

        Raises FencedError where the log is no longer where the last append or `position` has left it.
        """
        failpoint("before_append")
        following = position.encode()
        try:
            self._log.append(self._topic, messages, source_position=following, expect=self._stored)
        except (LogUnreachableError, psycopg.OperationalError) as error:
            raise _lost(error) from None
        self._stored = following
        failpoint("appended")

    def source(
        self,
        table: Table,
        ts_ms: int,
        *,
        file: str,
        pos: int,
        row: int | None = None,
        gtid: str | None = None,
        snapshot: str | None = None,
        foreign_key_checks: bool = True,
    ) -> Source:
        """The `source` block of an event."""
        return Source(
            self.connector,
            self.name,
            self.database,
            "",
            table.name,
            ts_ms,
            snapshot=snapshot,
            file=file,
            pos=pos,
            row=row,
            gtid=gtid,
            foreign_key_checks=foreign_key_checks,
        )


def _lost(error: LogUnreachableError | psycopg.OperationalError) -> SourceUnavailableError:
    reason = error.message if isinstance(error, LogUnreachableError) else type(error).__name__
    return SourceUnavailableError(f"The connection to the log was lost: {reason}")
