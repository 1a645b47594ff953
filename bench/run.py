"""What every benchmark is given: how large, how long, where progress is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.embedded import EmbeddedPostgres


@dataclass
class Run:
    """One run of the benchmarks.

    Args:
        server: every benchmark makes its own databases on it.
        scale: multiplies the number of events and rows; below 1 the figures say little.
        rentals: the size of the shop's history, in rentals.
        seconds: when so many have passed, the run ends; what has not ended by then has failed.
        calendar: whether to measure the events spread over Sakila's days as well.
        profile: print the plans of the slowest statements.
    """

    console: Console
    progress: Progress
    server: EmbeddedPostgres
    scale: float = 1.0
    rentals: int = 16_000
    seconds: float = 1200.0
    seed: int = 7
    calendar: bool = True
    profile: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def out_of_time(self) -> bool:
        """Whether nothing new may begin."""
        return self.left <= 0

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.seconds - (time.monotonic() - self.began)

    @contextmanager
    def databases(self, *names: str) -> Iterator[list[str]]:
        """Fresh databases of the run's server, gone behind the block. Gives their connection strings."""
        try:
            yield [self.server.ensure_database(f"bench_{name}") for name in names]
        finally:
            with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
                for name in (f"bench_{name}" for name in names):
                    connection.execute(  # a walsender whose client has just gone
                        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots "
                        "WHERE database = %s AND active",
                        [name],
                    )
                    connection.execute(
                        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
                        [name],
                    )
                    connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @contextmanager
    def task(self, title: str, steps: int) -> Iterator[Callable[[], None]]:
        """Show a bar of so many steps; the function given moves it on by one."""
        task = self.progress.add_task(title, total=steps)
        yield lambda: self.progress.advance(task)
        self.progress.update(task, completed=steps)


def new_progress(console: Console) -> Progress:
    """The bars of a run."""
    return Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console)
