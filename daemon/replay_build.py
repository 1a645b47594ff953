"""The new instance of a replay while it is filled beside the live one: taken in, compared, swapped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import structlog

from connectors.failpoints import failpoint
from connectors.log import TopicPartition
from consumers.bounded import BoundedLog
from consumers.engine import instance, rebuild
from consumers.engine.compare import TableChange, compare
from consumers.engine.engine import Engine
from consumers.reader import Reader
from consumers.worker import BatchStats
from daemon.replay_origin import find_origin
from daemon.replay_request import Progress, ReplayRefusedError, Request

if TYPE_CHECKING:
    from daemon.app import App

log = structlog.get_logger()
CAUSE = "replay"
_ROUNDS = 20  # attempts to come near a live instance that moves on meanwhile


@contextmanager
def building(
    app: App, request: Request, control: rebuild.Connection, snapshot: Mapping[TopicPartition, int]
) -> Iterator[Build]:
    """The new instance, begun or gone on with, under an epoch and on a session of its own."""
    plan, anew, resumed = _begin(app, request, control, snapshot)
    with psycopg.connect(app.dsn) as writer:
        epoch = instance.take_over(control, rebuild.fresh_name(app.name))
        engine = Engine(writer, app.analysis, rebuild.fresh_name(app.name), epoch)
        yield Build(app, request, control, plan, engine, anew, resumed=resumed)


def _begin(
    app: App, request: Request, control: rebuild.Connection, snapshot: Mapping[TopicPartition, int]
) -> tuple[rebuild.Plan, list[str], bool]:
    """The plan: of the replay that was interrupted, where it is the same, else a new one with its instance."""
    ids = dict(app.log.topic_ids(app.topics))
    origin, start = find_origin(app, request, control)
    found = rebuild.find_plan(control, app.name, app.analysis)
    if found is not None and not request.restart and (found.origin, dict(found.topic_ids)) == (origin, ids):
        log.info("replay.resumed", domain=app.name, origin=origin)
        return found, [], True
    plan = rebuild.Plan(origin, ids, snapshot or start, bare=bool(snapshot))
    anew = rebuild.begin(control, app.name, app.analysis, plan)
    failpoint("replay_begun")
    return rebuild.find_plan(control, app.name, app.analysis) or plan, anew, False


class Build:
    """The new instance while it is filled."""

    def __init__(
        self,
        app: App,
        request: Request,
        control: rebuild.Connection,
        plan: rebuild.Plan,
        engine: Engine,
        anew: list[str],
        *,
        resumed: bool,
    ) -> None:
        self._app = app
        self._request = request
        self._control = control
        self._plan = plan
        self._engine = engine
        self.anew = anew
        self.resumed = resumed
        self.events = 0

    def take_in(self) -> None:
        """Take in what the live instance has, or the whole log where that has nothing."""
        if self._plan.copies and not self._plan.recomputed:
            self._absorb()
        for _ in range(_ROUNDS):
            bound = self._live()
            if not bound:
                self._work("events", {})
                return
            if self._work("events", bound) <= self._app.settings.worker.batch_events:
                return

    def _live(self) -> dict[TopicPartition, int]:
        return rebuild.positions(self._control, self._app.name)

    def _absorb(self) -> None:
        """Bring what the copy has seen before into its mirror once more, then refresh its models."""
        app, until = self._app, self._plan.until
        done = self._counter("events", until)
        settings = app.settings.worker
        reader = Reader(
            BoundedLog(app.log, until),
            app.decoder(),
            {place: self._engine.positions.get(place, offset) for place, offset in until.items()},
            settings.batch_events,
            settings.batch_bytes,
        )
        try:
            while not self._request.stop.is_set():
                chunk = reader.next()
                self.events += self._engine.absorb(chunk.units)
                done()
                failpoint("replay_absorbed")
                if chunk.is_last:
                    break
        finally:
            reader.close()
        self._engine.recompute(until, CAUSE)
        rebuild.store_recomputed(self._control, app.name, self._plan)
        failpoint("replay_recomputed")

    def _work(self, phase: str, bound: Mapping[TopicPartition, int]) -> int:
        """Apply what lies before the bound, where there is one, else all there is. Returns the events."""
        app = self._app
        ends = bound or {place: extent.end for place, extent in app.log.extents(app.topics).items()}
        if all(self._engine.positions.get(place, 0) >= end for place, end in ends.items()):
            return 0
        done = self._counter(phase, ends)

        def committed(stats: BatchStats) -> None:
            done()
            failpoint("replay_batch")
            if self._request.on_batch is not None:
                self._request.on_batch(stats)

        worker = app.make_worker(self._engine, committed, BoundedLog(app.log, bound))
        worker.run(self._request.stop, until_idle=True)
        self.events += worker.totals.events
        return worker.totals.events

    def _counter(self, phase: str, ends: Mapping[TopicPartition, int]) -> Callable[[], None]:
        """Tells the progress up to these positions, each time it is called."""
        told = self._request.on_progress
        if told is None:
            return lambda: None
        begin = {place: self._plan.start.get(place, 0) for place in ends}
        total = sum(max(end - begin[place], 0) for place, end in ends.items())

        def tell() -> None:
            done = sum(max(self._engine.positions.get(place, 0) - offset, 0) for place, offset in begin.items())
            told(Progress(phase, min(done, total), total))

        tell()
        return tell

    def compare(self) -> list[TableChange]:
        """What the swap would change, both instances being at the same positions: the live one waits for a moment."""
        app, told = self._app, self._request.on_progress
        with psycopg.connect(app.dsn) as pausing, psycopg.connect(app.dsn) as looking:
            pausing.execute("SELECT 1 FROM rowtide.instance WHERE name = %s FOR NO KEY UPDATE", [app.name])
            bound = rebuild.positions(pausing, app.name)
            if bound:
                self._work("events", bound)
            looking.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            looking.execute("SELECT 1 FROM rowtide.instance")  # from here on it sees both as they are now
            pausing.rollback()
            return compare(
                looking,
                app.analysis,
                app.name,
                rebuild.fresh_name(app.name),
                None
                if told is None
                else lambda name, number, total: told(Progress(f"comparing {name}", number, total)),
            )

    def swap(self) -> None:
        """Take in the rest, fence the live writer off, take in what it did last, swap."""
        app = self._app
        self._work("events", {})
        instance.take_over(self._control, app.name)
        failpoint("replay_fenced")
        taken = self._live()
        self._work("events", {})
        behind = [place for place, offset in taken.items() if self._engine.positions.get(place, 0) < offset]
        if behind:
            raise ReplayRefusedError(
                f"The log of {behind[0].topic}/{behind[0].partition} ends before what the live tables have taken in: they "
                "stay as they are.",
                hint="See whether the log was restored from a backup, then run the same command again.",
            )
        instance.swap(self._control, app.name)
        self._control.execute(
            "UPDATE rowtide.instance SET definition = coalesce(definition, '{}') || jsonb_build_object('topic_ids', %s::jsonb) "
            "WHERE name = %s",
            [json.dumps(dict(self._plan.topic_ids)), app.name],
        )
        log.info("replay.swapped", domain=app.name, events=self.events)
