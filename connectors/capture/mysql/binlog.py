"""The replication protocol: ask a server for its binlog and take the events as they come.

The connection is PyMySQL's up to the request; from there on its socket is read here, with a time limit, so that a
reader can be stopped and notices a silent server.
"""

from __future__ import annotations

import struct
import time
import uuid
import zlib
from types import TracebackType
from typing import Any, NamedTuple, Self

import pymysql

from connectors.capture.mysql.connection import Connection, Dsn, Server, connect
from connectors.capture.mysql.errors import BinlogBrokenError, code
from connectors.capture.mysql.position import MysqlGtids, Place

_REGISTER, _DUMP, _DUMP_GTID = 0x15, 0x12, 0x1E
_ROTATE, _FORMAT, _HEARTBEAT, _HEARTBEAT_2 = 4, 15, 27, 41
_HEADER = struct.Struct("<IBIIIH")
_POLL = 0.2
_RECEIVE = 256 * 1024


class RawEvent(NamedTuple):
    """An event as the binlog has it, without header and checksum.

    Args:
        kind: the type's number.
        time: when it was logged, in seconds since the epoch.
        server_id: of the server it was logged at first.
        end: the offset behind it in its file; 0 for events the server made up for us.
    """

    kind: int
    time: int
    server_id: int
    end: int
    body: bytes


