"""What an event can be, and what a value can be."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias

import msgspec

from connectors.errors import RowtideError


class Unavailable(Enum):
    """The value of a column that the source did not send because it did not change."""

    UNAVAILABLE = "unavailable"


UNAVAILABLE: Final = Unavailable.UNAVAILABLE
Value: TypeAlias = str | Literal[Unavailable.UNAVAILABLE] | None


class Change(msgspec.Struct, frozen=True, gc=False):
    """One row change.

    Args:
        table: the declared table's name.
        op: `c` created, `u` updated, `d` deleted, `r` read by a snapshot.
        key: the key columns' values in the order of `Table.key`; never NULL.
        row: the values in the order of `Table.columns`; None for a deletion. `before` images are not
            kept: PostgreSQL invents values in them.
        ts_ms: when the source committed it, in ms since the epoch (the envelope's own time where the source gives none).
        transaction: what groups the events of one source transaction, None where unknown.
        snapshot: whether a snapshot read it.
        cascades: whether the source's foreign keys acted on it without sending what they did (MySQL and MariaDB,
            unless the session had switched foreign_key_checks off).
        place: the row's place in the source's log (file, position, row), where the source's family needs it: the
            deletion and the creation that one change of a key becomes share it.
        order: the change's number within its transaction, over all tables, where the source tells it.
    """

    table: str
    op: Literal["c", "u", "d", "r"]
    key: tuple[str, ...]
    row: tuple[Value, ...] | None
    ts_ms: int
    transaction: str | None = None
    snapshot: bool = False
    cascades: bool = False
    place: tuple[str, int, int] | None = None
    order: int | None = None


class Truncate(msgspec.Struct, frozen=True):
    """All rows of a table went.

    Args:
        order: as in `Change`.
        ends: whether it ends its transaction: Debezium tells no end of one that MySQL or MariaDB began for it.
    """

    table: str
    ts_ms: int
    transaction: str | None = None
    order: int | None = None
    ends: bool = False


SNAPSHOT = "snapshot:"  # so begin the names of the transactions in which our captures tell the rows of whole tables


class Boundary(msgspec.Struct, frozen=True):
    """The beginning or end of a source transaction; between both, everything in the topic belongs to it.

    Args:
        counts: at the end, where the source tells it: how many changes each declared table has in the transaction.
    """

    status: Literal["BEGIN", "END"]
    transaction: str
    ts_ms: int
    counts: tuple[tuple[str, int], ...] | None = None


class Heartbeat(msgspec.Struct, frozen=True):
    """Business time has reached ts_ms without a change."""

    ts_ms: int


class ForeignKey(msgspec.Struct, frozen=True):
    """A foreign key of the source: rows of `table` refer by `columns` to `parent_columns` of `parent`.

    Args:
        on_delete: what the source does with the rows when their parent is deleted; one of ACTIONS.
        on_update: what it does with them when the columns they refer to change; one of ACTIONS.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


ACTIONS: Final = frozenset({"CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"})


class ForeignKeys(msgspec.Struct, frozen=True):
    """All foreign keys among the source's captured tables from here on; they replace those told before."""

    keys: tuple[ForeignKey, ...]
    ts_ms: int


class Ignored(msgspec.Struct, frozen=True):
    """Nothing to apply: a tombstone, a schema change, a logical message, or a table nobody declared."""

    reason: Literal["tombstone", "schema-change", "message", "undeclared-table"]
    table: str | None = None


Event: TypeAlias = Change | Truncate | Boundary | Heartbeat | ForeignKeys | Ignored


class EventRefusedError(RowtideError):
    """The message cannot be an event of ours; it is to be parked. Its text contains no value of a row."""
