"""What capture needs of a PostgreSQL source: looked at before anything starts, with the statement that mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from connectors.capture.postgres.connection import Connection
from connectors.capture.running import CaptureStoppedError
from connectors.table import Table, spelled

_OLDEST = 150000

_TABLE = """
SELECT c.oid, c.relkind::text AS kind, c.relpersistence::text AS persistence, c.relispartition AS partition,
       has_schema_privilege(n.oid, 'USAGE') AS usable, has_table_privilege(c.oid, 'SELECT') AS readable,
       row_security_active(c.oid) AS filtered,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
         WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped) AS generated,
       ARRAY(SELECT i.indexrelid FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique
         AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL) AS indexes
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s
"""
# The table itself and, where it is partitioned, all its partitions: a deletion tells what the partition's own
# replica identity holds.
_IDENTITIES = """
SELECT c.relname::text AS name, c.relreplident::text AS kind, c.relkind::text AS relkind,
       (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_index AS i
          JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey[:i.indnkeyatts - 1])
         WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END) AS columns
  FROM pg_catalog.pg_class AS c
 WHERE c.oid = %(oid)s OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(%(oid)s::oid) AS p WHERE p.isleaf)
"""
_UNIQUE = """
SELECT 1 FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a
    ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey[:i.indnkeyatts - 1])
 WHERE i.indexrelid = ANY(%s) GROUP BY i.indexrelid
HAVING bool_and(a.attnotnull) AND array_agg(a.attname::text ORDER BY a.attname::text) = %s
"""


class Publication(NamedTuple):
    """What the source publishes for us: a mark for each table, which changes when it was out of it for a while."""

    marks: Mapping[str, int]


class Found(NamedTuple):
    """The source as the preflight found it: each table's declared columns as it spells them, and the publication."""

    columns: Mapping[str, Mapping[str, str]]
    partitioned: frozenset[str]
    publication: Publication


def object_name(name: str) -> str:
    """The name of our publication and slot in the source."""
    return f"rowtide_{name}"


def quoted(*names: str) -> str:
    """An identifier as it is typed, quoted always."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def grants(tables: Sequence[Table], *, user: str, schema: str, name: str) -> list[str]:
    """The statements that give a user the least rights, for the source's owner to run."""
    listed = ", ".join(quoted(schema, table.name) for table in tables)
    return [
        "-- In the source database, as its owner. wal_level = logical must be set in postgresql.conf.",
        f"CREATE ROLE {quoted(user)} LOGIN REPLICATION;  -- give it a password of your own: \\password {quoted(user)}",
        f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(user)};",
        f"GRANT SELECT ON {listed} TO {quoted(user)};",
        f"CREATE PUBLICATION {quoted(object_name(name))} FOR TABLE {listed} WITH (publish_via_partition_root = true);",
    ]


def check(connection: Connection, tables: Sequence[Table], *, schema: str, name: str) -> Found:
    """Raise CaptureStoppedError for what is missing, with what to type; makes the publication where it may."""
    version = connection.info.server_version
    if version < _OLDEST:
        raise CaptureStoppedError(
            f"The source is PostgreSQL {version // 10000}; capture needs 15 or newer.",
            hint="Upgrade the source, or use Debezium for it.",
        )
    level = connection.execute("SHOW wal_level").fetchone()
    if level is None or level[0] != "logical":
        raise CaptureStoppedError(
            f"The source's wal_level is {level[0] if level else 'unknown'}, not logical.",
            hint="Run ALTER SYSTEM SET wal_level = logical in the source and restart it.",
        )
    columns, partitioned = {}, set()
    for table in tables:
        columns[table.name], parted = _check_table(connection, table, schema)
        if parted:
            partitioned.add(table.name)
    publication = _check_publication(connection, tables, schema, name)
    return Found(columns, frozenset(partitioned), publication)


def _check_table(connection: Connection, table: Table, schema: str) -> tuple[dict[str, str], bool]:
    plain, full = f"{schema}.{table.name}", quoted(schema, table.name)
    with connection.cursor(row_factory=psycopg.rows.namedtuple_row) as cursor:
        row: Any = cursor.execute(_TABLE, [schema, table.name]).fetchone()
    if row is None:
        raise CaptureStoppedError(
            f"The source has no table {plain}.", hint="Check source.schema, and the table's name in source.sql."
        )
    if row.kind not in ("r", "p"):
        raise CaptureStoppedError(
            f"{plain} is no table in the source: its changes are not in the source's log.",
            hint="Declare the tables it is made of in source.sql, and make it a model.",
        )
    if row.persistence != "p":
        raise CaptureStoppedError(
            f"The source's table {plain} is unlogged or temporary: its changes are not in the source's log.",
            hint=f"Run ALTER TABLE {full} SET LOGGED in the source.",
        )
    if row.partition:
        raise CaptureStoppedError(
            f"The source's table {plain} is a partition: its changes come under the name of the whole table.",
            hint="Declare the partitioned table in source.sql instead.",
        )
    if not row.usable or not row.readable:
        raise CaptureStoppedError(
            f"The source's user may not read {plain}.", hint="Run what `rowtide grants` prints, as the table's owner."
        )
    if row.filtered:
        raise CaptureStoppedError(
            f"Row security hides rows of {plain} from the source's user.",
            hint="Run ALTER ROLE ... BYPASSRLS for that user in the source.",
        )
    names = spelled(table.names, row.columns)
    missing = [c.name for c in table.columns if c.name not in names and not c.optional]
    if missing:
        raise CaptureStoppedError(
            f"The source's table {plain} has no column {missing[0]} (never, dropped or renamed).",
            hint="Correct source.sql and run `rowtide rebuild`, or list the column under [source.optional] in domain.toml.",
        )
    generated = sorted(set(row.generated) & set(names.values()))
    if generated:
        raise CaptureStoppedError(
            f"The column {table.name}.{generated[0]} is generated: replication does not send it.",
            hint="Leave it out of source.sql and compute it in a model.",
        )
    _check_key(connection, table, schema, row.oid, row.indexes, [names[part] for part in table.key])
    return names, row.kind == "p"