class BinlogRefusedError(Exception):
    """The server does not send its binlog from the position asked for.

    Args:
        number: the server's error number.
        text: its reason; it names files and GTIDs, never values.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number = number
        self.text = text


class Binlog:
    """A running stream of events.

    Args:
        server_id: our number among the server's replicas: another reader with the same one is thrown out.
        gtids: where to begin, for servers with GTIDs; else `place`.
        heartbeat_seconds: after so much silence the server says that there is nothing new.
    """

    def __init__(
        self,
        dsn: Dsn,
        server: Server,
        *,
        server_id: int,
        gtids: str | None,
        place: Place,
        heartbeat_seconds: float,
    ) -> None:
        self._heartbeat = heartbeat_seconds
        self._connection = connect(dsn)
        try:
            self._checksum = False  # until the format is told
            self._prepare(server, gtids, server_id)
            self._send(_REGISTER, struct.pack("<IBBBHII", server_id, 0, 0, 0, 0, 0, 0))
            self._answered()
            if server.mariadb or gtids is None:
                start = 4 if gtids is not None else place.offset
                name = b"" if gtids is not None else place.file.encode()
                self._send(_DUMP, struct.pack("<IHI", start, 0, server_id) + name)
            else:
                known = MysqlGtids(gtids).encoded()
                body = struct.pack("<HIIQI", 0x04, server_id, 0, 4, len(known)) + known
                self._send(_DUMP_GTID, body)
            self._socket: Any = self._connection._sock  # type: ignore[attr-defined]  # noqa: SLF001
            self._socket.settimeout(_POLL)
        except BaseException:
            self.close()
            raise
        self._buffer = bytearray()
        self._at = 0
        self._heard = time.monotonic()
        self.file = place.file
        self.offset = place.offset

    def _prepare(self, server: Server, gtids: str | None, server_id: int) -> None:
        """Tell the server, in variables, what kind of replica we are."""
        period = max(1_000_000, int(self._heartbeat * 1e9))
        variables = {
            "master_binlog_checksum": "@@global.binlog_checksum",
            "master_heartbeat_period": str(period),
        }
        if server.mariadb:
            variables["mariadb_slave_capability"] = "4"
            if gtids is not None:
                variables["slave_connect_state"] = f"'{gtids}'"
                variables["slave_gtid_strict_mode"] = "1"
                variables["slave_gtid_ignore_duplicates"] = "0"
        else:
            variables["source_binlog_checksum"] = "@@global.binlog_checksum"
            variables["source_heartbeat_period"] = str(period)
            identity = uuid.uuid5(uuid.NAMESPACE_OID, f"rowtide:{server_id}")
            variables["replica_uuid"] = variables["slave_uuid"] = f"'{identity}'"
        with self._connection.cursor() as cursor:
            cursor.execute("SET " + ", ".join(f"@{name} = {text}" for name, text in variables.items()))

    def _send(self, command: int, body: bytes) -> None:
        connection: Any = self._connection
        connection._next_seq_id = 0  # noqa: SLF001 - as PyMySQL begins a command
        connection.write_packet(bytes([command]) + body)

    def _answered(self) -> None:
        """Take the answer to a command that must be granted."""
        connection: Any = self._connection
        try:
            connection._read_ok_packet()  # noqa: SLF001 - PyMySQL has no public way
        except pymysql.err.OperationalError as error:
            raise BinlogRefusedError(code(error), str(error.args[-1])) from None

    # --- reading ---

    def read(self) -> RawEvent | None:
        """The next event; None where none has come for a moment.

        Raises BinlogRefusedError where the server gives a reason, BinlogBrokenError where the stream ended, was
        silent for too long or is damaged.
        """
        packet = self._packet()
        if packet is None:
            if time.monotonic() - self._heard > max(10, 3 * self._heartbeat):
                raise BinlogBrokenError("the server is silent")
            return None
        if packet[0] != 0:
            self._ended(packet)
        moment, kind, server_id, size, end, _ = _HEADER.unpack_from(packet, 1)
        if size != len(packet) - 1:
            raise BinlogBrokenError("an event is not as long as it says")
        stop = len(packet)
        if kind == _FORMAT:
            self._checksum = packet[-5] == 1
            stop -= 4
        elif kind == _ROTATE and end == 0:  # may be sent before the format is known
            stop -= 4 * _checked(packet)
        elif self._checksum:
            stop -= 4
            if not _checked(packet):
                raise BinlogBrokenError("an event's checksum is wrong")
        body = packet[20:stop]
        if kind == _ROTATE:
            self.file, self.offset = body[8:].decode(), int.from_bytes(body[:8], "little")
        elif kind in (_HEARTBEAT, _HEARTBEAT_2):
            self.offset = end or self.offset
        elif end:
            self.offset = end
        return RawEvent(kind, moment, server_id, end, body)

    def _ended(self, packet: bytes) -> None:
        if packet[0] == 0xFF:
            number = int.from_bytes(packet[1:3], "little")
            text = packet[9:] if packet[3:4] == b"#" else packet[3:]
            raise BinlogRefusedError(number, text.decode("utf-8", "replace"))
        raise BinlogBrokenError("the server ended the stream")

    def _packet(self) -> bytes | None:
        """One whole message of the protocol; parts of 16 MiB are put together."""
        parts: list[bytes] = []
        while True:
            if not self._fill(4, waiting=bool(parts)):
                return None
            size = int.from_bytes(self._buffer[self._at : self._at + 3], "little")
            if not self._fill(4 + size, waiting=bool(parts)):
                return None
            begin = self._at + 4
            part = bytes(memoryview(self._buffer)[begin : begin + size])
            self._at = begin + size
            if size < 0xFFFFFF and not parts:
                return part
            parts.append(part)
            if size < 0xFFFFFF:
                return b"".join(parts)

    def _fill(self, size: int, *, waiting: bool) -> bool:
        """Have so many bytes in the buffer. Gives up at a silence, unless in the middle of a message."""
        while len(self._buffer) - self._at < size:
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            try:
                received = self._socket.recv(_RECEIVE)
            except TimeoutError:
                if not waiting:
                    return False
                if time.monotonic() - self._heard > 60:
                    raise BinlogBrokenError("the server is silent in the middle of an event") from None
                continue
            if not received:
                raise BinlogBrokenError("the server closed the connection")
            self._buffer += received
            self._heard = time.monotonic()
        return True

    @property
    def place(self) -> Place:
        """Behind the last event that was read."""
        return Place(self.file, self.offset)

    @property
    def pending(self) -> bool:
        """Whether more has been received than was read."""
        return len(self._buffer) - self._at > 4

    # --- ending ---

    def close(self) -> None:
        """Drop the connection; the server notices."""
        connection: Any = self._connection
        connection._force_close()  # noqa: SLF001 - a polite end would wait for the stream's

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked(packet: bytes) -> bool:
    """Whether a packet's last four bytes are the checksum of its event."""
    return zlib.crc32(memoryview(packet)[1:-4]) == int.from_bytes(packet[-4:], "little")


def drop(connection: Connection) -> None:
    """Close a connection in the middle of a result, without reading the rest of it."""
    held: Any = connection
    held._force_close()  # noqa: SLF001 - as above
