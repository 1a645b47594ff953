"""Random histories of a rental shop through the engine, against the same rules in plain Python."""

from __future__ import annotations

import random
import threading
from typing import Any

import psycopg
import pytest
from contents import rental_contents
from random_batches import assert_clean, create, random_batches
from rental_history import RentalHistory
from rental_oracle import Transition
from rental_shop import TOPIC, assert_models, expected, messages, read, text

from connectors.state import connect, migrate
from consumers.domain import load_domain
from consumers.engine.analysis import Analysis, analyse
from consumers.engine.engine import Engine
from consumers.engine.moments import from_datetime, to_datetime
from consumers.engine.units import Unit
from daemon.app import App
from daemon.settings import Settings
from daemon.times import BusinessTime

SECONDS_A_BATCH = 1 / 35  # of the time budget, for each of --batches


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(load_domain("rental"))


def test_the_tables_are_what_python_computes_after_every_batch(
    connection: psycopg.Connection[Any], analysis: Analysis, batches: int, seed: int
) -> None:
    """However units are batched, doubled and interrupted: models equal their queries, and plain Python's tables."""
    print(f"seed {seed}")
    rng = random.Random(f"rental{seed}")
    history = RentalHistory(analysis.domain, rng)
    for engine, note in random_batches(
        connection, analysis, history.first(), history.unit, rng,
        seconds=batches * SECONDS_A_BATCH, least=30, note=f"seed {seed}",
    ):  # fmt: skip
        assert engine.clock == from_datetime(history.replay.clock), note
        now = to_datetime(engine.clock)
        assert_models(connection, "live", expected(history.shop, now, **history.values), note)
        assert_history(connection, "live", history, note)


def test_audit_and_days_are_the_same_however_batches_are_cut(
    connection: psycopg.Connection[Any], analysis: Analysis, seed: int
) -> None:
    """One by one, in random cuts with doubles and restarts, or all at once: the same audit and days, as in Python."""
    print(f"seed {seed}")
    rng = random.Random(f"cuts{seed}")
    history = RentalHistory(analysis.domain, rng)
    units = [history.first(), *(history.unit() for _ in range(250))]
    end = from_datetime(history.end())
    for name, sizes in {"single": [1], "random": [1, 3, 17, 60], "whole": [len(units)]}.items():
        engine = create(connection, analysis, name)
        rest, before = units, list[Unit]()
        while rest:
            size = rng.choice(sizes)
            engine.apply(before + rest[:size])
            before, rest = rest[:size], rest[size:]
            if name == "random" and rng.random() < 0.3:
                engine = Engine(connection, analysis, name, engine.epoch)
        engine.advance(end)
        note = f"seed {seed}, {name}"
        assert_clean(connection, analysis, name, note)
        assert_models(connection, name, expected(history.shop, to_datetime(end), **history.values), note)
        assert_history(connection, name, history, note)
    assert sum(len(transitions) for transitions in history.replay.audit.values()) > 20
    assert len(history.replay.days) > 10


def test_a_rebuild_from_the_log_leaves_the_same(database: str, analysis: Analysis, seed: int) -> None:
    """Through the log, by one daemon after the other; then built again from the log: the same rows, audit and days."""
    print(f"seed {seed}")
    migrate(database)
    rng = random.Random(f"log{seed}")
    history = RentalHistory(analysis.domain, rng)
    units = [history.first()]
    with connect(database) as connection:
        for _ in range(6):  # the first round brings the parameters alone, before any time is told
            given = {
                "late_fee_per_day": str(history.values["rate"]), "time_zone": history.values["zone"],
                "fees_from": text(history.values["fees_from"]), "missing_after_days": history.values["missing_after"],
            }  # fmt: skip
            settings = Settings.model_validate(
                {"parameters": given, "worker": {"batch_events": rng.choice([1, 7, 200])}}
            )
            app = App(settings, database, analysis.domain, BusinessTime())
            app.init()
            for unit in units:
                own = any(placed.event.table == "params" for placed in unit.changes)
                app.log.append(app.domain.own_topic if own else TOPIC, messages(analysis.domain, unit))
            app.run(threading.Event(), until_idle=True)
            assert_clean(connection, analysis, "rental", f"seed {seed}")
            if history.replay.clock is not None:
                now = app.clock()
                assert history.replay.clock == now
                assert_models(connection, "rental", expected(history.shop, now, **history.values), f"seed {seed}")
            app.close()
            units = [history.unit() for _ in range(30)]
        before = rental_contents(connection)
        assert len(before["inventory_audit"]) > 5
        app = App(settings, database, analysis.domain, BusinessTime())
        app.rebuild()
        app.close()
        assert before == rental_contents(connection), f"seed {seed}"
        assert_clean(connection, analysis, "rental", f"seed {seed}")


def assert_history(connection: psycopg.Connection[Any], name: str, history: RentalHistory, note: str) -> None:
    """inventory_audit has Python's transitions in their order, and daily_summary Python's days."""
    with connection.transaction():
        rows = connection.execute(
            f'SELECT inventory_id, at, from_value, to_value, cause FROM "{name}".inventory_audit ORDER BY inventory_id, seq'
        ).fetchall()
    audit: dict[int, list[Transition]] = {}
    for item, *transition in rows:
        audit.setdefault(item, []).append(Transition(*transition))
    assert dict(history.replay.audit) == audit, note
    days = read(connection, name, "daily_summary", "day")
    assert history.replay.days == {
        day: {column: row[column] for column in history.replay.days.get(day, row)} for day, row in days.items()
    }, note
