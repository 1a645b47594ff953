"""Positions in a binlog: what GTIDs a capture has seen, and where in which file it is."""

from __future__ import annotations

import struct
import uuid
from typing import Literal, NamedTuple

import msgspec


class Place(NamedTuple):
    """Where an event ends in the source's files. Files sort by their number, which their name ends with."""

    file: str
    offset: int

    @property
    def order(self) -> tuple[int, int]:
        """What places of one server compare by."""
        number = self.file.rpartition(".")[2]
        return (int(number) if number.isdigit() else -1, self.offset)


class MariadbGtids:
    """MariaDB's: the last transaction seen of each replication domain (`0-1-4114,1-1-7`)."""

    def __init__(self, text: str = "") -> None:
        self._last: dict[int, tuple[int, int]] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            domain, server, sequence = (int(number) for number in part.split("-"))
            self._last[domain] = (server, sequence)

    def add(self, gtid: str) -> None:
        """Take note of a transaction."""
        domain, server, sequence = (int(number) for number in gtid.split("-"))
        self._last[domain] = (server, sequence)

    def __contains__(self, gtid: str) -> bool:
        domain, _, sequence = (int(number) for number in gtid.split("-"))
        return domain in self._last and self._last[domain][1] >= sequence

    def covers(self, other: str) -> bool:
        """Whether all of another's transactions are among these."""
        return all(gtid.strip() in self for gtid in other.split(",") if gtid.strip())

    def __str__(self) -> str:
        return ",".join(f"{d}-{server}-{sequence}" for d, (server, sequence) in sorted(self._last.items()))


class MysqlGtids:
    """MySQL's: intervals of transaction numbers by the server they began at (`UUID:1-5:7,UUID:1-3`)."""

    def __init__(self, text: str = "") -> None:
        self._intervals: dict[str, list[tuple[int, int]]] = {}  # half open, sorted, apart
        for part in filter(None, (piece.strip() for piece in text.replace("\n", "").split(","))):
            server, *intervals = part.split(":")
            for interval in intervals:
                first, _, last = interval.partition("-")
                self._insert(str(uuid.UUID(server)), int(first), int(last or first) + 1)

    def _insert(self, server: str, start: int, end: int) -> None:
        known = self._intervals.setdefault(server, [])
        if known and known[-1][1] == start:  # the usual case: the next transaction
            known[-1] = (known[-1][0], end)
            return
        merged: list[tuple[int, int]] = []
        for first, behind in sorted([*known, (start, end)]):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], behind))
            else:
                merged.append((first, behind))
        self._intervals[server] = merged

    def add(self, gtid: str) -> None:
        """Take note of a transaction."""
        server, _, number = gtid.rpartition(":")
        self._insert(server, int(number), int(number) + 1)

    def __contains__(self, gtid: str) -> bool:
        server, _, number = gtid.rpartition(":")
        return any(start <= int(number) < end for start, end in self._intervals.get(server, ()))

    def covers(self, other: str) -> bool:
        """Whether all of another's transactions are among these."""
        wanted = MysqlGtids(other)
        return all(
            any(start <= first and behind <= end for start, end in self._intervals.get(server, ()))
            for server, intervals in wanted._intervals.items()
            for first, behind in intervals
        )

    def __str__(self) -> str:
        parts = []
        for server, intervals in sorted(self._intervals.items()):
            listed = ":".join(f"{s}-{e - 1}" if e - s > 1 else str(s) for s, e in intervals)
            parts.append(f"{server}:{listed}")
        return ",".join(parts)

    def encoded(self) -> bytes:
        """As COM_BINLOG_DUMP_GTID takes it."""
        body = [struct.pack("<Q", len(self._intervals))]
        for server, intervals in sorted(self._intervals.items()):
            body.append(uuid.UUID(server).bytes + struct.pack("<Q", len(intervals)))
            body.extend(struct.pack("<QQ", start, end) for start, end in intervals)
        return b"".join(body)


Gtids = MariadbGtids | MysqlGtids


def gtids(text: str, *, mariadb: bool) -> Gtids:
    """The GTIDs that a text tells, of either family. Raises ValueError where it tells none."""
    return MariadbGtids(text) if mariadb else MysqlGtids(text)


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a capture stands: stored in our log with every append, so that both move in one step.

    Args:
        phase: reading tables; reading what changed meanwhile; streaming; or everything is to be read anew.
        gtids: the transactions that are in the log wholly; None where the server has no GTIDs.
        file: the same as a place in the files of the server called `server`.
        partial: the transaction that follows, where a part of it is in the log already.
        index: how many of its messages are.
        tables: those the snapshot has still to read, the one it is reading first.
        last: the key it has come to in that one.
        rows: the rows of that one so far.
        emptying: whether reading a table begins with taking its earlier rows back.
        wanted: tables that are to be read anew beside the stream.
        snapshot: names the snapshot's unit while it is open.
        until_file: where catching up ends, on the server called `server`.
        until_gtids: the same for another server.
        columns: the captured columns of each table as the source last described them.
        keys: a mark of the foreign keys that were told last.
    """

    phase: Literal["snapshot", "catchup", "stream", "anew"]
    gtids: str | None = None
    file: str = ""
    offset: int = 0
    server: str = ""
    partial: str = ""
    index: int = 0
    tables: tuple[str, ...] = ()
    last: tuple[str, ...] | None = None
    rows: int = 0
    emptying: bool = False
    wanted: tuple[str, ...] = ()
    snapshot: str = ""
    until_file: str = ""
    until_offset: int = 0
    until_gtids: str = ""
    columns: dict[str, dict[str, str]] = {}
    keys: str = ""

    @property
    def place(self) -> Place:
        """The place in the files."""
        return Place(self.file, self.offset)

    def encode(self) -> str:
        """As the log stores it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Position:
        """From what the log stores."""
        return msgspec.json.decode(text, type=cls)

    def with_(self, **changes: object) -> Position:
        """The position with some of its parts changed."""
        return msgspec.structs.replace(self, **changes)
