"""Opens the capture that the settings name, and tells whether its source answers."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from connectors.errors import RowtideError
from connectors.log import Log
from connectors.postgres_errors import reason_of
from consumers.domain import Domain
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
    dsn, tables, topic = source.dsn.get_secret_value(), list(app.domain.tables.values()), app.domain.topics[0]
    if source.kind == "mysql":
        from connectors.capture.mysql import MySQLCapture  # noqa: PLC0415 - each family brings its own driver

        return MySQLCapture(
            dsn,
            tables,
            target,
            topic,
            name=app.name,
            heartbeat_seconds=source.heartbeat_seconds,
            to_business_ms=app.time.of_source_ms,
        )
    from connectors.capture.postgres import PostgresCapture  # noqa: PLC0415

    return PostgresCapture(
        dsn,
        tables,
        target,
        topic,
        name=app.name,
        schema=source.db_schema,
        heartbeat_seconds=source.heartbeat_seconds,
        to_business_ms=app.time.of_source_ms,
    )


def grants(settings: Settings, domain: Domain, *, user: str, schema: str | None, mysql: bool) -> list[str]:
    """The statements that give capture, and write-back where it is on, the least rights in the source.

    `schema` is the source's schema, in MySQL and MariaDB its database; where None the settings tell it.
    """
    from daemon.writeback import grants as writeback_grants  # noqa: PLC0415 - brings the sources' drivers with it

    tables, source = list(domain.tables.values()), settings.source
    if mysql or source.kind == "mysql":
        from connectors.capture.mysql import grants as mysql_grants  # noqa: PLC0415
        from connectors.capture.mysql import read_dsn  # noqa: PLC0415

        database = schema or (read_dsn(source.dsn.get_secret_value()).database if source.dsn else None)
        if not database:
            raise RowtideError("The source's database is not known.", hint="Name it: `rowtide grants --schema NAME`.")
        return [
            *mysql_grants(tables, user=user, database=database),
            *writeback_grants(settings, domain, user=user, place=database, mysql=True),
        ]
    from connectors.capture.postgres import grants as postgres_grants  # noqa: PLC0415

    place = schema or source.db_schema
    return [
        *postgres_grants(tables, user=user, schema=place, name=domain.name),
        *writeback_grants(settings, domain, user=user, place=place, mysql=False),
    ]


def probe(settings: Settings, name: str) -> dict[str, Any] | None:
    """Whether the source answers, or why not, without secrets; None where none is set."""
    source = settings.source
    if source.kind == "none" or source.dsn is None:
        return None
    look = _look_mysql if source.kind == "mysql" else _look_postgres
    try:
        return {"kind": source.kind, "reachable": True, "reason": None, **look(source.dsn.get_secret_value(), name)}
    except RowtideError as error:
        return {"kind": source.kind, "reachable": False, "reason": error.message}


def _look_postgres(dsn: str, name: str) -> dict[str, Any]:
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=_PROBE_SECONDS) as connection:
            row = connection.execute(
                "SELECT active, wal_status, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn)::bigint "
                "FROM pg_replication_slots WHERE slot_name = %s",
                [f"rowtide_{name}"],
            ).fetchone()
    except psycopg.Error as error:
        raise RowtideError(reason_of(error)) from None
    return {} if row is None else {"slot_active": row[0], "slot": row[1], "unread_bytes": row[2]}


def _look_mysql(dsn: str, name: str) -> dict[str, Any]:
    import pymysql  # noqa: PLC0415

    from connectors.capture.mysql import connect, describe, read_dsn  # noqa: PLC0415

    del name
    place = read_dsn(dsn)
    place = replace(place, options={"connect-timeout": str(_PROBE_SECONDS), **place.options})
    try:
        with connect(place, read_timeout=_PROBE_SECONDS) as connection:
            server = describe(connection)
    except (pymysql.MySQLError, OSError) as error:
        raise RowtideError(str(error.args[-1]) if error.args else type(error).__name__) from None
    return {"server": f"{'MariaDB' if server.mariadb else 'MySQL'} {'.'.join(map(str, server.version))}"}


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
