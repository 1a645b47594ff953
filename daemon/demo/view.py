"""The demo's terminal view: tables, late fees, lag and rates, drawn anew a few times a second."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

from rich.columns import Columns
from rich.console import Group
from rich.panel import Panel
from rich.table import Table

from consumers.worker import BatchStats
from daemon.app import App

TOP_FEES = (
    "SELECT rental_id, last_name, days_overdue AS days, fee_amount AS fee, fee_status FROM late_fees "
    "JOIN customer USING (customer_id) WHERE return_date IS NULL ORDER BY fee_amount DESC, rental_id LIMIT 8"
)
ITEMS = "SELECT status, count(*) AS items FROM inventory_status GROUP BY status ORDER BY status"
STANDING = (
    "SELECT status, count(*) AS customers, sum(balance) AS owed FROM customer_account GROUP BY status ORDER BY status"
)


class Rates:
    """What the last seconds brought: events, batches, lag."""

    def __init__(self, seconds: float = 5) -> None:
        self._seconds = seconds
        self._batches: deque[tuple[float, BatchStats]] = deque()
        self.lags: list[float] = []

    def add(self, stats: BatchStats) -> None:
        """Note a batch."""
        self._batches.append((monotonic(), stats))
        if stats.lag_ms is not None and stats.events:
            self.lags.append(stats.lag_ms)

    def recent(self) -> tuple[float, float, float]:
        """Events a second, batches a second, mean ms of a batch."""
        now = monotonic()
        while self._batches and self._batches[0][0] < now - self._seconds:
            self._batches.popleft()
        batches = [stats for _, stats in list(self._batches)]
        events = sum(stats.events for stats in batches)
        mean = sum(stats.seconds for stats in batches) / len(batches) * 1000 if batches else 0.0
        return events / self._seconds, len(batches) / self._seconds, mean


def draw(app: App, rates: Rates) -> Group:
    """One picture of the state."""
    status = app.status()
    events, batches, mean = rates.recent()
    behind = sum(status["lag_events"].values())
    head = (
        f"business time [bold]{status['clock']}[/]   {events:.0f} events/s in {batches:.0f} batches/s of {mean:.1f} ms   "
        f"{behind} events behind   {status['parked']} parked"
    )
    tables = _table("derived tables", ["table", "rows"], list(status["rows"].items()))
    parts = [tables]
    for title, query in (("late fees, still growing", TOP_FEES), ("inventory", ITEMS), ("customers", STANDING)):
        found = app.query(title, query)
        parts.append(_table(title, found.columns, found.rows))
    return Group(Panel(head, title="Rowtide"), Columns(parts))


def _table(title: str, columns: list[str], rows: list[tuple[Any, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*[str(value) for value in row])
    return table
