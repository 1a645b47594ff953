"""Opens the capture that the settings name, and tells whether its source answers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from connectors.errors import RowtideError
from connectors.log import Log
from daemon.settings import Settings

if TYPE_CHECKING:
    from daemon.app import App

_PROBE_SECONDS = 3


class Capture(Protocol):
    """Reads a source's changes and appends them to the log."""

    def run(self, stop: threading.Event) -> None:
        """Capture until stopped; reconnects. Raises CaptureStoppedError where a person has to act."""

    def run_until_now(self, stop: threading.Event) -> None:
        """Capture what was committed in the source before this call, then return."""


def open_capture(app: App, target: Log) -> Capture:
    """The capture from the app's source, which the settings name, into a log."""
    source = app.settings.source
    if source.dsn is None:
        raise RowtideError("There is no source to capture from.", hint="Set source.dsn.")
    from connectors.capture.postgres import PostgresCapture  # noqa: PLC0415 - each family brings its own driver

    return PostgresCapture(
        source.dsn.get_secret_value(),
        list(app.domain.tables.values()),
        target,
        app.domain.topics[0],
        name=app.name,
        schema=source.db_schema,
        heartbeat_seconds=source.heartbeat_seconds,
        to_business_ms=app.time.of_source_ms,
    )


def probe(settings: Settings, name: str) -> dict[str, Any] | None:
    """Whether the source answers, or why not, without secrets; None where none is set."""
    source = settings.source
    if source.kind == "none" or source.dsn is None:
        return None
    found: dict[str, Any] = {"kind": source.kind, "reachable": False, "reason": None}
    try:
        with psycopg.connect(
            source.dsn.get_secret_value(), autocommit=True, connect_timeout=_PROBE_SECONDS
        ) as connection:
            row = connection.execute(
                "SELECT active, wal_status, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn)::bigint "
                "FROM pg_replication_slots WHERE slot_name = %s",
                [f"rowtide_{name}"],
            ).fetchone()
    except psycopg.Error as error:
        lines = str(error).strip().splitlines()
        return {**found, "reason": lines[-1] if lines else type(error).__name__}
    found["reachable"] = True
    if row is not None:
        found |= {"slot_active": row[0], "slot": row[1], "unread_bytes": row[2]}
    return found


def evict(settings: Settings, name: str) -> None:
    """Free the source's slot from a former leader that holds it without reading."""
    source = settings.source
    if source.kind != "postgres" or source.dsn is None:
        return
    try:
        with psycopg.connect(
            source.dsn.get_secret_value(), autocommit=True, connect_timeout=_PROBE_SECONDS
        ) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE slot_name = %s AND active_pid IS NOT NULL",
                [f"rowtide_{name}"],
            )
    except psycopg.Error:
        return  # the capture itself will say what is wrong
