"""What a comparison of the mirror with the source is asked for, and what it found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """What is to be compared, and how.

    Args:
        tables: by name; all where empty.
        rows: of a range.
        pace: rows of the source a second at most; None: no limit.
        patience: seconds that the mirror may need to pass the source's place.
        grace: seconds after which another's capture (Debezium) is trusted to have brought what was committed.
        limit: keys that are told of each table.
        wait: how a pause is made, in seconds.
    """

    tables: Sequence[str] = ()
    rows: int = 2000
    pace: float | None = None
    patience: float = 60.0
    limit: int = 20
    on_progress: Callable[[str, int], None] | None = None
    grace: float = 5.0
    wait: Callable[[float], object] = time.sleep


@dataclass
class SourceCheck:
    """What was found of a table.

    Args:
        rows: of the source.
        ranges: compared; `by_rows` of them row by row.
        missing, unexpected, different: rows that only the source has, that only the mirror has, that differ.
        moving: rows that changed each time they were looked at, and were not judged.
        keys: of the first rows that differ, with what is wrong.
        refused: why the table could not be compared; empty where it was.
    """

    name: str
    rows: int = 0
    ranges: int = 0
    by_rows: int = 0
    missing: int = 0
    unexpected: int = 0
    different: int = 0
    moving: int = 0
    keys: list[dict[str, Any]] = field(default_factory=list)
    refused: str = ""

    @property
    def clean(self) -> bool:
        """Whether the mirror is known to have the source's rows."""
        return not (self.missing or self.unexpected or self.different or self.refused)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass
class Result:
    """The tables, and whether the mirror had passed the source's place whenever rows were judged."""

    tables: list[SourceCheck]
    settled: bool = True

    @property
    def clean(self) -> bool:
        """Whether all tables are."""
        return all(table.clean for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"clean": self.clean, "settled": self.settled, "tables": [table.as_dict() for table in self.tables]}
