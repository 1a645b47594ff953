"""Whether the models are as the source is now: what they ask to be pushed might else be over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import psycopg

from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.state import connect
from daemon.writeback import Currency

if TYPE_CHECKING:
    from daemon.app import App

_PATIENCE = 10.0  # seconds that a command waits for the models to be current

Connection = psycopg.Connection[tuple[Any, ...]]


class NotCurrentError(RowtideError):
    """The models are behind the log: what they ask for may be over."""

    def __init__(self) -> None:
        super().__init__(
            "The tables are behind the log, so what is pending may be over.",
            hint="Have `rowtide run` catch up, then ask again; `rowtide status` shows how far it is.",
        )


def currency(app: App, clock: Callable[[], float] = time.monotonic) -> Currency:
    """Tells whether the app's models are as the source is now."""
    return Currency(
        app.name,
        lambda: {place: extent.end for place, extent in app.log.extents(app.topics).items()},
        lambda positions: not app.log.read(dict(positions), limit=1),
        clock,
    )


def require_current(app: App, stop: threading.Event) -> None:
    """Wait a little for the models to hold what the log holds at this moment. Raises NotCurrentError.

    What was told of pushes is needed only where the map was lost: else the map is newer than the log.
    """
    with connect(app.dsn) as connection:
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM rowtide.customer WHERE instance = %s)", [app.name]
        ).fetchone()
        topics = app.domain.topics if row == (True,) else app.topics
        ends = {place: extent.end for place, extent in app.log.extents(topics).items()}
        until = time.monotonic() + _PATIENCE
        while not _holds(app, connection, ends):
            if time.monotonic() >= until or stop.wait(0.1):
                raise NotCurrentError


def _holds(app: App, connection: Connection, ends: Mapping[TopicPartition, int]) -> bool:
    rows = connection.execute(
        "SELECT topic, partition, next_offset FROM rowtide.position WHERE instance = %s", [app.name]
    ).fetchall()
    stored = {TopicPartition(topic, partition): offset for topic, partition, offset in rows}
    positions = {place: stored.get(place, 0) for place in ends}
    if all(positions[place] >= end for place, end in ends.items()):
        return True
    return not app.log.read(positions, limit=1)  # some logs end behind their last record
