"""The demo's terminal view: tables, lag, rates, customers, drawn anew a few times a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import zip_longest
from time import monotonic
from typing import Any

from rich import box
from rich.table import Table

from consumers.worker import BatchStats
from daemon.app import App


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


def head(title: str, status: dict[str, Any], rates: Rates) -> str:
    """One line on a domain, for rich."""
    events, batches, mean = rates.recent()
    clock = str(status["clock"] or "").partition(".")[0]
    return (
        f"[bold]{title}[/]   business time [bold]{clock}[/]   {events:.0f} events/s in {batches:.0f} batches/s of "
        f"{mean:.1f} ms   {sum(status['lag_events'].values())} events behind   {status['parked']} parked"
    )


def rows_table(status: dict[str, Any]) -> Table:
    """The derived tables and their rows, in two columns: two domains are to fit on a screen."""
    pairs = list(status["rows"].items())
    half = (len(pairs) + 1) // 2
    rows = [(*left, *right) for left, right in zip_longest(pairs[:half], pairs[half:], fillvalue=("", ""))]
    return table("derived tables", ["table", "rows"] * 2, rows)


def asked(app: App, queries: Sequence[tuple[str, str]]) -> list[Table]:
    """Queries on the models, each as a table with its title."""
    drawn = []
    for title, query in queries:
        found = app.query(title, query)
        drawn.append(table(title, found.columns, found.rows))
    return drawn


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Rows as they are drawn; what they hold is no markup."""
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for column in columns:
        drawn.add_column(column)
    for row in rows:
        drawn.add_row(*["" if value is None else str(value).replace("[", "\\[") for value in row])
    return drawn
