"""What capture needs of a MySQL or MariaDB source: looked at before anything starts, each with what mends it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import pymysql

from connectors.capture.mysql import types
from connectors.capture.mysql.catalogue import SourceTable, read_tables
from connectors.capture.mysql.connection import Connection, Server, pairs, quoted, rows, value
from connectors.capture.mysql.errors import code
from connectors.capture.mysql.position import Place
from connectors.capture.mysql.rows import lost_column
from connectors.capture.running import CaptureStoppedError
from connectors.table import Table

_SETTINGS = ("binlog_format=ROW", "binlog_row_image=FULL", "binlog_row_metadata=FULL")
# variable → (the value needed, what goes wrong otherwise)
_NEEDED = {
    "binlog_format": ("ROW", "changes would be logged as statements, without rows"),
    "binlog_row_image": ("FULL", "changed rows would be logged without some of their columns"),
    "binlog_row_metadata": ("FULL", "rows would be logged without the names of their columns"),
    "binlog_row_value_options": ("", "changes inside JSON would be logged without the rest of the value"),
    "binlog_transaction_compression": ("OFF", "transactions would be logged in a compression that capture cannot read"),
}


def grants(tables: Sequence[Table], *, user: str, database: str, mariadb: bool = True) -> list[str]:
    """The statements that give a user the least rights, for the source's administrator to run."""

    def text(name: str) -> str:
        return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"

    account = f"{text(user)}@'%'"
    monitor = "BINLOG MONITOR" if mariadb else "REPLICATION CLIENT"
    return [
        "-- In the source, as an administrator. Its configuration must have log_bin and, to hold after a restart too,",
        f"-- {', '.join(_SETTINGS)}.",
        *(f"SET GLOBAL {setting.replace('=', ' = ')};" for setting in _SETTINGS),
        f"CREATE USER {account} ACCOUNT LOCK;",
        f"-- Give it a password of your own: ALTER USER {account} IDENTIFIED BY '…' ACCOUNT UNLOCK;",
        f"GRANT REPLICATION SLAVE, {monitor} ON *.* TO {account};",
        *(f"GRANT SELECT ON {quoted(database)}.{quoted(table.name)} TO {account};" for table in tables),
    ]


def server_number(name: str) -> int:
    """Our number among the source's replicas: always the same for a name, so that a dead connection makes room."""
    return 0x40000000 | (zlib.crc32(f"rowtide_{name}".encode()) & 0x3FFFFFFF)


def check(
    connection: Connection,
    server: Server,
    tables: Sequence[Table],
    *,
    database: str,
    name: str,
    streaming: bool = False,
) -> dict[str, SourceTable]:
    """Raise CaptureStoppedError for what is missing; returns the declared tables as the source has them.

    Args:
        connection: of the capturing user.
        server: what `describe` found.
        tables: those declared.
        database: the source's.
        name: the capture's.
        streaming: whether a stream goes on: then a table's definition is not looked at, because what the binlog has
            of it may be older, and is to be captured before a change of it is met there.
    """
    _check_server(connection, server, name)
    _check_filters(connection, server, database)
    found = read_tables(connection, database, tables, folds_names=server.folds_names)
    for table in tables:
        if streaming and table.name not in found:
            continue
        if not streaming:
            check_table(table, found, database)
        columns = ", ".join(quoted(n) for n in table.names if n.lower() in found[table.name].columns)
        rows(connection, f"SELECT {columns or '1'} FROM {quoted(database)}.{quoted(found[table.name].name)} LIMIT 0")
    return found


