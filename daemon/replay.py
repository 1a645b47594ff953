"""Replay: takes the log in again beside the live tables, tells what would change, and swaps where told to.

A rebuild is a replay from the beginning that swaps. The live daemon goes on meanwhile: it waits for a moment where its
tables are compared, and is fenced off at the swap only. Nothing reads the new tables before the swap, so that nothing
is written to QuickBooks or to a source by a replay.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import structlog

from connectors.errors import RowtideError
from connectors.failpoints import failpoint
from connectors.log import Extent, TopicPartition
from connectors.state import connect
from consumers.bounded import BoundedLog
from consumers.engine import instance, rebuild
from consumers.engine.compare import TableChange, compare
from consumers.engine.engine import Engine
from consumers.reader import Reader
from consumers.worker import BatchStats
from daemon import lead, snapshots

if TYPE_CHECKING:
    from daemon.app import App

log = structlog.get_logger()
EARLIEST = "earliest"
CAUSE = "replay"
_ROUNDS = 20  # attempts to come near a live instance that moves on meanwhile


class ReplayRefusedError(RowtideError):
    """The replay cannot leave what the log says, so it is not done; the live tables are as they were."""


class Progress(NamedTuple):
    """How far a replay is: events (offsets of the log) or tables done, of so many."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Request:
    """What a replay is asked for.

    Args:
        origin: `earliest`, a moment in ISO 8601, or the path of a file of positions.
        apply: whether to swap at the end.
        restart: whether to begin anew although an interrupted replay could be gone on with.
        compares: whether to tell what changes.
    """

    origin: str = EARLIEST
    apply: bool = False
    restart: bool = False
    compares: bool = True
    on_progress: Callable[[Progress], None] | None = None
    on_batch: Callable[[BatchStats], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)


def rebuild_all(app: App, request: Request) -> dict[str, Any]:
    """Build mirror and models again from the log beside the live ones, then swap."""
    found = replay(app, request)
    return {name: found[name] for name in ("domain", "events", "seconds", "resumed")}


def replay(app: App, request: Request) -> dict[str, Any]:
    """Take the log in again; see `Request`. Raises ReplayRefusedError, CopyRefusedError, TopicReplacedError, ….

    Refuses, with the live tables untouched, where the log cannot tell what they must hold.
    """
    began = time.monotonic()
    _create_topics(app)
    with lead.rebuilding(app.dsn, app.name), connect(app.dsn) as control:
        snapshot: dict[TopicPartition, int] = {}
        if request.origin == EARLIEST:
            snapshot = _require_whole_history(app)
            _require_live(control, app, create=request.apply)
            app.own.publish_first_parameters()
        else:
            _require_live(control, app, create=False)
        with _building(app, request, control, snapshot) as build:
            build.take_in()
            changes = build.compare() if request.compares else None
            rebuild.analyze(control, app.analysis, app.name)
            pushes = _pushes(control, app)
            if request.apply:
                build.swap()
        return {
            "domain": app.name,
            "from": request.origin,
            "events": build.events,
            "resumed": build.resumed,
            "applied": request.apply,
            "seconds": round(time.monotonic() - began, 3),
            "begun_anew": build.anew,
            "pushes": pushes,
            "pending": _pending(app, changes or []),
            "tables": None if changes is None else [change.as_dict() for change in changes],
            "same": None if changes is None else all(change.same for change in changes),
        }


def _pushes(control: rebuild.Connection, app: App) -> int:
    """How many deliveries were taken up for the new tables: none, for nobody reads them before the swap."""
    row = control.execute(
        "SELECT count(*) FROM rowtide.delivery WHERE instance = %s", [rebuild.fresh_name(app.name)]
    ).fetchone()
    return int(row[0]) if row else 0


def _pending(app: App, changes: Sequence[TableChange]) -> dict[str, int]:
    """By model of pending deliveries, how many rows the swap would bring that are not pending as they are now."""
    models = {entry.model for entry in app.domain.write_back.values()}
    models |= {app.domain.push.pending} if app.domain.push else set()
    return {change.name: change.added + change.changed for change in changes if change.name in models}


