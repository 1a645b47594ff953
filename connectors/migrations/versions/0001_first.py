"""The first version: instances, positions, parked events, the embedded log."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = """
CREATE TABLE rowtide.instance (
    name text PRIMARY KEY,
    domain text NOT NULL,
    epoch bigint NOT NULL,
    fingerprint text,
    clock timestamptz,
    state text NOT NULL DEFAULT 'running',
    state_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    definition jsonb
);
CREATE TABLE rowtide.position (
    instance text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (instance, topic, partition)
);
CREATE TABLE rowtide.parked_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    ts timestamptz,
    key bytea,
    value bytea,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (instance, topic, partition, "offset")
);
CREATE TABLE rowtide.log_topic (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    partitions integer NOT NULL,
    source_position text
);
CREATE TABLE rowtide.log_partition (
    topic_id integer NOT NULL REFERENCES rowtide.log_topic,
    partition integer NOT NULL,
    start_offset bigint NOT NULL DEFAULT 0,
    next_offset bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition)
);
CREATE TABLE rowtide.log_record (
    id bigint PRIMARY KEY,
    topic_id integer NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    ts_ms bigint NOT NULL,
    key bytea,
    value bytea
) WITH (autovacuum_vacuum_insert_scale_factor = 0.5);
CREATE UNIQUE INDEX log_record_place ON rowtide.log_record (topic_id, partition, "offset");
CREATE SEQUENCE rowtide.log_record_id OWNED BY rowtide.log_record.id;
ALTER TABLE rowtide.log_record ALTER COLUMN value SET COMPRESSION pglz
"""


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """Remove everything of ours."""
    op.execute("DROP SCHEMA rowtide CASCADE")
