"""Single changes: from the call that appends one event to the log until its batch has committed."""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import Any

from bench.report import Goal, Outcome
from bench.rounds import durations
from bench.run import Run
from bench.shop import Scale, Shop, Transaction
from bench.stage import TOPIC, Stage
from consumers.worker import BatchStats

GOAL_MS = 5.0
_PATIENCE = 30.0  # seconds for one event, before the benchmark gives up
_WARM = 200
_MOST_ROUNDS = 12


def run(run: Run) -> Outcome:
    """One event at a time, the next when the one before is there: the worker follows the log as a daemon does."""
    count = max(10, round(200 * run.scale))
    with run.databases("single") as (dsn,), run.task(f"single: rounds of {count} events, one at a time", 3) as step:
        stage = Stage(dsn)
        stage.create()
        shop = Shop(Scale.of(run.rentals), seed=run.seed)
        stage.append_history(shop)
        stage.work_off()
        stage.analyze()
        step()
        figures = _measure(stage, shop, count)
        step()
        stage.close()
    return Outcome(figures, [Goal("median from append to commit, ms", figures["p50_ms"], GOAL_MS, "under")])


def _measure(stage: Stage, shop: Shop, count: int) -> dict[str, Any]:
    committed = threading.Condition()
    events = [0]
    ended = [0.0]  # when the worker knew of the last commit: before this thread, which has to be woken, does
    stop = threading.Event()

    def on_batch(stats: BatchStats) -> None:
        with committed:
            ended[0] = time.perf_counter()
            events[0] += stats.events
            committed.notify()

    writes = (Transaction(transaction.ts_ms, [write]) for transaction in shop.traffic() for write in transaction.writes)

    def one(single: Transaction) -> float:
        messages = list(stage.encoder.transaction(single))
        began, wanted = time.perf_counter(), events[0] + 1
        stage.log.append(TOPIC, messages)
        with committed:
            if not committed.wait_for(lambda: events[0] >= wanted, _PATIENCE):
                raise TimeoutError(f"event {wanted} was not applied within {_PATIENCE:g} s")
        return (ended[0] - began) * 1000

    with stage.engine() as (engine, _):
        worker = stage.worker(engine, on_batch=on_batch)
        thread = threading.Thread(target=worker.run, args=(stop,), name="worker")
        thread.start()
        try:
            for single in islice(writes, _WARM):
                one(single)
            return durations(lambda: [one(single) for single in islice(writes, count)], most=_MOST_ROUNDS)
        finally:
            stop.set()
            thread.join(_PATIENCE)