def discard(app: App) -> bool:
    """Remove what an unfinished or unapplied replay has left. Returns whether there was something."""
    with lead.rebuilding(app.dsn, app.name), connect(app.dsn) as control:
        return rebuild.discard(control, app.name)


# --- building ---


@contextmanager
def _building(
    app: App, request: Request, control: rebuild.Connection, snapshot: Mapping[TopicPartition, int]
) -> Iterator[_Build]:
    plan, anew, resumed = _begin(app, request, control, snapshot)
    with psycopg.connect(app.dsn) as writer:
        epoch = instance.take_over(control, rebuild.fresh_name(app.name))
        engine = Engine(writer, app.analysis, rebuild.fresh_name(app.name), epoch)
        yield _Build(app, request, control, plan, engine, anew, resumed=resumed)


def _begin(
    app: App, request: Request, control: rebuild.Connection, snapshot: Mapping[TopicPartition, int]
) -> tuple[rebuild.Plan, list[str], bool]:
    """The plan: of the replay that was interrupted, where it is the same, else a new one with its instance."""
    ids = dict(app.log.topic_ids(app.topics))
    origin, start = _origin(app, request, control)
    found = rebuild.find_plan(control, app.name, app.analysis)
    if found is not None and not request.restart and (found.origin, dict(found.topic_ids)) == (origin, ids):
        log.info("replay.resumed", domain=app.name, origin=origin)
        return found, [], True
    plan = rebuild.Plan(origin, ids, snapshot or start, bare=bool(snapshot))
    anew = rebuild.begin(control, app.name, app.analysis, plan)
    failpoint("replay_begun")
    return rebuild.find_plan(control, app.name, app.analysis) or plan, anew, False


class _Build:
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
                if chunk.at_end:
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


# --- from where ---


