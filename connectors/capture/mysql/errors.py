"""What goes wrong at a MySQL or MariaDB source: what a person has to mend, and what mends itself by trying again."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pymysql

from connectors.capture.running import CaptureStoppedError, SourceUnavailableError


class BinlogBrokenError(Exception):
    """The stream of the binlog broke off or came damaged: read again from the last position."""


# Server errors that no retry mends: (what to say, what to do).
_STOPS = {
    1044: (
        "The source's user may not use the database, or there is no such database.",
        "Correct the database's name at the end of source.dsn, or run what `rowtide grants` prints, as an administrator.",
    ),
    1045: ("The source refused the user or the password.", "Correct source.dsn (or its secret file) and start again."),
    1698: ("The source refused the user or the password.", "Correct source.dsn (or its secret file) and start again."),
    1049: ("The source has no such database.", "Correct the database's name at the end of source.dsn."),
    1130: ("The source does not let this machine's user in.", "Create the user for this host, or for '%'."),
    1142: ("The source's user may not read a table.", "Run what `rowtide grants` prints, as an administrator."),
    1143: ("The source's user may not read a column.", "Run what `rowtide grants` prints, as an administrator."),
    1227: ("The source's user lacks a right.", "Run what `rowtide grants` prints, as an administrator."),
    1820: ("The source wants the user's password changed first.", "Change it, and correct source.dsn."),
    1862: ("The password of the source's user has expired.", "Set a new one, and correct source.dsn."),
    2059: ("The source's way of logging in is not supported.", "Give the user another authentication plugin."),
    3118: ("The account of the source's user is locked.", "Unlock it: ALTER USER … ACCOUNT UNLOCK."),
    4151: ("The account of the source's user is locked.", "Unlock it: ALTER USER … ACCOUNT UNLOCK."),
}

_NO_TABLE = 1146  # dropped while it was read: the next attempt's preflight says so

RETRIED = (pymysql.err.MySQLError, OSError, BinlogBrokenError, EOFError)


def code(error: BaseException) -> int:
    """The server's or client's number of an error, 0 where it has none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def stopping(error: BaseException) -> CaptureStoppedError | None:
    """The error to stop with, where trying again cannot help; None where it can."""
    if isinstance(error, pymysql.err.NotSupportedError | ImportError):
        return CaptureStoppedError(*_STOPS[2059][:1], hint=_STOPS[2059][1])
    if isinstance(error.__context__, ssl.SSLCertVerificationError) or isinstance(error, ssl.SSLCertVerificationError):
        return CaptureStoppedError(
            "The source's certificate is not one that ssl-ca vouches for.",
            hint="Correct ssl-ca in source.dsn, or the host's name to the one in the certificate.",
        )
    number = code(error)
    if number in _STOPS:
        message, hint = _STOPS[number]
        return CaptureStoppedError(f"{message[:-1]} (error {number}).", hint=hint)
    if isinstance(error, pymysql.err.ProgrammingError) and number != _NO_TABLE:
        return CaptureStoppedError(
            f"The source does not understand a statement of capture (error {number}).",
            hint="Its version may be too old: MariaDB 10.5 or MySQL 8.0 and later are supported.",
        )
    return None


@contextmanager
def losing() -> Iterator[None]:
    """Turn what goes wrong at the source inside the block into an error to stop with, or one to try again after."""
    try:
        yield
    except RETRIED as error:
        stop = stopping(error)
        if stop is not None:
            raise stop from None
        raise SourceUnavailableError(f"The source cannot be reached or was lost: {_reason(error)}.") from None


def _reason(error: BaseException) -> str:
    """Why, without secrets or values of rows: the server's texts may quote them, its numbers do not."""
    number = code(error)
    if isinstance(error, BinlogBrokenError):
        return str(error)
    if number >= 2000 and isinstance(error, pymysql.err.OperationalError) and number < 3000:
        return (
            f"error {number} ({str(error.args[1]).split('(')[0].strip()})" if len(error.args) > 1 else f"error {number}"
        )
    return f"error {number}" if number else type(error).__name__
