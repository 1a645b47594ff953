"""Throughput: the rental domain's models in batches of 5,000, against the floor, in one run."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.floor import SCHEMA, Floor
from bench.probe import Parts, ReaderClock, Spent, Statements, cpu_seconds, explaining, timed_engine
from bench.report import Goal, Outcome
from bench.run import Run
from bench.shop import HISTORY_DAYS, Scale, Shop
from bench.stage import PLACE, Connection, Stage
from consumers.engine.engine import Engine
from consumers.engine.relations import schemas
from consumers.engine.sqltext import quote
from consumers.engine.verify import verify
from consumers.worker import BatchStats

BATCH = 5_000
SEGMENTS = 3
GOAL = 0.35
DENSE = 1.0  # days of business time that the stretch takes
_PLANS = 12
_EVENTS_OF_A_RENTAL = 2.6


@dataclass
class _Ours:
    """What the product spent in the measured segments."""

    events: int = 0
    seconds: float = 0.0
    transactions: int = 0
    worker_cpu: float = 0.0
    process_cpu: float = 0.0
    engine_backend_cpu: float = 0.0
    statements: Statements = field(default_factory=Statements)
    applying: Spent = field(default_factory=Spent)


def run(run: Run) -> Outcome:
    """The steady state: a dense day, then the same events spread over the days Sakila's shop would take."""
    scale = Scale.of(run.rentals)
    events = max(SEGMENTS * 500, round(90_000 * run.scale))
    outcome = Outcome()
    with run.databases("dense") as (dsn,):
        outcome.figures = _measure(run, dsn, scale, events, DENSE)
    if run.calendar and not run.out_of_time:
        with run.databases("spread") as (dsn,):
            spread_events = max(SEGMENTS * 500, events // 3)
            # The history's rentals took so many days; those of the traffic take as long.
            days = HISTORY_DAYS / scale.rentals * spread_events / _EVENTS_OF_A_RENTAL
            spread = _measure(run, dsn, scale, spread_events, days)
            kept = ("days", "events", "events_per_second", "floor_events_per_second", "ratio", "transactions")
            outcome.figures["spread_over_days"] = {name: spread[name] for name in kept}
    outcome.goals = [Goal("events/s as a share of the floor's", outcome.figures["ratio"], GOAL, "at least")]
    return outcome


def _measure(run: Run, dsn: str, scale: Scale, events: int, days: float) -> dict[str, Any]:
    stage = Stage(dsn)
    stage.create()
    shop = Shop(scale, seed=run.seed, days=days, pace=events)
    warm = min(BATCH, events // SEGMENTS)
    with run.task(f"throughput: {events:,} events over {days:.3g} days", SEGMENTS + 2) as step:
        stage.append_history(shop)
        history = stage.work_off()
        stage.analyze()
        step()
        with psycopg.connect(dsn) as mine, stage.engine() as (engine, connection):
            floor = Floor(mine, stage.tables, schemas(stage.name)[1], stage.decoder())
            ours = _Ours()
            # One batch of each goes unmeasured: plans are made, pages are in memory.
            _floor_segment(stage, floor, *_append(stage, shop, warm))
            _our_segment(stage, engine, connection, _Ours(), BATCH * 2)
            floor.events, floor.seconds = 0, dict.fromkeys(floor.seconds, 0.0)
            floor_read = 0.0
            clock = ReaderClock(stage.log)
            step()
            for _ in range(SEGMENTS):
                start, limit = _append(stage, shop, events // SEGMENTS)
                floor_read += _floor_segment(stage, floor, start, limit)
                _our_segment(stage, engine, connection, ours, limit, clock)
                step()
            if run.profile and days == DENSE:
                _append(stage, shop, BATCH)
                _profile(run, stage, engine, connection)
    _prove(stage)
    stage.close()
    assert ours.events == floor.events, f"{ours.events} events applied, the floor had {floor.events}"
    return _figures(stage, floor, floor_read, ours, clock, days) | {"history_rows": history, "seed": run.seed}


def _prove(stage: Stage) -> None:
    """What is fast and wrong is worth nothing: the models equal their queries, the floor's rows the mirror's."""
    source = schemas(stage.name)[1]
    with psycopg.connect(stage.dsn) as connection:
        checks = verify(connection, stage.analysis, stage.name)
        wrong = [check.name for check in checks if not check.clean]
        for name in stage.tables:
            ours, floors = (f"{quote(place)}.{quote(name)}" for place in (source, SCHEMA))
            row = connection.execute(
                f"SELECT count(*) FROM ((TABLE {ours} EXCEPT TABLE {floors}) UNION ALL "
                f"(TABLE {floors} EXCEPT TABLE {ours})) AS d"
            ).fetchone()
            if row != (0,):
                wrong.append(f"the floor's {name}")
    if wrong:
        raise RuntimeError(f"not as they should be: {', '.join(wrong)}")


def _append(stage: Stage, shop: Shop, events: int) -> tuple[int, int]:
    """Append so much traffic. Returns where it starts and how many records hold a batch of row changes."""
    start = stage.end()
    changes, records = stage.append_traffic(shop, events)
    return start, round(BATCH * records / changes)


def _floor_segment(stage: Stage, floor: Floor, start: int, limit: int) -> float:
    """Returns the seconds spent on reading, which are not the floor's."""
    spent = 0.0
    while True:
        began = time.perf_counter()
        records = stage.log.read({PLACE: start}, limit=limit)
        spent += time.perf_counter() - began
        if not records:
            return spent
        floor.apply(records)
        start = records[-1].offset + 1


def _our_segment(
    stage: Stage, engine: Engine, connection: Connection, ours: _Ours, limit: int, clock: ReaderClock | None = None
) -> None:
    """Work the log off; the time counts from the start of the worker to its last commit."""
    ended = [0.0]

    def on_batch(_stats: BatchStats) -> None:
        ended[0] = time.perf_counter()

    if clock is not None:
        clock.begin()
    worker = stage.worker(engine, log=clock, limit=limit, on_batch=on_batch)
    backend = connection.info.backend_pid
    before = (time.thread_time(), time.process_time(), cpu_seconds(backend))
    with ours.statements.recording(engine), timed_engine(engine) as spent:
        began = time.perf_counter()
        worker.run(threading.Event(), until_idle=True)
    ours.seconds += ended[0] - began
    ours.worker_cpu += time.thread_time() - before[0]
    ours.process_cpu += time.process_time() - before[1]
    ours.engine_backend_cpu += cpu_seconds(backend) - before[2]
    ours.events += worker.totals.events
    ours.transactions += worker.totals.batches
    ours.applying.calls += spent.calls
    ours.applying.seconds += spent.seconds


def _figures(
    stage: Stage, floor: Floor, floor_read: float, ours: _Ours, clock: ReaderClock, days: float
) -> dict[str, Any]:
    floor_seconds = sum(floor.seconds.values())
    parts = ours.statements.by_part(Parts(stage.analysis))
    in_statements = sum(spent.seconds for spent in parts.values())
    apply = ours.applying
    total = ours.seconds

    def line(part: str, seconds: float, calls: int | str = "") -> dict[str, Any]:
        return {
            "part": part,
            "seconds": round(seconds, 3),
            "share": round(seconds / total, 3),
            "us_per_event": round(seconds / ours.events * 1e6, 1),
            "calls": calls,
        }

    overlapped = max(floor_read + floor.seconds["decode"], floor_seconds - floor.seconds["decode"])
    slowest = sorted(ours.statements.by_text.items(), key=lambda item: -item[1].seconds)[:_PLANS]
    return {
        "days": round(days, 3),
        "events": ours.events,
        "batch": BATCH,
        "transactions": ours.transactions,
        "events_per_second": round(ours.events / total),
        "floor_events_per_second": round(floor.events / floor_seconds),
        "ratio": round(floor_seconds / total, 4),
        "ratio_to_a_floor_that_reads_and_decodes_beside_its_writes": round(overlapped / total, 4),
        "floor_seconds": {name: round(value, 3) for name, value in floor.seconds.items()},
        "where_the_time_goes": [
            *(line(f"statements: {part}", spent.seconds, spent.calls) for part, spent in parts.items()),
            line("engine's own Python", apply.seconds - in_statements, apply.calls),
            line("outside of the engine: waiting for the reader, units", total - apply.seconds),
        ],
        "cpu_seconds": {
            "reader thread, reading": round(clock.read_cpu, 3),
            "reader thread, decoding": round(clock.decode_cpu, 3),
            "worker thread": round(ours.worker_cpu, 3),
            "process": round(ours.process_cpu, 3),
            "engine's backend": round(ours.engine_backend_cpu, 3),
            "wall": round(total, 3),
        },
        "slowest_statements": [
            {
                "part": Parts(stage.analysis).of(text),
                "ms_per_call": round(spent.seconds / spent.calls * 1000, 2),
                "calls": spent.calls,
                "seconds": round(spent.seconds, 3),
                "statement": re.sub(r"\s+", " ", text)[:80],
            }
            for text, spent in slowest
        ],
    }


def _profile(run: Run, stage: Stage, engine: Engine, connection: Connection) -> None:
    """One more batch whose statements are explained before they run; the plans of the slowest are printed."""
    with explaining(engine, connection) as plans:
        _our_segment(stage, engine, connection, _Ours(), BATCH * 3)
    for plan in sorted(plans, key=lambda plan: -plan.milliseconds)[:_PLANS]:
        run.console.rule(f"{plan.milliseconds:.1f} ms, {Parts(stage.analysis).of(plan.statement)}")
        run.console.print(f"{plan.statement}\n\n{plan.text}", markup=False, highlight=False, soft_wrap=True)
