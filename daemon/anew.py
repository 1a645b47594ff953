"""A new snapshot on request: of some tables beside the stream, or of all, which also ends a gap in the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from connectors.capture.anew import ask_for_snapshot
from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.state import connect
from daemon import lead, work

if TYPE_CHECKING:
    from daemon.app import App


def ask(app: App, tables: Sequence[str]) -> list[str]:
    """Have the daemon read the source's tables anew, all where none is named. Returns what was done.

    A daemon that runs begins at once, one that is started later begins with it. Where events that were not taken in
    are no longer in the log, they are passed over: the snapshot of all tables tells what they changed, though not when.
    """
    if app.settings.source.kind == "none":
        raise RowtideError(
            "Rowtide does not capture this domain's source, so it cannot read its tables.",
            hint="Set source.dsn; or have the connector that does take a snapshot.",
        )
    unknown = [name for name in tables if name not in app.domain.tables]
    if unknown:
        raise RowtideError(
            f"The domain {app.name} declares no table {unknown[0]}.",
            hint=f"It has {', '.join(sorted(app.domain.tables))}.",
        )
    topic = app.domain.topics[0]
    with connect(app.dsn) as connection:
        stale = _stale(connection, app, topic)
        if stale and tables:
            raise RowtideError(
                f"Events of {topic} that were not taken in are no longer in the log; they may be of any table.",
                hint="Run `rowtide init --snapshot` without a table's name.",
            )
        if stale and not lead.try_lead(connection, app.name):
            raise RowtideError(
                f"A daemon works on {app.name}, and events of {topic} are to be passed over.",
                hint="Stop it, run `rowtide init --snapshot` again, then start it.",
            )
        begun = ask_for_snapshot(app.log, topic, tables or None)
        passed = _pass_over(connection, app, topic, stale) if stale else []
    if not begun:
        return ["no snapshot was taken yet: the first one reads all tables"]
    return [f"asked for a new snapshot of {', '.join(tables) if tables else 'all tables'}", *passed]


def _stale(connection: psycopg.Connection[Any], app: App, topic: str) -> list[TopicPartition]:
    """The partitions whose stored position the log cannot serve.

    It is before its start, behind its end, of another topic, or behind records that are not those taken in.
    """
    extents = app.log.extents([topic])
    if _known_ids(connection, app).get(topic, "") not in ("", app.log.topic_ids([topic])[topic]):
        return list(extents)
    rows = connection.execute(
        "SELECT partition, next_offset FROM rowtide.position WHERE instance = %s AND topic = %s", [app.name, topic]
    ).fetchall()
    stored = {TopicPartition(topic, partition): offset for partition, offset in rows}
    regrown = work.regrown(connection, app)
    return [
        place
        for place, extent in extents.items()
        if place in regrown or not extent.start <= stored.get(place, 0 if extent.start else extent.start) <= extent.end
    ]


def _known_ids(connection: psycopg.Connection[Any], app: App) -> dict[str, str]:
    row = connection.execute(
        "SELECT coalesce(definition -> 'topic_ids', '{}') FROM rowtide.instance WHERE name = %s", [app.name]
    ).fetchone()
    return dict(row[0]) if row else {}


def _pass_over(
    connection: psycopg.Connection[Any], app: App, topic: str, places: Sequence[TopicPartition]
) -> list[str]:
    """Go on at the end of what is in the topic: the snapshot that follows there replaces all rows."""
    extents = app.log.extents([topic])
    ids = {**_known_ids(connection, app), **app.log.topic_ids([topic])}
    done = []
    with connection.transaction():
        for place in places:
            connection.execute(
                "INSERT INTO rowtide.position (instance, topic, partition, next_offset) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (instance, topic, partition) DO UPDATE SET next_offset = excluded.next_offset, mark = NULL",
                [app.name, topic, place.partition, extents[place].end],
            )
            done.append(f"passed over the events of {topic}/{place.partition} up to {extents[place].end}")
        connection.execute(
            "UPDATE rowtide.instance SET definition = coalesce(definition, '{}') || "
            "jsonb_build_object('topic_ids', %s::jsonb) WHERE name = %s",
            [json.dumps(ids), app.name],
        )
    return done
