"""What a process has appended to the embedded log last, for the reader in the same process.

It need not ask the server for what it has just told it, nor wait for the server to say that something has come.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

# A record as the table has it: id, topic, partition, offset, ts_ms, key, value.
Row: TypeAlias = tuple[int, int, int, int, int, bytes | None, bytes | None]
_MOST_ROWS = 1000
_MOST_BYTES = 1024 * 1024


class Handover:
    """Holds a few rows without a hole between their ids, and a signal. All methods may be called from any thread.

    Ids rise in the order of the commits, so nothing can be missing between two that follow each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._size = 0
        self._told, self._tell = socket.socketpair()
        self._told.setblocking(False)
        self._tell.setblocking(False)

    def fileno(self) -> int:
        """What is readable while there is a signal."""
        return self._told.fileno()

    def put(self, rows: Sequence[Row]) -> None:
        """Tell that something was appended: these rows, or (none) who knows what."""
        size = sum([len(row[5] or b"") + len(row[6] or b"") for row in rows])
        with self._lock:
            follows = bool(rows and self._rows) and rows[0][0] == self._rows[-1][0] + 1
            whole = bool(rows) and rows[-1][0] - rows[0][0] == len(rows) - 1
            if not follows or len(self._rows) + len(rows) > _MOST_ROWS or self._size + size > _MOST_BYTES:
                self._rows, self._size = [], 0
            if whole and len(rows) <= _MOST_ROWS and size <= _MOST_BYTES:
                self._rows += rows
                self._size += size
        with suppress(BlockingIOError):  # there are signals enough
            self._tell.send(b"!")

    def take(self, after: int) -> list[Row]:
        """The rows that follow this id at once; none where they are not known. Nothing is held any more."""
        with self._lock:
            rows, self._rows, self._size = self._rows, [], 0
        known = [row for row in rows if row[0] > after]
        return known if known and known[0][0] == after + 1 else []

    def forget(self) -> None:
        """Hold nothing any more: the server may be another one, or another's backup."""
        self.take(0)

    def heard(self) -> bool:
        """Whether there was a signal; there is none any more."""
        try:
            return bool(self._told.recv(4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Release what the signal needs."""
        self._told.close()
        self._tell.close()
