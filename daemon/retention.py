"""Automatic retention: removes from the log what the settings do not keep and every instance has taken in."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
import structlog

from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.state import connect

if TYPE_CHECKING:
    from daemon.app import App

log = structlog.get_logger()
EVERY = 60.0  # seconds


def enforce(app: App) -> dict[str, int]:
    """Remove what may go from the domain's topics. Returns the records removed by topic.

    What an instance has not yet read stays, and so does everything of our own topics (`rowtide.*`): parameters and
    decisions have no other home.
    """
    settings = app.settings.log
    removed: dict[str, int] = {}
    if settings.retention_age is None and settings.retention_size is None:
        return removed
    known = app.log.topics()
    for topic in app.domain.topics:
        if topic not in known or topic.startswith("rowtide."):
            continue
        removed[topic] = app.log.enforce_retention(
            topic,
            age=settings.retention_age,
            size=settings.retention_size,
            now_ms=app.time.of_source_ms(round(time.time() * 1000)),
            unread=_unread(app, topic, known[topic]),
        )
    return removed


def _unread(app: App, topic: str, partitions: int) -> dict[TopicPartition, int]:
    """The first offset of each partition that some instance has still to read."""
    with connect(app.dsn) as connection:
        found = connection.execute(
            "SELECT p.partition, min(p.next_offset), bool_or(p.instance = %s) FROM rowtide.position AS p "
            "WHERE p.topic = %s GROUP BY p.partition",
            [app.name, topic],
        ).fetchall()
    positions = {partition: offset if own else 0 for partition, offset, own in found}
    return {TopicPartition(topic, partition): positions.get(partition, 0) for partition in range(partitions)}


def keep_enforcing(app: App, over: threading.Event, every: float = EVERY) -> None:
    """Enforce now and then until the term is over."""
    while not over.wait(every):
        try:
            removed = sum(enforce(app).values())
        except (RowtideError, psycopg.Error) as error:
            log.warning("retention.failed", domain=app.name, error=type(error).__name__)
            continue
        if removed:
            log.info("retention.enforced", domain=app.name, records=removed)