def _check_key(
    connection: Connection, table: Table, schema: str, oid: int, indexes: Sequence[int], names: Sequence[str]
) -> None:
    """The declared key must identify a row, and deletions must tell it; `names` are its columns as the source spells them."""
    key = f"({', '.join(table.key)})"
    if connection.execute(_UNIQUE, [list(indexes), sorted(names)]).fetchone() is None:
        raise CaptureStoppedError(
            f"The key {key} that source.sql declares for {table.name} is no unique key without NULLs in the source.",
            hint=f"Declare the source's own primary key in source.sql, or run ALTER TABLE {quoted(schema, table.name)} "
            f"ADD PRIMARY KEY ({', '.join(map(quoted, names))}) in the source.",
        )
    for name, kind, relkind, columns in connection.execute(_IDENTITIES, {"oid": oid}).fetchall():
        mend = f"ALTER TABLE {quoted(schema, name)} REPLICA IDENTITY"
        if kind == "n" and relkind == "r":
            raise CaptureStoppedError(
                f"The source's table {name} has REPLICA IDENTITY NOTHING: deletions could not be followed.",
                hint=f"Run {mend} DEFAULT in the source.",
            )
        if kind not in ("f", "n") and not set(names) <= set(columns or ()):
            raise CaptureStoppedError(
                f"The replica identity of the source's table {name} does not contain the key {key}: "
                "deletions could not be followed.",
                hint=f"Run {mend} DEFAULT (with that primary key) or {mend} FULL in the source.",
            )


def _check_publication(connection: Connection, tables: Sequence[Table], schema: str, name: str) -> Publication:
    publication = object_name(name)
    wanted = {table.name for table in tables}
    _complete_publication(connection, publication, schema, wanted)
    found = connection.execute(
        "SELECT oid, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot "
        "FROM pg_catalog.pg_publication WHERE pubname = %s",
        [publication],
    ).fetchone()
    if found is None:
        raise CaptureStoppedError(f"The publication {publication} has gone.", hint="Start again.")
    if not found[1]:
        raise CaptureStoppedError(
            f"The publication {publication} leaves kinds of changes out.",
            hint=f"Run ALTER PUBLICATION {quoted(publication)} SET (publish = 'insert, update, delete, truncate').",
        )
    rows = connection.execute(
        "SELECT tablename::text, rowfilter IS NOT NULL, attnames::text[] FROM pg_catalog.pg_publication_tables "
        "WHERE pubname = %s AND schemaname = %s",
        [publication, schema],
    ).fetchall()
    published = {row[0]: row for row in rows}
    for table in tables:
        row = published.get(table.name)
        if row is None:
            raise CaptureStoppedError(
                f"The publication {publication} has {table.name} only by its partitions.",
                hint=f"Run ALTER PUBLICATION {quoted(publication)} SET (publish_via_partition_root = true).",
            )
        shown = spelled(table.names, row[2])
        hidden = [c.name for c in table.columns if c.name not in shown and not c.optional]
        if row[1] or hidden:
            raise CaptureStoppedError(
                f"The publication {publication} leaves {'rows' if row[1] else 'the column ' + hidden[0]} of {table.name} out.",
                hint=f"Run ALTER PUBLICATION {quoted(publication)} SET TABLE with the plain names of the tables.",
            )
    marks = connection.execute(
        "SELECT c.relname::text, r.oid::bigint FROM pg_catalog.pg_publication_rel AS r JOIN pg_catalog.pg_class AS c "
        "ON c.oid = r.prrelid WHERE r.prpubid = %s AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s)",
        [found[0], schema],
    ).fetchall()
    by_table: dict[str, int] = {table: int(mark) for table, mark in marks}
    return Publication({table: by_table.get(table, int(found[0])) for table in sorted(wanted)})


def _complete_publication(connection: Connection, publication: str, schema: str, wanted: set[str]) -> None:
    """Make the publication, or add the tables that it lacks, where the user may."""
    exists = connection.execute("SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = %s", [publication]).fetchone()
    rows = connection.execute(
        "SELECT c.relname::text FROM pg_catalog.pg_publication_tables AS t JOIN pg_catalog.pg_namespace AS n "
        "ON n.nspname = t.schemaname JOIN pg_catalog.pg_class AS l ON l.relnamespace = n.oid AND l.relname = t.tablename, "
        "LATERAL (SELECT l.oid UNION SELECT a.relid FROM pg_catalog.pg_partition_ancestors(l.oid) AS a) AS o(oid) "
        "JOIN pg_catalog.pg_class AS c ON c.oid = o.oid WHERE t.pubname = %s AND t.schemaname = %s",
        [publication, schema],
    ).fetchall()
    lacking = sorted(wanted - {row[0] for row in rows})
    if exists and not lacking:
        return
    listed = sql.SQL(", ").join(sql.Identifier(schema, table) for table in (lacking or sorted(wanted)))
    statement = sql.SQL(
        "ALTER PUBLICATION {} ADD TABLE {}"
        if exists
        else "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)"
    ).format(sql.Identifier(publication), listed)
    try:
        connection.execute(statement)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState):
        raise CaptureStoppedError(
            f"The publication {publication} does not have the table {lacking[0]}, and the source's user may not change it.",
            hint=f"Run {statement.as_string(connection)}; as the owner of the tables (or what `rowtide grants` prints).",
        ) from None
