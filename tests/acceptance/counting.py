"""A domain that counts: rows of one table, appended to the log as a source's changes, summed up by a model."""

from __future__ import annotations

from pathlib import Path

from domain_folder import write_domain

from connectors.event import Source, encode_change
from connectors.log import Message
from connectors.log.embedded import EmbeddedLog
from connectors.table import Column, Table

TASK = Table("task", (Column("id", "integer"), Column("n", "integer")), ("id",))
TAKEOVER = 15.0  # seconds within which a standby leads


def counting_domain(folder: Path) -> Path:
    return write_domain(
        folder / "counted",
        "CREATE TABLE task (id integer PRIMARY KEY, n integer);",
        {"total": "-- key: part\nSELECT id % 3 AS part, sum(n) AS n FROM task GROUP BY id % 3"},
    )


def append(dsn: str, topic: str, first: int, count: int = 1) -> None:
    """Rows from a number on, each worth one."""
    log = EmbeddedLog(dsn)
    source = Source("postgresql", "s", "d", "public", "task", 1_700_000_000_000)
    rows = [(str(n), "1") for n in range(first, first + count)]
    log.append(topic, [Message(*encode_change(TASK, "c", row[:1], row, source=source), 1) for row in rows])
    log.close()
