"""Reading the tables as they are, in the order of their keys, so that an interrupted reading goes on."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from psycopg import sql

from connectors.capture.postgres.connection import Connection
from connectors.capture.postgres.position import Position
from connectors.capture.postgres.preflight import Found, quoted
from connectors.capture.postgres.rows import encoded
from connectors.capture.postgres.writer import CHUNK, CHUNK_BYTES, Encoded, Writer, moved
from connectors.capture.running import Reporter
from connectors.event import encode_truncate
from connectors.failpoints import failpoint
from connectors.table import Table


def read_tables(
    connection: Connection,
    tables: Sequence[Table],
    found: Found,
    writer: Writer,
    position: Position,
    reporter: Reporter,
    stop: threading.Event,
) -> bool:
    """Append the rows of the position's tables, behind its key in the first of them; False if stopped before the end.

    The connection's transaction decides what is seen. Memory does not grow with the rows.
    """
    declared = {table.name: table for table in tables}
    now = writer.now_ms()
    at = position
    for name in position.tables:
        behind = moved(at, tables=at.tables[1:], last=None, rows=0)
        if name in declared:
            try:
                _read_table(connection, declared[name], found, writer, at, behind, now, reporter, stop)
            except _StoppedError:
                return False
        at = behind
    return True


class _StoppedError(Exception):
    """Ends the reading of a table; psycopg cancels a copy that is left by an exception."""


def _read_table(
    connection: Connection,
    table: Table,
    found: Found,
    writer: Writer,
    position: Position,
    behind: Position,
    now: int,
    reporter: Reporter,
    stop: threading.Event,
) -> None:
    """Read one table from the position on; `behind` is the position behind it."""
    estimate = _estimate(connection, writer.schema, table.name)
    source = writer.source(table, now, position.lsn, snapshot="true")
    rows, messages, size = position.rows, list[Encoded](), 0
    key: tuple[str, ...] = ()
    if position.emptying and position.last is None:
        messages.append(encode_truncate(source=source))

    def flush(following: Position) -> None:
        writer.append(messages, now, following)
        failpoint("snapshot_chunk")
        reporter.advanced(table.name, rows, estimate)

    with connection.cursor().copy(_query(table, found, writer.schema, position.last)) as copy:
        for row in copy.rows():
            key = tuple([row[place] for place in table.key_positions])
            message = encoded(table, "r", key, row, source=source)
            messages.append(message)
            size += len(message[1])
            rows += 1
            if len(messages) >= CHUNK or size >= CHUNK_BYTES:
                if stop.is_set():
                    raise _StoppedError
                flush(moved(position, last=key, rows=rows))
                messages, size = [], 0
    if stop.is_set():
        raise _StoppedError
    if messages:
        flush(behind)
    reporter.completed(table.name, rows)


def fetch(
    connection: Connection, table: Table, found: Found, schema: str, key: Sequence[str]
) -> tuple[str | None, ...] | None:
    """A row as it is now, by its key; None if it is not there."""
    where = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(found.columns[table.name][name]), sql.Literal(value))
        for name, value in zip(table.key, key, strict=True)
    )
    query = sql.SQL("COPY ({} WHERE {}) TO STDOUT").format(_select(table, found, schema), where)
    with connection.cursor().copy(query) as copy:
        rows = list(copy.rows())
    return rows[0] if rows else None


def _query(table: Table, found: Found, schema: str, last: Sequence[str] | None) -> sql.Composed:
    key = sql.SQL(", ").join(sql.Identifier(found.columns[table.name][name]) for name in table.key)
    query = _select(table, found, schema)
    if last is not None:  # as text of no type yet: it becomes the column's own
        query += sql.SQL(" WHERE ({}) > ({})").format(key, sql.SQL(", ").join(sql.Literal(value) for value in last))
    return sql.SQL("COPY ({} ORDER BY {}) TO STDOUT").format(query, key)


def _select(table: Table, found: Found, schema: str) -> sql.Composed:
    """The declared columns. Under COPY their text is what the stream sends, which a cast to text is not for all types."""
    present = found.columns[table.name]
    columns = [sql.Identifier(present[name]) if name in present else sql.SQL("NULL::text") for name in table.names]
    # Rows of tables that inherit from an ordinary table are not that table's; replication does not send them either.
    return sql.SQL("SELECT {} FROM {} {}").format(
        sql.SQL(", ").join(columns),
        sql.SQL("" if table.name in found.partitioned else "ONLY"),
        sql.Identifier(schema, table.name),
    )


def _estimate(connection: Connection, schema: str, name: str) -> int:
    """About how many rows the table has, partitions included; 0 where the source has not counted yet."""
    row = connection.execute(
        "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_catalog.pg_class AS c "
        "WHERE c.oid = to_regclass(%(name)s) OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(to_regclass(%(name)s)) "
        "WHERE isleaf)",
        {"name": quoted(schema, name)},
    ).fetchone()
    return int(row[0]) if row else 0
