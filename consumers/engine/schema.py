"""The tables, indexes and views of a domain instance in the state database, made from the analysis.

An instance has two schemas: `<instance>_source` (mirror, inputs of ours, params, clock) and `<instance>` (models,
their histories and kept rows, views). Names inside are plain: the connection's search_path decides which instance.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from connectors.table import Table
from consumers.domain import Domain, DomainError
from consumers.engine.analysis import Analysis, Model
from consumers.engine.differences import find_plans
from consumers.engine.modelfile import refuse
from consumers.engine.relations import describe, describe_all, schemas
from consumers.engine.sqltext import quote, quoted

# Room on each page for new versions of changed rows: most updates then touch no index.
FILLFACTOR = 80


def use(connection: psycopg.Connection[tuple[Any, ...]], instance: str) -> None:
    """Let plain names mean the tables of this instance."""
    models, source = schemas(instance)
    connection.execute(f"SET search_path = {quote(models)}, {quote(source)}")


def exists(connection: psycopg.Connection[tuple[Any, ...]], instance: str) -> bool:
    """Whether the instance's schemas are there."""
    row = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", [quote(schemas(instance)[1])]).fetchone()
    return bool(row and row[0])


def drop(connection: psycopg.Connection[tuple[Any, ...]], instance: str) -> None:
    """Remove the instance's schemas with all they hold."""
    for name in schemas(instance):
        connection.execute(f"DROP SCHEMA IF EXISTS {quote(name)} CASCADE")


def create(connection: psycopg.Connection[tuple[Any, ...]], instance: str, analysis: Analysis) -> None:
    """Make the instance's tables, empty, within the caller's transaction, which it leaves using the instance.

    Raises ModelRefusedError where PostgreSQL refuses a model, with its reason.
    """
    domain = analysis.domain
    models, source = schemas(instance)
    connection.execute(f"CREATE SCHEMA {quote(source)}")
    connection.execute(f"CREATE SCHEMA {quote(models)}")
    use(connection, instance)
    for table in domain.mirror_tables.values():
        _create_mirror(connection, source, table)
    connection.execute(f"CREATE TABLE {quote(source)}.clock (now timestamptz NOT NULL)")
    connection.execute(f"INSERT INTO {quote(source)}.clock VALUES ('-infinity')")
    for model in analysis.models:
        _create_model(connection, models, model)
    _create_indexes(connection, instance, analysis)
    _create_views(connection, models, domain)


def _create_mirror(connection: psycopg.Connection[tuple[Any, ...]], schema: str, table: Table) -> None:
    columns = [f"{quote(c.name)} {c.type}{'' if c.nullable or c.optional else ' NOT NULL'}" for c in table.columns]
    try:
        connection.execute(
            f"CREATE TABLE {quote(schema)}.{quote(table.name)} ({', '.join(columns)}, "
            f"PRIMARY KEY ({quoted(table.key)})) WITH (fillfactor = {FILLFACTOR})"
        )
    except psycopg.errors.UndefinedObject as error:
        raise DomainError(
            f"The table “{table.name}” has a column of an unknown type: {error.diag.message_primary}.",
            hint="Use PostgreSQL's types in source.sql: MySQL's DATETIME is timestamp, INT UNSIGNED is bigint.",
        ) from None


