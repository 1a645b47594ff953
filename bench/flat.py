"""Flat: what an event costs with a million rentals in the mirror, against ten thousand.

Both shops have the customers, films and items of the large one, and the very same traffic: only the depth of the
history differs. The calendar stands still (no midnight): what falls due at midnight grows with the shop, as its business does.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

from bench.report import Goal, Outcome
from bench.run import Run
from bench.shop import Scale, Shop
from bench.stage import Connection, Stage, fill
from consumers.engine.engine import Engine
from consumers.worker import BatchStats

GOAL = 1.3
LARGE = 1_000_000
SMALL = 10_000
ROUNDS = 2
_HOURS = 6.0


@dataclass
class _Side:
    stage: Stage
    shop: Shop
    engine: Engine
    connection: Connection
    events: int = 0
    seconds: float = 0.0


def run(run: Run) -> Outcome:
    """Small, large, small, large, in batches of 5,000."""
    large = Scale.of(max(SMALL, round(LARGE * run.scale)))
    small = replace(large, rentals=max(100, round(SMALL * min(1.0, run.scale))))
    deep = large.rentals - small.rentals
    events = max(500, round(15_000 * run.scale))
    with run.databases("small", "large") as dsns, ExitStack() as stack:
        step = stack.enter_context(
            run.task(f"flat: {small.rentals:,} and {large.rentals:,} rentals", 2 + 2 * (ROUNDS + 1))
        )
        sides = []
        for dsn, below in zip(dsns, (0, deep), strict=True):
            stage = Stage(dsn)
            stack.callback(stage.close)
            stage.create()
            shop = Shop(small, seed=run.seed, days=_HOURS / 24, pace=events * (ROUNDS + 1), numbers_from=deep)
            engine, connection = stack.enter_context(stage.engine())
            fill(stage, engine, connection, shop, deep=below)
            stage.analyze()
            step()
            sides.append(_Side(stage, shop, engine, connection))
        for number in range(ROUNDS + 1):
            for side in sides:
                _segment(side, events)
                if number == 0:  # plans are made, pages are in memory
                    side.events, side.seconds = 0, 0.0
                step()
    costs = [side.seconds / side.events * 1e6 for side in sides]
    ratio = round(costs[1] / costs[0], 3)
    figures = {
        "rentals": f"{small.rentals} and {large.rentals}",
        "customers_items_films_in_both": f"{large.customers}, {large.items}, {large.films}",
        "us_per_event_small": round(costs[0], 1),
        "us_per_event_large": round(costs[1], 1),
        "ratio": ratio,
    }
    return Outcome(figures, [Goal("cost per event, large to small", ratio, GOAL, "at most")])


def _segment(side: _Side, events: int) -> None:
    changes, records = side.stage.append_traffic(side.shop, events)
    ended = [0.0]

    def on_batch(_stats: BatchStats) -> None:
        ended[0] = time.perf_counter()

    worker = side.stage.worker(side.engine, limit=round(5_000 * records / changes), on_batch=on_batch)
    began = time.perf_counter()
    worker.run(threading.Event(), until_idle=True)
    side.seconds += ended[0] - began
    side.events += worker.totals.events
