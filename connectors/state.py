"""The state database: brings our own schema, `rowtide`, to the version this program needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from connectors.errors import RowtideError
from connectors.postgres_errors import reason_of

OLDEST = 15
HEAD = "0007"
_LOCK = 0x726F7774  # one migration at a time, whoever starts first


class StateError(RowtideError):
    """The state database cannot be used."""


def check_version(number: int) -> None:
    """Refuse a server older than PostgreSQL 15 (`server_version_num` 150000): NULLS NOT DISTINCT is needed."""
    if number < OLDEST * 10000:
        raise StateError(
            f"The state database is PostgreSQL {number // 10000}; Rowtide needs {OLDEST} or newer.",
            hint="Upgrade the server, or leave state.dsn out to use the embedded PostgreSQL.",
        )


def connect(dsn: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection in autocommit mode. Raises StateError without the password of the dsn."""
    try:
        return psycopg.connect(dsn, autocommit=True)
    except psycopg.ProgrammingError:
        raise StateError(
            "The connection string of the state database cannot be read.",
            hint="Write state.dsn as postgresql://USER@HOST:5432/DATABASE; `rowtide config show` tells where it came from.",
        ) from None
    except psycopg.OperationalError as error:
        raise StateError(
            f"The state database does not answer: {reason_of(error)}",
            hint="Check state.dsn and that the server runs; `rowtide config show` tells where the setting came from.",
        ) from None


def migrate(dsn: str) -> None:
    """Bring the schema `rowtide` to the newest version; quick where it is. Raises StateError."""
    with connect(dsn) as connection:
        check_version(connection.info.server_version)
        if _version(connection) == HEAD:
            return
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        if _version(connection) != HEAD:
            _upgrade(dsn)


def _version(connection: psycopg.Connection[tuple[Any, ...]]) -> str | None:
    found = connection.execute("SELECT to_regclass('rowtide.alembic_version') IS NOT NULL").fetchone()
    if found != (True,):
        return None
    row = connection.execute("SELECT version_num FROM rowtide.alembic_version").fetchone()
    return None if row is None else str(row[0])


def _upgrade(dsn: str) -> None:
    from alembic import command  # noqa: PLC0415 - slow to import, and needed once in the life of a database
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    configuration.attributes["dsn"] = dsn
    try:
        command.upgrade(configuration, HEAD)
    except CommandError as error:
        raise StateError(
            f"The state database is of a newer version of Rowtide: {error}",
            hint="Install that version, or use another state database.",
        ) from None
