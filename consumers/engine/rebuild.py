"""Rebuild: fills a new instance from the log beside the live one, then swaps them in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg

from connectors.log import TopicPartition
from consumers.engine import instance
from consumers.engine.analysis import Analysis
from consumers.engine.engine import Engine
from consumers.engine.relations import schemas

Connection = psycopg.Connection[tuple[Any, ...]]


def rebuild(
    connect: Callable[[], Connection],
    analysis: Analysis,
    name: str,
    work_off: Callable[[Engine, threading.Event], None],
    ends: Callable[[], dict[TopicPartition, int]],
) -> None:
    """Build and swap. `work_off` applies to an engine what the log holds and returns at its end.

    The live instance goes on until the swap; what it took in since is worked off again while its row is locked.
    """
    fresh = name + instance.NEXT
    stop = threading.Event()
    with connect() as control, connect() as writer:
        control.autocommit = True
        instance.remove(control, fresh)
        instance.create(control, fresh, analysis)
        engine = Engine(writer, analysis, fresh, instance.take_over(control, fresh))
        work_off(engine, stop)
        for model in analysis.models:
            control.execute(f'ANALYZE "{fresh}"."{model.name}"')
        for table in analysis.domain.mirror_tables:
            control.execute(f'ANALYZE "{schemas(fresh)[1]}"."{table}"')
        # From here on the live writer is fenced off: what came meanwhile is worked off once more, then swapped.
        if instance.find(control, name) is not None:
            instance.take_over(control, name)
        while any(engine.positions.get(place, 0) < end for place, end in ends().items()):
            work_off(engine, stop)
        instance.swap(control, name)
