"""The replication connection: PostgreSQL's streaming protocol on psycopg's connection.

The server is told a position only by `confirm`: no driver confirms by itself what is not durable yet.
Source: PostgreSQL's documentation, “Streaming Replication Protocol”.
"""

from __future__ import annotations

import select
import struct
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

import psycopg
from psycopg import pq, sql

from connectors.capture.postgres.connection import connect

_HEADER = struct.Struct(">QQq")
_KEEPALIVE = struct.Struct(">QqB")
_STATUS = struct.Struct(">cQQQqB")
_DATA, _ALIVE = 0x77, 0x6B  # w, k


class Created(NamedTuple):
    """A new slot.

    Args:
        lsn: the consistent point, where its changes begin.
        snapshot: the name of the snapshot that shows all before; valid while the connection lives and is idle.
    """

    lsn: int
    snapshot: str


class Replication:
    """A replication connection; a context manager. Errors are psycopg's."""

    def __init__(self, info: str) -> None:
        self._connection = connect(info)
        self._link = self._connection.pgconn
        self.reached = 0
        """All that was committed before this place in the source's WAL has been read, once `read` returns None."""

    def create_slot(self, name: str, go_on: Callable[[], bool]) -> Created | None:
        """Make the slot and export the snapshot that shows exactly what the slot will not send.

        The source waits for the transactions that are open; while it does, `go_on` is asked every half second
        whether we shall (None is returned if not).
        """
        statement = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput (SNAPSHOT 'export')")
        self._send(statement.format(sql.Identifier(name)))
        while self._link.is_busy():
            if not go_on():
                return None
            self.wait(0.5)
            self._link.consume_input()
        result = self._result()
        if result is None or result.status != pq.ExecStatus.TUPLES_OK:
            raise self._failure(result)
        values = [result.get_value(0, column) or b"" for column in (1, 2)]
        self._result()
        return Created(parse_lsn(values[0].decode()), values[1].decode())

    def _send(self, statement: sql.Composed) -> None:
        self._link.send_query(statement.as_bytes(self._connection))
        while self._link.flush():
            select.select([], [self._link.socket], [])

    def _result(self) -> pq.abc.PGresult | None:
        """The next result. Waits outside of libpq, which would stop all our threads while it does."""
        while self._link.is_busy():
            self.wait(1)
            self._link.consume_input()
        return self._link.get_result()

    def start(self, slot: str, lsn: int, publication: str) -> None:
        """Begin to stream the changes of transactions that commit at or behind `lsn`."""
        options = sql.SQL("(proto_version '1', publication_names {})").format(
            sql.Literal('"' + publication.replace('"', '""') + '"')
        )
        statement = sql.SQL("START_REPLICATION SLOT {} LOGICAL {} {}").format(
            sql.Identifier(slot), sql.SQL(format_lsn(lsn)), options
        )
        self._send(statement)
        result = self._result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            raise self._failure(result)

    def read(self) -> bytes | None:
        """The next message of the plug-in; None if none has come yet."""
        link = self._link
        fresh = False
        while True:
            count, data = link.get_copy_data(1)
            if count > 0:
                kind = data[0]
                if kind == _DATA:
                    self.reached = max(self.reached, _HEADER.unpack_from(data, 1)[1])
                    return bytes(data[25:])
                if kind == _ALIVE:
                    self._alive(data)
            elif count == 0:
                if fresh:
                    return None
                link.consume_input()
                fresh = True
            else:
                raise self._failure(self._result())

    def _alive(self, data: memoryview) -> None:
        reached, _, reply = _KEEPALIVE.unpack_from(data, 1)
        self.reached = max(self.reached, reached)
        if reply:
            self.confirm(self._confirmed)

    _confirmed = 0

    def confirm(self, lsn: int, *, ask: bool = False) -> None:
        """Tell the source that all before `lsn` is durable; `ask` wants a keepalive in answer."""
        self._confirmed = max(self._confirmed, lsn)
        received = max(self.reached, self._confirmed)
        self._link.put_copy_data(_STATUS.pack(b"r", received, self._confirmed, self._confirmed, 0, ask))
        self._link.flush()

    def wait(self, seconds: float) -> None:
        """Block until something may have come, at most so long."""
        select.select([self._link.socket], [], [], seconds)

    def _failure(self, result: pq.abc.PGresult | None) -> psycopg.Error:
        if result is None or result.status == pq.ExecStatus.COMMAND_OK:
            return psycopg.OperationalError("the source ended the stream")
        return psycopg.errors.error_from_result(result)

    def close(self) -> None:
        """End the connection; the source frees the slot."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def parse_lsn(text: str) -> int:
    """A place in the WAL as a number: `16/B374D848`."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(lsn: int) -> str:
    """A place in the WAL as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
