"""What QuickBooks was asked, told from the audit table to whoever asks. The client writes it, redacted; here it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from connectors.errors import RowtideError
from connectors.state import connect

if TYPE_CHECKING:
    from daemon.app import App

_NAMES = ("at (UTC)", "customer", "operation", "outcome", "HTTP", "fault", "ms", "requestid", "intuit_tid")
_COLUMNS = ("operation", "outcome", "http_status", "fault_code", "duration_ms", "requestid", "intuit_tid")
_AGO = re.compile(r"(\d{1,6})\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Filter:
    """Which requests are asked for.

    Args:
        record: about this customer, alone or in a batch.
        since: not before this moment.
        failed: only those that did not succeed; of a batch, also where one of its operations did not.
        limit: so many at most, the newest.
    """

    record: str | None = None
    since: datetime | None = None
    failed: bool = False
    limit: int = 100


def moment(text: str | None, now: datetime | None = None) -> datetime | None:
    """A moment as people write it: in ISO 8601 (UTC unless it says otherwise), or how long ago: 90m, 2h, 3d."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text.strip()):
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise RowtideError(
            f"“{text}” is no time.", hint="Write it as 2026-02-14T08:00, or how long ago: 90m, 2h, 3d."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def listed(app: App, wanted: Filter) -> list[dict[str, Any]]:
    """The requests of an instance, the newest first: all that is kept of each, which is nothing about a person.

    A batch names the customers that its operations were about, as `records`.
    """
    conditions = ["(instance = %(instance)s OR instance IS NULL)"]
    if wanted.record is not None:
        conditions.append("(record = %(record)s OR (operation = 'batch' AND request @> %(item)s))")
    if wanted.since is not None:
        conditions.append("at >= %(since)s")
    if wanted.failed:
        conditions.append("(outcome <> 'done' OR jsonb_path_exists(response, '$.items[*].codes'))")
    values = {
        "instance": app.name,
        "record": wanted.record,
        "item": Jsonb({"items": [{"record": wanted.record}]}),
        "since": wanted.since,
        "limit": wanted.limit,
    }
    with connect(app.dsn) as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT * FROM rowtide.quickbooks_audit WHERE {' AND '.join(conditions)}"
            " ORDER BY at DESC, id DESC LIMIT %(limit)s",
            values,
        ).fetchall()
    return [{**row, "records": _records(row)} for row in rows]


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Requests as lines for people, in columns, with their names above."""
    table = [list(_NAMES)]
    for row in rows:
        about = row["record"] or (f"{len(row['records'])} customers" if row["records"] else "")
        told = [f"{row['at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}", about, *(row[name] for name in _COLUMNS)]
        told[-3] = f"{row['duration_ms']:.0f}"
        table.append(["" if value is None else str(value) for value in told])
    widths = [max(len(line[n]) for line in table) for n in range(len(_NAMES))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table]


def _records(row: Mapping[str, Any]) -> list[str]:
    if row["record"] is not None:
        return [row["record"]]
    items = (row["request"] or {}).get("items", [])
    return [item["record"] for item in items if item.get("record")]