def _check_server(connection: Connection, server: Server, name: str) -> None:
    if server.version < ((10, 5, 0) if server.mariadb else (8, 0, 1)):
        raise CaptureStoppedError(
            f"The source is {'MariaDB' if server.mariadb else 'MySQL'} {'.'.join(map(str, server.version))}, whose "
            "binlog does not tell the names of columns.",
            hint="MariaDB 10.5 or MySQL 8.0 and later are supported; or use Debezium.",
        )
    if value(connection, "SELECT @@log_bin") != "1":
        raise CaptureStoppedError(
            "The source writes no binlog.",
            hint=f"Put log_bin and {', '.join(_SETTINGS)} into its configuration, under [mysqld], and restart it.",
        )
    listed = ", ".join(f"'{variable}'" for variable in _NEEDED)
    present = pairs(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")
    for variable, (needed, otherwise) in _NEEDED.items():
        if variable in present and present[variable].upper() != needed:
            raise CaptureStoppedError(
                f"The source has {variable} = {present[variable] or 'nothing'}: {otherwise}.",
                hint=f"Run SET GLOBAL {variable} = '{needed}' in the source, set it in its configuration too, and have "
                "its clients connect anew.",
            )
    if server.server_id in (0, server_number(name)):
        raise CaptureStoppedError(
            f"The source's server_id is {server.server_id}"
            + (": it sends its binlog to nobody." if server.server_id == 0 else ", which is the capture's own number."),
            hint="Set server_id in the source's configuration to another number, such as 1, and restart it.",
        )
    if (
        server.mariadb
        and value(connection, "SELECT @@log_slave_updates") == "0"
        and value(connection, "SELECT @@gtid_slave_pos")
    ):
        raise CaptureStoppedError(
            "The source is a replica that does not log what it replicates (log_slave_updates is OFF).",
            hint="Set log_slave_updates = ON in its configuration and restart it, or capture from its primary.",
        )


def _check_filters(connection: Connection, server: Server, database: str) -> None:
    _, only, ignored = binlog_status(connection, server)
    listed = [part.strip() for part in only.split(",") if part.strip()]
    if (listed and database not in listed) or database in [part.strip() for part in ignored.split(",")]:
        raise CaptureStoppedError(
            f"The source leaves the database {database} out of its binlog (binlog_do_db or binlog_ignore_db).",
            hint="Change the filter in the source's configuration and restart it.",
        )


def binlog_status(connection: Connection, server: Server) -> tuple[Place, str, str]:
    """Where the binlog ends now, and the databases that alone are in it or are left out."""
    renamed = not server.mariadb and server.version >= (8, 2, 0)
    try:
        found = rows(connection, "SHOW BINARY LOG STATUS" if renamed else "SHOW MASTER STATUS")
    except pymysql.err.MySQLError as error:
        if code(error) == 1227:
            right = "BINLOG MONITOR" if server.mariadb else "REPLICATION CLIENT"
            raise CaptureStoppedError(
                f"The source's user may not ask where the binlog ends: it lacks {right}.",
                hint="Run what `rowtide grants` prints, as an administrator.",
            ) from None
        raise
    if not found:
        raise CaptureStoppedError(
            "The source writes no binlog.", hint="Put log_bin into its configuration, under [mysqld], and restart it."
        )
    file, offset, only, ignored, *_ = found[0]
    return Place(file or "", int(offset or 0)), only or "", ignored or ""


def check_table(table: Table, found: Mapping[str, SourceTable], database: str) -> None:
    """Raise CaptureStoppedError where the source's table is not what is declared."""
    source = found.get(table.name)
    if source is None:
        raise CaptureStoppedError(
            f"The source has no table {database}.{table.name}, or its user may not read it.",
            hint="Check the table's name in source.sql, then run what `rowtide grants` prints.",
        )
    missing = [c.name for c in table.columns if c.name.lower() not in source.columns and not c.optional]
    if missing:
        raise lost_column(table, missing[0])
    if set(source.key) != {name.lower() for name in table.key}:
        raise CaptureStoppedError(
            f"The source's primary key of {table.name} is ({', '.join(source.key) or 'absent'}), not "
            f"({', '.join(table.key)}) as in source.sql.",
            hint="Declare the source's own key in source.sql; a table without one cannot be captured.",
        )
    for column in table.columns:
        stored = source.columns.get(column.name.lower())
        if stored is None:
            continue
        if "mariadb-5.3" in stored.definition:
            raise CaptureStoppedError(
                f"The column {table.name}.{column.name} is stored in a format of MariaDB 5.3.",
                hint=f"Run ALTER TABLE {table.name} FORCE in the source, with mysql56_temporal_format = ON.",
            )
        types.target(stored.shape, column, table.name)
