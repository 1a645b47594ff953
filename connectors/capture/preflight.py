"""What capture needs of a PostgreSQL source: looked at before anything starts, with the statement that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from connectors.errors import RowtideError
from connectors.table import Table


class CaptureStoppedError(RowtideError):
    """Capture cannot go on without a person."""


def object_name(name: str) -> str:
    """The name of our publication and slot in the source."""
    return f"rowtide_{name}"


def grants(tables: Sequence[Table], *, user: str, schema: str, name: str) -> list[str]:
    """The statements that give a user the least rights, for the source's owner to run."""

    def quote(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    listed = ", ".join(f"{quote(schema)}.{quote(table.name)}" for table in tables)
    return [
        "-- In the source database, as its owner. wal_level = logical must be set in postgresql.conf.",
        f"CREATE ROLE {quote(user)} LOGIN REPLICATION;  -- give it a password of your own: \\password {user}",
        f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(user)};",
        f"GRANT SELECT ON {listed} TO {quote(user)};",
        f"CREATE PUBLICATION {quote(object_name(name))} FOR TABLE {listed} WITH (publish_via_partition_root = true);",
    ]


def check(
    connection: psycopg.Connection[Any], tables: Sequence[Table], *, schema: str, name: str
) -> dict[str, set[str]]:
    """Raise CaptureStoppedError for what is missing; returns the columns that the source has, by table."""
    level = connection.execute("SHOW wal_level").fetchone()
    if level is None or level[0] != "logical":
        raise CaptureStoppedError(
            f"The source's wal_level is {level[0] if level else 'unknown'}, not logical.",
            hint="Run ALTER SYSTEM SET wal_level = logical in the source and restart it.",
        )
    columns = {table.name: _check_table(connection, table, schema) for table in tables}
    _check_publication(connection, tables, schema, name)
    return columns


def _check_table(connection: psycopg.Connection[Any], table: Table, schema: str) -> set[str]:
    rows = connection.execute(
        "SELECT a.attname, a.attgenerated, c.relreplident, has_table_privilege(c.oid, 'SELECT') FROM pg_class AS c "
        "JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_attribute AS a ON a.attrelid = c.oid "
        "WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
        [schema, table.name],
    ).fetchall()
    if not rows:
        raise CaptureStoppedError(
            f"The source has no table {schema}.{table.name}.",
            hint="Check source.schema, and the table's name in source.sql.",
        )
    if not rows[0][3]:
        raise CaptureStoppedError(
            f"The source's user may not read {schema}.{table.name}.", hint="Run what `rowtide grants` prints."
        )
    found = {row[0] for row in rows}
    missing = [c.name for c in table.columns if c.name not in found and not c.optional]
    if missing:
        raise CaptureStoppedError(
            f"The source's table {schema}.{table.name} has no column {missing[0]}.",
            hint="Correct source.sql, or list the column under [source.optional] in domain.toml.",
        )
    generated = [row[0] for row in rows if row[1] and row[0] in table.names]
    if generated:
        raise CaptureStoppedError(
            f"The column {table.name}.{generated[0]} is generated: replication does not send it.",
            hint="Leave it out of source.sql and compute it in a model.",
        )
    if rows[0][2] == "n":
        raise CaptureStoppedError(
            f"The source's table {table.name} has REPLICA IDENTITY NOTHING: deletions could not be followed.",
            hint=f"Run ALTER TABLE {schema}.{table.name} REPLICA IDENTITY DEFAULT in the source.",
        )
    key = connection.execute(
        "SELECT array_agg(a.attname ORDER BY a.attname) FROM pg_index AS i JOIN pg_attribute AS a "
        "ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indisprimary AND i.indrelid = to_regclass(%s)",
        [f'"{schema}"."{table.name}"'],
    ).fetchone()
    if rows[0][2] != "f" and (key is None or key[0] is None or set(key[0]) != set(table.key)):
        raise CaptureStoppedError(
            f"The source's primary key of {table.name} is not ({', '.join(table.key)}) as in source.sql.",
            hint="Declare the source's own key in source.sql.",
        )
    return found


def _check_publication(connection: psycopg.Connection[Any], tables: Sequence[Table], schema: str, name: str) -> None:
    publication = object_name(name)
    rows = connection.execute(
        "SELECT tablename FROM pg_publication_tables WHERE pubname = %s", [publication]
    ).fetchall()
    wanted = {table.name for table in tables}
    published = {row[0] for row in rows}
    if wanted <= published:
        return
    listed = sql.SQL(", ").join(sql.Identifier(schema, table) for table in sorted(wanted))
    verb = sql.SQL("ALTER PUBLICATION {} SET TABLE {}" if rows else "CREATE PUBLICATION {} FOR TABLE {}")
    tail = sql.SQL("") if rows else sql.SQL(" WITH (publish_via_partition_root = true)")
    try:
        connection.execute(verb.format(sql.Identifier(publication), listed) + tail)
    except psycopg.errors.InsufficientPrivilege:
        raise CaptureStoppedError(
            f"The publication {publication} does not have the table {min(wanted - published)}, and the source's "
            "user may not change it.",
            hint="Run what `rowtide grants` prints, as the owner of the tables.",
        ) from None
