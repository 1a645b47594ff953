"""Parked events: events that could not be applied, kept whole until a person has dealt with them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from connectors.log import Record
from connectors.state import connect

if TYPE_CHECKING:
    from daemon.app import App


@dataclass(frozen=True)
class ParkedEvent:
    """One parked event: where it stood in the log, what it was, and why it could not be applied."""

    id: int
    topic: str
    partition: int
    offset: int
    ts: datetime | None
    key: bytes | None
    value: bytes | None
    reason: str
    parked_at: datetime

    def as_line(self) -> dict[str, Any]:
        """As `rowtide log append` takes it, with the reason beside."""
        ts_ms = round(self.ts.timestamp() * 1000) if self.ts else 0
        record = Record(self.topic, self.partition, self.offset, ts_ms, self.key, self.value)
        return {**as_line(record), "reason": self.reason}


def as_line(record: Record) -> dict[str, Any]:
    """A record as one line of JSON: text where it is UTF-8, else base64; the partition where it is not the first."""
    line: dict[str, Any] = {"topic": record.topic}
    if record.partition:
        line["partition"] = record.partition
    for name, data in (("key", record.key), ("value", record.value)):
        try:
            line[name] = None if data is None else data.decode()
        except UnicodeDecodeError:
            line[name + "_base64"] = base64.b64encode(data or b"").decode()
    line["ts"] = record.ts_ms
    return line


def parked_events(app: App) -> list[ParkedEvent]:
    """The instance's parked events, oldest first."""
    with connect(app.dsn) as connection:
        rows = connection.execute(
            'SELECT id, topic, partition, "offset", ts, key, value, reason, parked_at FROM rowtide.parked_event '
            "WHERE instance = %s ORDER BY id",
            [app.name],
        ).fetchall()
    return [ParkedEvent(*row) for row in rows]


def forget(app: App) -> int:
    """Forget the parked events, which a person has dealt with. Returns how many."""
    with connect(app.dsn) as connection:
        return connection.execute("DELETE FROM rowtide.parked_event WHERE instance = %s", [app.name]).rowcount