def _create_model(connection: psycopg.Connection[tuple[Any, ...]], schema: str, model: Model) -> None:
    where = f"{quote(schema)}.{quote(model.name)}"
    try:
        connection.execute(
            f"CREATE TABLE {where} WITH (fillfactor = {FILLFACTOR}) AS {model.query.sql('postgres')} WITH NO DATA"
        )
    except psycopg.Error as error:
        raise refuse(
            model.file.path,
            None,
            f"PostgreSQL refuses the query: {error.diag.message_primary}",
            error.diag.message_hint or "Correct the query; `rowtide explain` shows how it was understood.",
        ) from None
    file = model.file
    for name in sorted(model.never_null & set(file.key)):
        connection.execute(f"ALTER TABLE {where} ALTER COLUMN {quote(name)} SET NOT NULL")
    relation = describe(connection, schema, model.name, file.key)
    # A key may turn out NULL (outer joins, nullable columns): such rows are kept, not dropped.
    connection.execute(f"CREATE UNIQUE INDEX ON {where} ({quoted(file.key)}) NULLS NOT DISTINCT")
    if model.scope != file.key[: len(model.scope)]:
        connection.execute(f"CREATE INDEX ON {where} ({quoted(model.scope)})")
    if file.changes_at:
        if relation.columns[file.changes_at] != "timestamp with time zone":
            raise refuse(
                file.path,
                1,
                f"`-- changes_at: {file.changes_at}` is of type {relation.columns[file.changes_at]}, not timestamptz",
                "Convert local time with `AT TIME ZONE` once more: `local_midnight AT TIME ZONE p.time_zone`.",
            )
        # Most rows do not change by themselves: those take no room, and the next due time is found at once.
        connection.execute(
            f"CREATE INDEX ON {where} ({quote(file.changes_at)}) WHERE {quote(file.changes_at)} IS NOT NULL"
        )
    key = ", ".join(f"{quote(name)} {relation.columns[name]}" for name in file.key)
    if file.history:
        history = f"{quote(schema)}.{quote(file.history.name)}"
        value = relation.columns[file.history.column]
        connection.execute(
            f"CREATE TABLE {history} ({key}, seq bigint NOT NULL, at timestamptz NOT NULL, from_value {value}, "
            f"to_value {value}, cause text NOT NULL)"
        )
        connection.execute(f"CREATE UNIQUE INDEX ON {history} ({quoted(file.key)}, seq) NULLS NOT DISTINCT")
    if file.keep:
        connection.execute(f"CREATE TABLE {quote(schema)}.{quote(file.keep)} (LIKE {where})")
        connection.execute(
            f"CREATE UNIQUE INDEX ON {quote(schema)}.{quote(file.keep)} ({quoted(file.key)}) NULLS NOT DISTINCT"
        )


def _create_indexes(connection: psycopg.Connection[tuple[Any, ...]], instance: str, analysis: Analysis) -> None:
    """Index what tables and models are looked up by; a key's leading column has its index already."""
    relations = describe_all(connection, instance, analysis)
    plans, _ = find_plans(analysis, relations)
    for name, relation in relations.items():
        wanted = set(analysis.joined.get(name, ()))
        for reader in analysis.readers(name):
            # What differences keep is not looked up by its group.
            if reader.name not in plans or plans[reader.name].may_ask:
                wanted |= analysis.grouped.get((reader.name, name), frozenset())
        for text in sorted(wanted - {quote(relation.key[0])}):
            schema = schemas(instance)[name in analysis.domain.mirror_tables]
            connection.execute(f"CREATE INDEX ON {quote(schema)}.{quote(name)} ({text})")


def _create_views(connection: psycopg.Connection[tuple[Any, ...]], schema: str, domain: Domain) -> None:
    """Create the views in whatever order they need each other."""
    waiting = dict(domain.views)
    while waiting:
        failed: dict[str, str] = {}
        for name, view in list(waiting.items()):
            try:
                with connection.transaction():
                    connection.execute(f"CREATE VIEW {quote(schema)}.{quote(name)} AS {view.sql}")
                del waiting[name]
            except psycopg.Error as error:
                failed[name] = str(error.diag.message_primary)
        if len(failed) == len(waiting) and failed:
            name, reason = next(iter(failed.items()))
            raise refuse(domain.views[name].path, None, f"PostgreSQL refuses the view: {reason}", "Correct the query.")


def swap(connection: psycopg.Connection[tuple[Any, ...]], instance: str, fresh: str) -> None:
    """Put the schemas of `fresh` in the place of the instance's, which go, within the caller's transaction."""
    drop(connection, instance)
    for old, new in zip(schemas(fresh), schemas(instance), strict=True):
        connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
