"""Connections to a MySQL or MariaDB source: the connection string, what the server is, plain queries."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import pymysql
from pymysql.cursors import Cursor

from connectors.errors import RowtideError

Connection: TypeAlias = "pymysql.connections.Connection[Any]"

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MODES = ("disabled", "preferred", "required", "verify-ca", "verify-identity")
_OPTIONS = frozenset({"ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket", "connect-timeout"})
# Text that reads the same in any session: instants in UTC, no padding, no other dialect, no limit on a slow reader.
_SESSION = (
    "SET SESSION time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES', net_write_timeout = 3600, "
    "wait_timeout = 28800, group_concat_max_len = 1048576, sql_quote_show_create = 1"
)


@dataclass(frozen=True)
class Dsn:
    """Where a source is and how to log in; its text never shows the password.

    Args:
        options: `ssl-mode`, `ssl-ca`, `ssl-cert`, `ssl-key` (paths), `socket` (path), `connect-timeout` (seconds).
    """

    host: str
    port: int
    user: str
    database: str
    password: str = field(default="", repr=False)
    options: dict[str, str] = field(default_factory=dict)


def read_dsn(text: str) -> Dsn:
    """Parse `mysql://user:password@host:port/database?ssl-ca=FILE`; `mariadb://` means the same.

    A password that is not in it is taken from the variable MYSQL_PWD. Raises RowtideError, whose text has no secret.
    """
    hint = "Write it as mysql://USER:PASSWORD@HOST:3306/DATABASE, with : / @ in a password written as %3A %2F %40."
    try:
        parts = urlsplit(text)
        port = parts.port or 3306
    except ValueError:
        raise RowtideError(
            "The source's connection string cannot be read: its port or host is malformed.", hint=hint
        ) from None
    if parts.scheme not in ("mysql", "mariadb"):
        raise RowtideError("The source's connection string does not begin with mysql:// or mariadb://.", hint=hint)
    database = unquote(parts.path.strip("/"))
    if not database or not parts.username:
        missing = "database" if parts.username else "user"
        raise RowtideError(f"The source's connection string names no {missing}.", hint=hint)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(set(options) - _OPTIONS):
        raise RowtideError(
            f"The source's connection string has the unknown option {unknown[0]}.",
            hint=f"Known: {', '.join(sorted(_OPTIONS))}.",
        )
    if options.get("ssl-mode", "preferred") not in _MODES:
        raise RowtideError(
            "ssl-mode in the source's connection string is unknown.", hint=f"Known: {', '.join(_MODES)}."
        )
    for name in ("ssl-ca", "ssl-cert", "ssl-key"):
        if name in options and not os.access(options[name], os.R_OK):
            raise RowtideError(
                f"The file of {name} cannot be read: {options[name]}.", hint="Correct its path or rights."
            )
    if not options.get("connect-timeout", "10").isdigit():
        raise RowtideError("connect-timeout in the source's connection string is no number of seconds.", hint=hint)
    password = unquote(parts.password) if parts.password is not None else os.environ.get("MYSQL_PWD", "")
    return Dsn(parts.hostname or "localhost", port, unquote(parts.username), database, password, options)


def connect(dsn: Dsn, *, cursor: type[Cursor] = Cursor, read_timeout: float | None = 60) -> Connection:
    """A connection whose values come as the server's text, in bytes. Raises PyMySQL's errors."""
    options = dsn.options
    mode = options.get("ssl-mode") or ("verify-identity" if "ssl-ca" in options else "preferred")
    arguments: dict[str, Any] = {}
    if mode == "disabled" or (mode == "preferred" and dsn.host in _LOOPBACK):
        arguments["ssl_disabled"] = True
    elif mode != "preferred" or "ssl-cert" in options:
        arguments["ssl"] = _context(options, mode)
    connection = pymysql.connect(
        host=dsn.host,
        port=dsn.port,
        user=dsn.user,
        password=dsn.password.encode(),  # text would be sent in Latin-1
        database=dsn.database,
        unix_socket=options.get("socket"),
        connect_timeout=int(options.get("connect-timeout", "10")),
        read_timeout=read_timeout,
        write_timeout=60,
        charset="utf8mb4",
        use_unicode=False,
        conv={},
        autocommit=True,
        cursorclass=cursor,
        program_name="rowtide",
        **arguments,
    )
    with connection.cursor(Cursor) as running:
        running.execute(_SESSION)
    return connection


def _context(options: dict[str, str], mode: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl-ca"))
    context.check_hostname = mode == "verify-identity"
    context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("verify") else ssl.CERT_NONE
    if "ssl-cert" in options:
        context.load_cert_chain(options["ssl-cert"], options.get("ssl-key"))
    return context


def rows(connection: Connection, query: str, values: Sequence[Any] = ()) -> list[tuple[str | None, ...]]:
    """All rows of a small query, as text."""
    with connection.cursor(Cursor) as cursor:
        cursor.execute(query, tuple(values) or None)
        found = cursor.fetchall()
    return [tuple(None if v is None else v.decode("utf-8", "replace") for v in row) for row in found]


def pairs(connection: Connection, query: str) -> dict[str, str]:
    """The rows of a query for two columns; NULL reads as empty."""
    return {name or "": text or "" for name, text in rows(connection, query)}


def value(connection: Connection, query: str, values: Sequence[Any] = ()) -> str:
    """The first column of the first row as text; empty where there is none or it is NULL."""
    found = rows(connection, query, values)
    return (found[0][0] or "") if found else ""


def quoted(name: str) -> str:
    """An identifier for a statement."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class Server:
    """What a source is.

    Args:
        identity: tells the server from others where positions are files: MySQL's server_uuid.
        gtid: whether its positions are GTIDs (MariaDB's always are).
        folds_names: whether table names do not tell upper from lower case.
    """

    mariadb: bool
    version: tuple[int, int, int]
    server_id: int
    identity: str
    gtid: bool
    folds_names: bool


def describe(connection: Connection) -> Server:
    """Ask the server what it is."""
    text = value(connection, "SELECT VERSION()")
    mariadb = "mariadb" in text.lower()
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    version = (int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else (0, 0, 0)
    identity = "" if mariadb else value(connection, "SELECT @@server_uuid")
    gtid = mariadb or value(connection, "SELECT @@gtid_mode") == "ON"
    server_id, folds = rows(connection, "SELECT @@server_id, @@lower_case_table_names")[0]
    return Server(mariadb, version, int(server_id or 0), identity, gtid, folds != "0")


def at(dsn: Dsn, host: str, port: int) -> Dsn:
    """The same login at another server."""
    return replace(dsn, host=host, port=port)
