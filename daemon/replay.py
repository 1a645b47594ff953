"""Replay: takes the log in again beside the live tables, tells what would change, and swaps where told to.

A rebuild is a replay from the beginning that swaps. The live daemon goes on meanwhile: it waits for a moment where its
tables are compared, and is fenced off at the swap only. Nothing reads the new tables before the swap, so that nothing
is written to QuickBooks or to a source by a replay.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from connectors.log import TopicPartition
from connectors.state import connect
from consumers.engine import instance, rebuild
from consumers.engine.compare import TableChange
from daemon import lead
from daemon.replay_build import building
from daemon.replay_origin import require_whole_history
from daemon.replay_request import EARLIEST, Request

if TYPE_CHECKING:
    from daemon.app import App


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
            snapshot = require_whole_history(app)
            _require_live(control, app, create=request.apply)
            app.own.publish_first_parameters()
        else:
            _require_live(control, app, create=False)
        with building(app, request, control, snapshot) as build:
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
