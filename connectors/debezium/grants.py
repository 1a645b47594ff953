"""The least rights that Debezium's user needs in a source."""

from __future__ import annotations

import re
from collections.abc import Sequence

from connectors.capture.postgres.preflight import quoted
from connectors.debezium.config import Kind
from connectors.table import Table


def grants(kind: Kind, tables: Sequence[Table], *, user: str, database: str, schema: str, name: str) -> list[str]:
    """The statements for the source's administrator to run. They hold no password.

    Args:
        kind: of the source.
        tables: those to capture.
        user: Debezium's.
        database: in MySQL and MariaDB, where the tables are.
        schema: in PostgreSQL, where they are.
        name: the connector's.
    """
    if kind == "postgres":
        return _postgres(tables, user, schema, re.sub(r"[^a-z0-9_]", "_", name.lower()))
    return _mysql(kind, tables, user, database)


def _mysql(kind: Kind, tables: Sequence[Table], user: str, database: str) -> list[str]:
    def text(name: str) -> str:
        return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def quoted(name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    account = f"{text(user)}@'%'"
    monitor = "BINLOG MONITOR" if kind == "mariadb" else "REPLICATION CLIENT"
    return [
        "-- In the source, as an administrator. Its configuration must have log_bin, binlog_format=ROW,",
        "-- binlog_row_image=FULL and a server_id.",
        f"CREATE USER {account} ACCOUNT LOCK;",
        f"-- Give it a password of your own: ALTER USER {account} IDENTIFIED BY '…' ACCOUNT UNLOCK;",
        "-- RELOAD is for the moment in which the snapshot begins: without it, tables would be locked all along.",
        f"GRANT RELOAD, REPLICATION SLAVE, {monitor} ON *.* TO {account};",
        *(f"GRANT SELECT ON {quoted(database)}.{quoted(table.name)} TO {account};" for table in tables),
    ]


def _postgres(tables: Sequence[Table], user: str, schema: str, publication: str) -> list[str]:
    listed = ", ".join(quoted(schema, table.name) for table in tables)
    return [
        "-- In the source database, as its owner. wal_level = logical must be set in postgresql.conf.",
        f"CREATE ROLE {quoted(user)} LOGIN REPLICATION;  -- give it a password of your own: \\password {user}",
        f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(user)};",
        f"GRANT SELECT ON {listed} TO {quoted(user)};",
        f"CREATE PUBLICATION {quoted(publication)} FOR TABLE {listed} WITH (publish_via_partition_root = true);",
    ]
