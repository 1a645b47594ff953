"""End to end: from a commit in the source until the derived row can be seen, capture, log and worker between them."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg

from bench.daemons import create_source, running, settings
from bench.report import Goal, Outcome
from bench.rounds import durations
from bench.run import Run
from bench.shop import Scale, Shop
from connectors.state import migrate

GOAL_MS = 50.0
RATE = 100.0  # transactions a second
_WARM = 200
_PATIENCE = 120.0
_LOOK = 0.002  # seconds between two looks at the derived table: the error of each measurement


def run(run: Run) -> Outcome:
    """Source and state on one embedded PostgreSQL, as in the demo; the daemon in a process of its own."""
    count = max(20, round(400 * run.scale))
    title = f"end-to-end: rounds of {count} transactions at {RATE:g}/s"
    with run.databases("shop", "state") as (source, state), run.task(title, 3) as step:
        migrate(state)
        shop = Shop(Scale.of(run.rentals), seed=run.seed, start=datetime.now(UTC))
        with psycopg.connect(source, autocommit=True) as connection:
            create_source(connection, shop)
            connection.execute("VACUUM ANALYZE")
        step()
        with running(settings(state, source)) as daemon, psycopg.connect(source, autocommit=True) as connection:
            figures = latencies(
                lambda rng, number: _transaction(connection, rng, shop.scale, number),
                state,
                shop,
                daemon.poll,
                step,
                warm=_WARM,
                count=count,
            )
    return Outcome(figures, [Goal("p99 from source commit to visible row, ms", figures["p99_ms"], GOAL_MS, "under")])


class Watcher:
    """Looks at the derived table `rental_status`: its highest key tells which rentals can be seen."""

    def __init__(self, state: str) -> None:
        self._connection = psycopg.connect(state, autocommit=True)

    def highest(self) -> int:
        """The highest rental that can be seen; 0: none."""
        try:
            row = self._connection.execute("SELECT max(rental_id) FROM rental.rental_status", prepare=True).fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
        return int(row[0] or 0) if row else 0

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()


def until_there(watcher: Watcher, rental: int, ended: Callable[[], int | None]) -> None:
    """Wait until the shop's past can be seen. Raises TimeoutError, also where the daemon has ended."""
    deadline = time.monotonic() + _PATIENCE
    while watcher.highest() < rental:
        if ended() is not None or time.monotonic() > deadline:
            raise TimeoutError("the daemon did not bring the shop's past into the models")
        time.sleep(0.05)


def latencies(
    commit: Callable[[random.Random, int], None],
    state: str,
    shop: Shop,
    ended: Callable[[], int | None],
    step: Callable[[], None],
    *,
    warm: int,
    count: int,
) -> dict[str, Any]:
    """The latencies of rounds of `count` transactions, after the shop's past and `warm` that nobody measures.

    `commit` commits a transaction with the rental of that number; for the others see `until_there`. `step` is called
    once the past is there.
    """
    watcher, past = Watcher(state), shop.scale.rentals
    until_there(watcher, past, ended)
    step()
    rng = random.Random(past)
    numbers = itertools.count(past + 1 + warm, count)

    def round_of(first: int, transactions: int) -> list[float]:
        return measure(lambda number: commit(rng, number), watcher, first, transactions)

    round_of(past + 1, warm)
    found = durations(lambda: round_of(next(numbers), count))
    watcher.close()
    return {"transactions_per_second": RATE, **found}


def measure(commit: Callable[[int], None], watcher: Watcher, first: int, count: int) -> list[float]:
    """Commit by the clock, whatever the daemon does; watch from another thread. Returns ms, in order of commits.

    `commit` commits a transaction with the rental of that number; the numbers rise from `first`.
    """
    committed: deque[float] = deque()
    taken: list[float] = []
    done = threading.Event()

    def watch() -> None:
        seen = first - 1
        while len(taken) < count and not done.is_set():
            highest = watcher.highest()
            now = time.perf_counter()
            # A row may be seen before its writer's call has returned: it waits for its time then.
            while seen < highest and committed:
                seen += 1
                taken.append(max(0.0, (now - committed.popleft()) * 1000))
            time.sleep(_LOOK)

    thread = threading.Thread(target=watch, name="watcher")
    thread.start()
    began = time.perf_counter()
    for number in range(count):
        wait = began + number / RATE - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        commit(first + number)
        committed.append(time.perf_counter())
    thread.join(_PATIENCE)
    done.set()
    if len(taken) < count:
        raise TimeoutError(f"{count - len(taken)} of {count} transactions were not seen within {_PATIENCE:g} s")
    return taken


def _transaction(connection: psycopg.Connection[Any], rng: random.Random, scale: Scale, rental: int) -> None:
    """A rental; in two of five an earlier one comes back and is paid in the same transaction."""
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    with connection.transaction():
        connection.execute(
            "INSERT INTO rental VALUES (%s, %s, %s, %s, NULL, 1)",
            [rental, now, rng.randint(1, scale.items), rng.randint(1, scale.customers)],
            prepare=True,
        )
        if rng.random() < 0.4:
            back = rng.randint(max(1, rental - 2_000), rental)
            connection.execute("UPDATE rental SET return_date = %s WHERE rental_id = %s", [now, back], prepare=True)
            connection.execute(
                "INSERT INTO payment SELECT %s, customer_id, 1, rental_id, 2.99, %s FROM rental WHERE rental_id = %s",
                [10_000_000 + rental, now, back],
                prepare=True,
            )
