"""Connections to a PostgreSQL source, and what it means when one cannot be made.

libpq tells why a connection failed only in the server's language. The server's own code for it is in the protocol,
so a refused attempt is made once more with the protocol traced, into memory, and the code decides.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.capture.running import CaptureStoppedError, SourceUnavailableError
from connectors.postgres_errors import reason_of

# Values as text that reads back the same in any session. With row security an incomplete table must be an error.
_SESSION = (
    "-c datestyle=ISO -c timezone=UTC -c bytea_output=hex -c extra_float_digits=1 -c intervalstyle=postgres "
    "-c row_security=off -c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    "-c search_path= -c client_encoding=UTF8"
)
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_TRACED_CODE = re.compile(rb'ErrorResponse.*? C "([0-9A-Z]{5})"')
_PROBE_SECONDS = 10.0

Connection = psycopg.Connection[tuple[Any, ...]]


def conninfo(dsn: str, *, application: str, replication: bool = False) -> str:
    """The whole connection string: the user's, with our session settings behind the user's own."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise CaptureStoppedError(
            "source.dsn is no connection string of PostgreSQL.",
            hint="Write postgresql://user@host:5432/database, or host=... dbname=... user=...",
        ) from None
    settings: dict[str, Any] = {name: value for name, value in _DEFAULTS.items() if name not in given}
    settings["options"] = f"{given.get('options') or ''} {_SESSION}".strip()
    settings["application_name"] = application
    if replication:
        settings["replication"] = "database"
    return make_conninfo(dsn, **settings)


def connect(info: str) -> Connection:
    """Connect in autocommit mode.

    Raises CaptureStoppedError where the server refuses us for good (password, user, database, right), and
    SourceUnavailableError where it does not answer or has no room now.
    """
    try:
        return psycopg.connect(info, autocommit=True)
    except psycopg.OperationalError as error:
        reason = reason_of(error)
        if error.pgconn is not None and error.pgconn.needs_password:
            raise CaptureStoppedError(
                "The source asks for a password, and none is given.",
                hint="Give it in source.dsn, in a credential file or in the password file of libpq.",
            ) from None
        hint = _hint(refusal(info))
        if hint is not None:
            raise CaptureStoppedError(f"The source refuses the connection: {reason}", hint=hint) from None
        raise SourceUnavailableError(f"The source cannot be reached: {reason}") from None


def _hint(code: str | None) -> str | None:
    """What to do about a refusal that will not pass by itself; None for those that may."""
    if code is None:
        return None
    if code == "28P01":
        return "Correct the password (or the user) in source.dsn."
    if code.startswith("28"):
        return "Correct the user in source.dsn, or let it in from this address in the source's pg_hba.conf."
    if code == "3D000":
        return "Correct the database's name in source.dsn."
    if code == "42501":
        return "Run what `rowtide grants` prints, as the source's owner: the role needs LOGIN, REPLICATION and CONNECT."
    return None


def refusal(info: str) -> str | None:
    """The SQLSTATE with which the server refuses a connection; None where it does not answer or does not refuse."""
    attempt = pq.PGconn.connect_start(info.encode())
    memory = os.memfd_create("rowtide-refusal")
    try:
        attempt.trace(memory)
        deadline = time.monotonic() + _PROBE_SECONDS
        while attempt.status != pq.ConnStatus.BAD and time.monotonic() < deadline:
            state = attempt.connect_poll()
            if state not in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
                break
            reading, writing = ([attempt.socket], []) if state == pq.PollingStatus.READING else ([], [attempt.socket])
            select.select(reading, writing, [], 1)
        if attempt.status == pq.ConnStatus.OK:
            return None
        attempt.untrace()
        os.lseek(memory, 0, os.SEEK_SET)
        found = _TRACED_CODE.findall(os.read(memory, 1 << 20))
        return found[-1].decode() if found else None
    finally:
        attempt.finish()
        os.close(memory)


@contextmanager
def losing(what: str = "source") -> Iterator[None]:
    """Turn the loss of a connection inside the block into SourceUnavailableError, what else fails into a stop."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise SourceUnavailableError(f"The connection to the {what} was lost: {reason_of(error)}") from None
    except psycopg.Error as error:
        raise CaptureStoppedError(
            f"The {what} refused a statement of capture: {reason_of(error)} ({error.sqlstate}).",
            hint=f"See the {what}'s own log for the statement; start again when it is mended.",
        ) from None
