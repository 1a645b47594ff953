"""An engine under random batches: units taken in as they come, some twice, by engines that end now and then."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from consumers.engine import instance
from consumers.engine.analysis import Analysis
from consumers.engine.engine import Engine
from consumers.engine.units import Unit
from consumers.engine.verify import verify


def create(connection: psycopg.Connection[Any], analysis: Analysis, name: str) -> Engine:
    connection.autocommit = True
    instance.create(connection, name, analysis)
    epoch = instance.take_over(connection, name)
    connection.autocommit = False
    return Engine(connection, analysis, name, epoch)


def assert_clean(connection: psycopg.Connection[Any], analysis: Analysis, name: str, note: str) -> None:
    found = [check for check in verify(connection, analysis, name) if not check.clean]
    assert found == [], note


def random_batches(
    connection: psycopg.Connection[Any],
    analysis: Analysis,
    first: Unit,
    unit: Callable[[], Unit],
    rng: random.Random,
    *,
    seconds: float,
    least: int,
    note: str,
) -> Iterator[tuple[Engine, str]]:
    """After each batch, its models equal to their queries: the engine of the instance `live`, and a note for errors.

    Args:
        connection: to the state database.
        analysis: of the domain.
        first: applied before the first batch.
        unit: makes the next.
        rng: decides how they are batched.
        seconds: for how long.
        least: batches at least.
        note: begins each note.
    """
    engine = create(connection, analysis, "live")
    before = [first]
    engine.apply(before)
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline or number < least:
        number += 1
        batch = [unit() for _ in range(rng.choice([1, 1, 2, 5, 20]))]
        engine.apply([*before, *batch] if rng.random() < 0.2 else batch)
        told = f"{note}, batch {number}"
        assert_clean(connection, analysis, "live", told)
        yield engine, told
        before = batch
        if rng.random() < 0.05:
            engine = Engine(connection, analysis, "live", engine.epoch)
    print(f"{number} batches")
