"""Runs our migrations over psycopg, from `connectors.state` only."""

from __future__ import annotations

import psycopg
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(
    "postgresql+psycopg://",
    creator=lambda: psycopg.connect(context.config.attributes["dsn"]),
    poolclass=pool.NullPool,
)
with engine.connect() as connection:
    connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS rowtide")
    connection.commit()
    context.configure(connection=connection, version_table_schema="rowtide")
    with context.begin_transaction():
        context.run_migrations()