def _origin(app: App, request: Request, control: rebuild.Connection) -> tuple[str, dict[TopicPartition, int]]:
    """The origin as it is stored, and the positions it means; none for the beginning."""
    if request.origin == EARLIEST:
        return EARLIEST, {}
    row = control.execute(
        "SELECT coalesce(definition -> 'topic_ids', '{}') FROM rowtide.instance WHERE name = %s", [app.name]
    ).fetchone()
    app.log.expect({topic: id_ for topic, id_ in (row[0] if row else {}).items() if topic in app.topics})
    live = rebuild.positions(control, app.name)
    if not live:
        raise ReplayRefusedError(
            f"The live tables of {app.name} have taken in nothing yet: there is nothing to begin from.",
            hint="Use --from earliest, or `rowtide run`.",
        )
    extents = app.log.extents(app.topics)
    path = Path(request.origin)
    if path.is_file():
        wanted = read_positions(path)
        _check_positions(wanted, live, extents)
        origin = "positions " + json.dumps(sorted((f"{p.topic}/{p.partition}", o) for p, o in wanted.items()))
        return origin, {place: wanted.get(place, offset) for place, offset in live.items()}
    moment = _moment(request.origin)
    found = app.log.positions_at(app.topics, round(moment.timestamp() * 1000))
    for place, offset in sorted(found.items()):
        start = extents[place].start
        if 0 < start == offset:
            raise ReplayRefusedError(
                f"The log of {place.topic}/{place.partition} begins at {start}, and what there was before it may be later "
                f"than {moment.isoformat()}.",
                hint=f"Name a later time, or a file of positions: {place.topic}/{place.partition} has {start} and later.",
            )
    return moment.isoformat(), {place: min(found.get(place, offset), offset) for place, offset in live.items()}


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ReplayRefusedError(
            f"“{text}” is neither `earliest`, nor a time, nor a file.",
            hint="Write --from earliest, --from 2026-02-14T00:00:00+00:00, or --from FILE with the positions.",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_positions(path: Path) -> dict[TopicPartition, int]:
    """Positions from a file: `{"TOPIC/PARTITION": OFFSET}`, or what `rowtide status --json` printed."""
    hint = 'Write {"TOPIC/PARTITION": OFFSET, …}, or use the output of `rowtide status --json`.'
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        entries = found.get("topics", found)
        positions: dict[TopicPartition, int] = {}
        for name, entry in entries.items():
            topic, _, partition = name.rpartition("/")
            offset = entry["position"] if isinstance(entry, dict) else entry
            if not topic or isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
                raise ValueError  # noqa: TRY301 - handled as what is no JSON
            positions[TopicPartition(topic, int(partition))] = offset
    except (ValueError, AttributeError, KeyError, TypeError):
        raise ReplayRefusedError(f"{path} holds no positions.", hint=hint) from None
    if not positions:
        raise ReplayRefusedError(f"{path} names no position.", hint=hint)
    return positions


def _check_positions(
    wanted: Mapping[TopicPartition, int],
    live: Mapping[TopicPartition, int],
    extents: Mapping[TopicPartition, Extent],
) -> None:
    for place, offset in sorted(wanted.items()):
        name = f"{place.topic}/{place.partition}"
        if place not in extents:
            raise ReplayRefusedError(
                f"The domain reads no {name}.",
                hint=f"It reads: {', '.join(f'{p.topic}/{p.partition}' for p in extents)}.",
            )
        if offset > live.get(place, 0):
            raise ReplayRefusedError(
                f"The position {offset} of {name} lies behind what the live tables have taken in, {live.get(place, 0)}: the "
                "events between them would be left out.",
                hint="Let the daemon work them off first (`rowtide run --until-idle`), or name an earlier position.",
            )
        if offset < extents[place].start and offset < live.get(place, 0):
            raise ReplayRefusedError(
                f"The log of {name} no longer has the events {offset} to {extents[place].start - 1}: it begins at "
                f"{extents[place].start}.",
                hint=f"Name {extents[place].start} or later for {name}; older events need a new snapshot of the source.",
            )


# --- what must be there ---


def _create_topics(app: App) -> None:
    known = app.log.topics()
    for topic in app.topics:
        if topic not in known:
            app.log.create_topic(topic)


def _require_live(control: rebuild.Connection, app: App, *, create: bool) -> None:
    if instance.find(control, app.name) is not None:
        return
    if not create:
        raise instance.InstanceError(
            f"{app.name} has not been set up in this state database.", hint="Run `rowtide init` first."
        )
    instance.create(control, app.name, app.analysis)


def _require_whole_history(app: App) -> dict[TopicPartition, int]:
    """Refuse where the log begins late, or ends before what the live tables have taken in.

    A topic of the source may begin late if a snapshot of all tables is in it and nothing is kept of what was before:
    returns where the newest one begins.
    """
    extents = app.log.extents(app.topics)
    snapshot = _snapshot(app, extents)
    for place, extent in sorted(extents.items()):
        if extent.start > 0 and place not in snapshot:
            raise ReplayRefusedError(
                f"The log no longer has the beginning of {place.topic}/{place.partition}: it starts at {extent.start}. "
                "The live tables are as they were.",
                hint="Only the whole history builds the tables from nothing, or a new snapshot of all tables in the log where no "
                "model has a history. `rowtide replay --from FILE` (see docs/replay.md) "
                "takes in again what there is, onto a copy of the live tables; or begin anew with a new snapshot of the "
                "source, in another state database (--state DIR).",
            )
    with connect(app.dsn) as connection:
        found = rebuild.positions(connection, app.name)
    for place, offset in sorted(found.items()):
        there = extents.get(place)
        if there is not None and offset > there.end:
            raise ReplayRefusedError(
                f"The tables have taken in {place.topic}/{place.partition} up to {offset}, but the log ends at {there.end}: "
                "it was recreated, or restored from a backup. The live tables are as they were.",
                hint="Restore the log, or begin anew from the source with another state database (--state DIR).",
            )
    return snapshot


def _snapshot(app: App, extents: Mapping[TopicPartition, Extent]) -> dict[TopicPartition, int]:
    """Where the newest snapshot of all tables begins, if it can stand for what the log no longer has."""
    kept = any(model.file.history or model.file.keep for model in app.analysis.models)
    places = [place for place in extents if place.topic in app.domain.topics]
    if kept or len(places) != 1 or extents[places[0]].start == 0:
        return {}
    offset = snapshots.newest(app, places[0])
    return {} if offset is None else {places[0]: offset}
