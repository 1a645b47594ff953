"""Reading the rows of a source as they are now, by ranges of the key: what a mirror is compared with.

Short statements without locks, on a connection in autocommit mode. Rows come as capture would write them to the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from connectors.capture.running import CaptureStoppedError
from connectors.table import Table

Key = tuple[str, ...]


class IncomparableError(CaptureStoppedError):
    """The rows of one table cannot be looked up by their key; those of others can."""


class Range(NamedTuple):
    """Rows behind `low` up to `high`, which is among them; None: no bound."""

    low: Key | None
    high: Key | None


class Keys(NamedTuple):
    """Rows with these keys."""

    keys: Sequence[Key]


Segment = Range | Keys


class Digest(NamedTuple):
    """How many rows there are, and two sums over what they hold."""

    rows: int
    first: int
    second: int


class Written(NamedTuple):
    """A row as capture writes it: key and value of a message."""

    key: bytes | None
    value: bytes


class SourceRows(Protocol):
    """The declared tables of one source. Keys are text as PostgreSQL has it for the declared types.

    All methods raise CaptureStoppedError where a person must act, and SourceUnavailableError where the source is gone;
    those of one table IncomparableError.
    """

    def is_orderly(self, table: Table) -> bool:
        """Whether keys have the same order here and in PostgreSQL, so that ranges of them are the same rows."""

    def last_of(self, table: Table, after: Key | None, count: int) -> Key | None:
        """The key of the `count`-th row behind a key; None where there are fewer. For orderly tables."""

    def page(self, table: Table, after: Sequence[str] | None, count: int) -> tuple[list[Written], Sequence[str] | None]:
        """Up to `count` rows in the order that the source has for the keys, and behind what the next page begins."""

    def mirrored(self, table: Table) -> Sequence[str] | None:
        """PostgreSQL expressions over a mirror's row `m` whose texts `digest` sums up; None where it cannot."""

    def digest(self, table: Table, segment: Segment) -> Digest | None:
        """Sums over the segment's rows, computed in the source; None where it refuses, or cannot for this table."""

    def rows(self, table: Table, segment: Segment) -> list[Written]:
        """The segment's rows."""

    def mark(self) -> str:
        """A place in the source's log behind everything that is committed now."""

    def has_passed(self, mark: str, captured: str) -> bool:
        """Whether a capture that stored this position has brought everything before the mark."""

    def close(self) -> None:
        """Release the connection."""


def postgres_row_hash(texts: Sequence[str]) -> str:
    """The expression that hashes a row of these texts, in PostgreSQL: each behind its length, NULL without one."""
    return "md5(concat(" + ", ".join(f"octet_length({text}), ':', {text}" for text in texts) + "))"


def postgres_digest(hash_: str, place: str) -> str:
    """The statement that sums the hashes of rows up, in PostgreSQL; `place` is what follows FROM."""
    return (  # OFFSET 0 keeps the subquery apart, so that the hash is computed once
        "SELECT count(*), coalesce(sum(('x' || substr(h, 1, 15))::bit(60)::bigint), 0), "
        f"coalesce(sum(('x' || substr(h, 16, 15))::bit(60)::bigint), 0) FROM (SELECT {hash_} AS h FROM {place} OFFSET 0) AS s"
    )


def canonical(expression: str, type_: str) -> str:
    """A text that equal values of a PostgreSQL type share, whichever way they were written."""
    base = "" if type_.endswith("[]") else type_.partition("(")[0]
    if base == "json":
        return f"({expression})::jsonb::text"
    if base == "numeric":
        return f"trim_scale({expression})::text"
    if base == "character":
        return f"rtrim(({expression})::text)"
    if base == "boolean":
        return f"CASE WHEN {expression} THEN 't' WHEN NOT {expression} THEN 'f' END"
    return f"({expression})::text"
