"""What an operator wants to know about an instance, told from the state database by whoever asks.

The states: `absent` (never set up), `stopped` (a person must act; the reason says how), `idle` (no daemon works on it),
`running`, and `degraded` (running, but events are parked, or something needed does not answer).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg

from connectors.errors import RowtideError
from connectors.log import Extent, Log, RetentionGapError, TopicPartition
from connectors.state import connect
from consumers.engine import instance, schema
from daemon import lead, writeback
from daemon.logs import extents, open_log
from daemon.sources import probe as probe_source

if TYPE_CHECKING:
    from daemon.app import App

_PATIENCE = 5.0  # seconds that somebody who asks how things are waits for a cluster that is away


def status(app: App, *, probe: bool) -> dict[str, Any]:
    """The state of the app's instance; see `App.status`."""
    with connect(app.dsn) as connection:
        found = instance.find(connection, app.name)
        if found is None or not schema.exists(connection, app.name):
            return _absent(app)
        led = lead.is_led(connection, app.name)
        rebuilt = lead.is_rebuilt(connection, app.name)
        positions = _positions(connection, app.name)
        parked, parked_reason = _parked(connection, app.name)
        clock, rows = _contents(connection, app)
        fits = found.fingerprint == app.domain.fingerprint
        written = writeback.status(app, connection) if fits else None
        customers = _customers(app, connection) if fits else None
    log_error, places = _extents(app)
    gap = _gap(positions, places)
    source = probe_source(app.settings, app.name) if probe else None
    problems = [
        *([f"events are parked: {parked_reason}"] if parked else []),
        *([log_error] if log_error else []),
        *([gap] if gap else []),
        *([written["problem"]] if written and written["problem"] else []),
        *([customers["problem"]] if customers and customers["problem"] else []),
        *([f"the source does not answer: {source['reason']}"] if source and not source["reachable"] else []),
    ]
    state = found.state
    if state == "running":
        state = "degraded" if problems else ("running" if led else "idle")
    topics = {
        f"{place.topic}/{place.partition}": {
            "position": positions.get(place, 0),
            "start": extent.start,
            "end": extent.end,
            "lag": extent.end - positions.get(place, 0),
        }
        for place, extent in sorted(places.items())
    }
    return {
        "domain": app.name,
        "title": app.domain.title,
        "state": state,
        "reason": found.reason or ("; ".join(problems) or None),
        "led": led,
        "rebuilding": rebuilt,
        "epoch": found.epoch,
        "clock": clock,
        "topics": topics,
        "lag_events": {name: entry["lag"] for name, entry in topics.items()},
        "behind_seconds": _behind(app, positions, places),
        "parked": parked,
        "last_parked": parked_reason,
        "source": source,
        "rows": rows,
        "write_back": written,
        "customers": customers,
        "fits_files": fits,
    }


def _absent(app: App) -> dict[str, Any]:
    return {
        "domain": app.name,
        "title": app.domain.title,
        "state": "absent",
        "reason": f"{app.name} has not been set up in this state database: run `rowtide init`",
        "led": False,
        "rebuilding": False,
        "epoch": 0,
        "clock": None,
        "topics": {},
        "lag_events": {},
        "behind_seconds": None,
        "parked": 0,
        "last_parked": None,
        "source": None,
        "rows": {},
        "write_back": None,
        "customers": None,
        "fits_files": True,
    }


def _customers(app: App, connection: psycopg.Connection[Any]) -> dict[str, Any] | None:
    if app.domain.push is None:
        return None
    from daemon import customer_status  # noqa: PLC0415 - brings what talks to QuickBooks, for domains that push

    return customer_status.status(app, connection)


def _positions(connection: psycopg.Connection[Any], name: str) -> dict[TopicPartition, int]:
    found = connection.execute(
        "SELECT topic, partition, next_offset FROM rowtide.position WHERE instance = %s", [name]
    ).fetchall()
    return {TopicPartition(topic, partition): offset for topic, partition, offset in found}


def _parked(connection: psycopg.Connection[Any], name: str) -> tuple[int, str | None]:
    row = connection.execute(
        "SELECT count(*), (array_agg(reason ORDER BY id DESC))[1] FROM rowtide.parked_event WHERE instance = %s", [name]
    ).fetchone()
    return (row[0], row[1]) if row else (0, None)


def _contents(connection: psycopg.Connection[Any], app: App) -> tuple[str | None, dict[str, int]]:
    """The clock and the models' rows, in one snapshot; a model that is not there yet (new file) is left out."""
    rows = {}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        schema.use(connection, app.name)
        clock = connection.execute("SELECT CASE WHEN isfinite(now) THEN now END FROM clock").fetchone()
        there = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)", [f'"{app.name}"']
        ).fetchall()
        names = {row[0] for row in there}
        for model in app.analysis.models:
            if model.name in names:
                count = connection.execute(f'SELECT count(*) FROM "{model.name}"').fetchone()
                rows[model.name] = count[0] if count else 0
    return (clock[0].isoformat() if clock and clock[0] else None), rows


def _extents(app: App) -> tuple[str | None, dict[TopicPartition, Extent]]:
    """The log's extents, or why it does not tell them."""
    if app.worker is not None:  # the page of a daemon that works: its log knows by now whether the servers answer
        return _told_extents(app.log, app.topics)
    with closing(open_log(app.settings, app.dsn, patience=_PATIENCE)) as log:
        return _told_extents(log, app.topics)


def _told_extents(log: Log, topics: Iterable[str]) -> tuple[str | None, dict[TopicPartition, Extent]]:
    try:
        return None, extents(log, topics)
    except RowtideError as error:
        return error.message, {}


def _gap(positions: dict[TopicPartition, int], places: dict[TopicPartition, Extent]) -> str | None:
    """What the log no longer has, or never had, of what the instance still needs."""
    for place, extent in sorted(places.items()):
        position = positions.get(place, 0)
        if position < extent.start:
            return f"the log no longer has {place.topic}/{place.partition} from {position} to {extent.start - 1}"
        if position > extent.end:
            return f"the log of {place.topic}/{place.partition} ends at {extent.end}, before the position {position}"
    return None


def _behind(app: App, positions: dict[TopicPartition, int], places: dict[TopicPartition, Extent]) -> float | None:
    """Seconds since the oldest event that waits to be taken in was appended; 0 where none waits."""
    waiting = {
        place: max(positions.get(place, 0), extent.start)
        for place, extent in places.items()
        if positions.get(place, 0) < extent.end
    }
    oldest = None
    try:
        for place, offset in waiting.items():
            records = app.log.read({place: offset}, limit=1)
            if records:
                oldest = min(records[0].ts_ms, oldest or records[0].ts_ms)
    except (RetentionGapError, RowtideError):
        return None
    if oldest is None:
        return 0.0 if places else None
    return max(0.0, round((app.time.now_ms() - oldest) / 1000, 3))
