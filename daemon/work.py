"""Working an instance off: leading, standing by, going on after what mends itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from connectors.errors import RowtideError
from connectors.log import FencedError as OvertakenError
from connectors.log import LogTruncatedError, LogUnreachableError, PartitionsAddedError, TopicPartition, marks
from connectors.state import StateError, connect
from consumers.engine import instance, moments
from consumers.engine.engine import Engine
from consumers.engine.ledger import FencedError
from consumers.worker import BatchStats
from daemon import lead
from daemon.failures import explained, is_lost_connection

if TYPE_CHECKING:
    from daemon.app import App

log = structlog.get_logger()
_PATIENCE = 5.0  # seconds between attempts at most, when a server is away

# A cluster that is away comes back; new partitions are read from their beginning by a new worker; who was overtaken
# by another capture stands by again.
_PASSING = (LogUnreachableError, PartitionsAddedError, OvertakenError, StateError)

# Entered while this process leads, with the term.
During = Callable[[lead.Term], AbstractContextManager[None]]


@dataclass(frozen=True)
class Job:
    """What a run is asked to do; see `App.run`."""

    until_idle: bool = False
    clock: datetime | None = None
    on_batch: Callable[[BatchStats], None] | None = None
    during: During | None = None


def run(app: App, stop: threading.Event, job: Job) -> dict[str, Any]:
    """Work until stopped, or until idle where the job says so. Raises what a person must act on.

    What mends itself is waited for: another leader, a state database or a log that is away, a rebuild's swap.
    """
    began = time.monotonic()
    counts = {"batches": 0, "events": 0, "parked": 0}
    if job.until_idle:
        _refuse_if_led(app)
    wait, fenced = 0.1, False
    while not stop.is_set():
        started = time.monotonic()
        try:
            if fenced:
                _follow_rebuild(app, stop)
                fenced = False
            with lead.leading(app.dsn, app.name, stop, app.revive, None if job.until_idle else app.share) as term:
                if term is None:
                    break
                try:
                    _lead(app, term, job)
                finally:
                    _count(app, counts)
            if job.until_idle:
                break
        except FencedError:
            fenced = True
        except (RowtideError, psycopg.Error) as error:
            if job.until_idle or not passes(error):
                _record(app, error)
                raise
            wait = 0.1 if time.monotonic() - started > _PATIENCE else min(wait * 2, _PATIENCE)
            log.warning("worker.waiting", domain=app.name, reason=_reason(app, error), seconds=round(wait, 1))
            stop.wait(wait)
    return {"domain": app.name, "seconds": round(time.monotonic() - began, 3), **counts}


def _refuse_if_led(app: App) -> None:
    with connect(app.dsn) as connection:
        if lead.is_led(connection, app.name):
            raise lead.LedElsewhereError(
                f"Another daemon works on {app.name} in this state database.",
                hint="It takes in what comes by itself: see `rowtide status`. Stop it to use --until-idle.",
            )


def _lead(app: App, term: lead.Term, job: Job) -> None:
    """One term as the instance's writer."""
    log.info("daemon.leading", domain=app.name)
    with job.during(term) if job.during else nullcontext():
        if job.clock is not None and job.until_idle:
            _work(app, term.over, job)
            app.tick(moments.from_datetime(job.clock) // 1000)
        _work(app, term.over, job)


def _work(app: App, over: threading.Event, job: Job) -> None:
    with connect(app.dsn) as connection:
        instance.require(connection, app.name, app.analysis)
        _know_topics(connection, app)
        marks.check(app.log, _marks(connection, app))
        epoch = instance.take_over(connection, app.name)
    with psycopg.connect(app.dsn) as connection:
        engine = Engine(connection, app.analysis, app.name, epoch)
        connection.execute("SELECT set_config('application_name', %s, false)", [lead.writer_name(app.name)])
        connection.commit()

        def committed(stats: BatchStats) -> None:
            app.log.commit_hint(engine.positions)
            if job.on_batch is not None:
                job.on_batch(stats)

        app.worker = app.make_worker(engine, committed)
        app.worker.run(over, until_idle=job.until_idle)


def _know_topics(connection: psycopg.Connection[Any], app: App) -> None:
    """Let reading stop where a topic is not the one that the stored positions are about; note new topics."""
    row = connection.execute(
        "SELECT coalesce(definition -> 'topic_ids', '{}') FROM rowtide.instance WHERE name = %s", [app.name]
    ).fetchone()
    known: dict[str, str] = row[0] if row else {}
    app.log.expect({topic: known[topic] for topic in app.topics if topic in known})
    if fresh := [topic for topic in app.topics if topic not in known]:
        _note_topics(connection, app, {**known, **app.log.topic_ids(fresh)})


def regrown(connection: psycopg.Connection[Any], app: App) -> set[TopicPartition]:
    """The partitions in which other records stand than those that were taken in."""
    found = set()
    for place, mark in _marks(connection, app).items():
        try:
            marks.check(app.log, {place: mark})
        except LogTruncatedError:
            found.add(place)
    return found


def _marks(connection: psycopg.Connection[Any], app: App) -> dict[TopicPartition, str]:
    """The marks of the records that were taken in last."""
    rows = connection.execute(
        "SELECT topic, partition, mark FROM rowtide.position WHERE instance = %s AND mark IS NOT NULL "
        "AND topic = ANY(%s) AND split_part(mark, ':', 1)::bigint < next_offset",
        [app.name, app.topics],
    ).fetchall()
    return {TopicPartition(topic, partition): mark for topic, partition, mark in rows}


def _note_topics(connection: psycopg.Connection[Any], app: App, ids: Mapping[str, str]) -> None:
    connection.execute(
        "UPDATE rowtide.instance SET definition = coalesce(definition, '{}') || jsonb_build_object('topic_ids', %s::jsonb) "
        "WHERE name = %s",
        [json.dumps(dict(ids)), app.name],
    )


def _count(app: App, counts: dict[str, int]) -> None:
    if app.worker is not None:
        for name in counts:
            counts[name] += getattr(app.worker.totals, name)


def passes(error: Exception) -> bool:
    """Whether waiting may mend it."""
    return is_lost_connection(error) or isinstance(error, _PASSING)


def _reason(app: App, error: Exception) -> str:
    known = explained(error, app.settings)
    return known.message if known else type(error).__name__


def _record(app: App, error: Exception) -> None:
    """Let `rowtide status` tell why the instance does not run, where the state database still can."""
    try:
        with connect(app.dsn) as connection:
            instance.stop(connection, app.name, _reason(app, error))
    except (RowtideError, psycopg.Error):
        log.warning("worker.reason_not_recorded", domain=app.name)


def _follow_rebuild(app: App, stop: threading.Event) -> None:
    """Another writer was let in: wait while a rebuild swaps, then go on with the tables that are there."""
    with connect(app.dsn) as connection:
        while lead.is_rebuilt(connection, app.name) and not stop.wait(0.1):
            pass
    app.reload()
    log.info("worker.reloaded", domain=app.name)
