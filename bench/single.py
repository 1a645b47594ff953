"""Single changes: from the call that appends one event to the log until its batch has committed."""

from __future__ import annotations

import threading
import time
from itertools import islice

from bench.figures import summary
from bench.report import Goal, Outcome
from bench.run import Run
from bench.shop import Scale, Shop, Transaction
from bench.stage import TOPIC, Stage
from consumers.worker import BatchStats

GOAL_MS = 5.0
_PATIENCE = 30.0  # seconds for one event, before the benchmark gives up
_WARM = 40


def run(run: Run) -> Outcome:
    """One event at a time, the next when the one before is there: the worker follows the log as a daemon does."""
    count = max(10, round(400 * run.scale))
    with run.databases("single") as (dsn,), run.task(f"single: {count} events, one at a time", 3) as step:
        stage = Stage(dsn)
        stage.create()
        shop = Shop(Scale.of(run.rentals), seed=run.seed)
        stage.append_history(shop)
        stage.work_off()
        stage.analyze()
        step()
        milliseconds = _measure(stage, shop, count)
        step()
        stage.close()
    figures = summary(milliseconds)
    return Outcome(figures, [Goal("median from append to commit, ms", figures["p50_ms"], GOAL_MS, "under")])


def _measure(stage: Stage, shop: Shop, count: int) -> list[float]:
    committed = threading.Condition()
    events = [0]
    ended = [0.0]  # when the worker knew of the last commit: before this thread, which has to be woken, does
    stop = threading.Event()

    def on_batch(stats: BatchStats) -> None:
        with committed:
            ended[0] = time.perf_counter()
            events[0] += stats.events
            committed.notify()

    taken: list[float] = []
    with stage.engine() as (engine, _):
        worker = stage.worker(engine, on_batch=on_batch)
        thread = threading.Thread(target=worker.run, args=(stop,), name="worker")
        thread.start()
        try:
            writes = (
                Transaction(transaction.ts_ms, [write])
                for transaction in shop.traffic()
                for write in transaction.writes
            )
            for number, single in enumerate(islice(writes, _WARM + count), start=1):
                messages = list(stage.encoder.transaction(single))
                began = time.perf_counter()
                stage.log.append(TOPIC, messages)
                with committed:
                    if not committed.wait_for(lambda wanted=number: events[0] >= wanted, _PATIENCE):  # type: ignore[misc]
                        raise TimeoutError(f"event {number} was not applied within {_PATIENCE:g} s")
                taken.append((ended[0] - began) * 1000)
        finally:
            stop.set()
            thread.join(_PATIENCE)
    return taken[_WARM:]
