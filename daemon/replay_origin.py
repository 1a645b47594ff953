"""From where a replay begins, and whether the log still has what lies behind it: refused where it has not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.log import Extent, TopicPartition
from connectors.state import connect
from consumers.engine import rebuild
from daemon import snapshots
from daemon.replay_request import EARLIEST, ReplayRefusedError, Request

if TYPE_CHECKING:
    from daemon.app import App


def find_origin(app: App, request: Request, control: rebuild.Connection) -> tuple[str, dict[TopicPartition, int]]:
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


def require_whole_history(app: App) -> dict[TopicPartition, int]:
    """Refuse where the log begins late, or ends before what the live tables have taken in.

    A topic of the source may begin late if a snapshot of all tables is in it and nothing is kept of what was before:
    returns where the newest one begins.
    """
    with connect(app.dsn) as connection:
        found = rebuild.positions(connection, app.name)  # before the log's ends: both go on meanwhile
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
