"""What goes wrong around us, said so that an operator can act: full disks, lost servers, missing rights.

An error that is not listed here is a mistake of the program and keeps its trace.
"""

from __future__ import annotations

import errno

import psycopg

from connectors.errors import RowtideError
from connectors.state import StateError
from daemon.settings import Settings

# SQLSTATE -> what an operator can do about it.
_STATES = {
    "53100": (
        "The disk of the state database is full",
        "Free space there and start again: nothing is lost. log.retention_age and log.retention_size bound the log.",
    ),
    "53200": ("The state database is out of memory", "Lower worker.batch_events, or give the server more memory."),
    "53300": ("The state database accepts no more connections", "Raise its max_connections."),
    "42501": (
        "The state database's user lacks a right",
        "It must own the database, or have CREATE on it: GRANT CREATE ON DATABASE … TO …",
    ),
    "25006": ("The state database is read-only", "Point state.dsn at the primary server, not at a replica."),
}
_FILES = {
    errno.ENOSPC: "Free space on the disk and start again: nothing is lost.",
    errno.EDQUOT: "Free space within the quota and start again: nothing is lost.",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f) and start again: nothing is lost.",
    errno.EACCES: "Give this user the right, or name another place.",
    errno.EPERM: "Give this user the right, or name another place.",
    errno.EROFS: "The file system is read-only: name another place.",
}


def is_lost_connection(error: BaseException) -> bool:
    """Whether a database error says that the server is gone for now; trying again may succeed."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    state = error.sqlstate
    # 08: connection; 57P01 to 57P03 and 57P05: shut down, crashed, starting, idle too long.
    return state is None or state.startswith("08") or state in {"57P01", "57P02", "57P03", "57P05"}


def explained(error: Exception, settings: Settings) -> RowtideError | None:
    """The error as one that says what to do; None where it is a mistake of the program."""
    if isinstance(error, RowtideError):
        return error
    cause = getattr(error, "orig", error)  # what SQLAlchemy wraps, in migrations
    if isinstance(cause, psycopg.Error):
        return _database(cause, settings)
    if isinstance(error, OSError) and error.errno in _FILES:
        place = f" ({error.filename})" if error.filename else ""
        return RowtideError(f"{error.strerror}{place}.", hint=_FILES[error.errno])
    return None


def _database(error: psycopg.Error, settings: Settings) -> RowtideError | None:
    where = "state.dsn" if settings.state.dsn is not None else f"the log in {settings.state.folder}/postgres/log"
    if error.sqlstate in _STATES:
        what, hint = _STATES[error.sqlstate]
        return StateError(f"{what}: {error.diag.message_primary}.", hint=hint)
    if error.sqlstate == "58030" or "No space left" in str(error):  # an I/O error of the server
        what, hint = _STATES["53100"]
        return StateError(f"{what}: {error.diag.message_primary or 'no space left'}.", hint=hint)
    if is_lost_connection(error):
        return StateError(
            "The connection to the state database was lost.",
            hint=f"Check the server and its disk (see {where}), then start again: nothing is lost.",
        )
    return None
