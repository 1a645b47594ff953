"""Where a capture stands: stored in our log with every append, so that both move in one step."""

from __future__ import annotations

from typing import Literal

import msgspec


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in the source.

    Args:
        phase: reading tables; reading what changed meanwhile; streaming; or everything is to be read anew.
        lsn: the commit of the last transaction that is in the log, wholly or in part.
        index: how many messages of that transaction are in the log.
        reached: all that was committed before this place is in the log; the source never hears of more.
        partial: whether more messages of that transaction follow.
        marks: the publication's marks of the tables, by which a gap in it is noticed.
        tables: those the snapshot has still to read, the one it is reading first.
        last: the key it has come to in that one, as text.
        rows: the rows of that one so far.
        emptying: whether reading a table begins with taking its earlier rows back.
        wanted: tables that are to be read anew beside the stream.
        snapshot: names the snapshot's unit, while it is open.
        until: where the catching up ends.
    """

    phase: Literal["snapshot", "catchup", "stream", "anew"]
    lsn: int = 0
    index: int = 0
    reached: int = 0
    partial: bool = False
    marks: dict[str, int] = {}
    tables: tuple[str, ...] = ()
    last: tuple[str, ...] | None = None
    rows: int = 0
    emptying: bool = False
    wanted: tuple[str, ...] = ()
    snapshot: int = 0
    until: int = 0

    def encode(self) -> str:
        """As the log stores it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Position:
        """From what the log stores."""
        return msgspec.json.decode(text, type=cls)
