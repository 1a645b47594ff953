"""Customers in QuickBooks: what is known of each, the names that are theirs, and every request with its requestid."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = """
CREATE TABLE rowtide.customer (
    realm_id text NOT NULL,
    instance text NOT NULL,
    record text NOT NULL,
    kind text,
    seed text NOT NULL DEFAULT gen_random_uuid()::text,
    sequence bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    quickbooks_id text,
    sync_token text,
    real_name text,
    display_name text,
    sent jsonb,
    notes text,
    fields_sent jsonb NOT NULL DEFAULT '{}',
    fields_refused jsonb NOT NULL DEFAULT '{}',
    left_out jsonb NOT NULL DEFAULT '{}',
    names_refused jsonb NOT NULL DEFAULT '{}',
    doubt_since timestamptz,
    fingerprint text,
    tried text,
    state text NOT NULL CHECK (state IN ('available', 'running', 'retryable', 'synced', 'failed', 'parked')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz,
    reason text,
    remarks text,
    told boolean NOT NULL DEFAULT true,
    pushed_at timestamptz,
    pushed_by text,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (realm_id, instance, record)
);
CREATE UNIQUE INDEX customer_quickbooks_id ON rowtide.customer (realm_id, quickbooks_id);
CREATE INDEX customer_untold ON rowtide.customer (instance) WHERE NOT told;
CREATE INDEX customer_unfinished ON rowtide.customer (realm_id, instance, state) WHERE state <> 'synced';
CREATE TABLE rowtide.customer_name (
    realm_id text NOT NULL,
    name text NOT NULL,
    instance text NOT NULL,
    record text NOT NULL,
    PRIMARY KEY (realm_id, name)
);
CREATE INDEX customer_name_of ON rowtide.customer_name (realm_id, instance, record);
CREATE TABLE rowtide.customer_sweep (
    realm_id text NOT NULL,
    instance text NOT NULL,
    swept_at timestamptz NOT NULL,
    PRIMARY KEY (realm_id, instance)
);
CREATE TABLE rowtide.quickbooks_request (
    requestid text PRIMARY KEY,
    realm_id text NOT NULL,
    instance text NOT NULL,
    record text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('create', 'update', 'fields')),
    body json NOT NULL,
    attributes jsonb NOT NULL,
    defined jsonb NOT NULL DEFAULT '{}',
    name text,
    real_name text,
    batch_id text,
    position integer,
    stored_at timestamptz NOT NULL,
    since timestamptz NOT NULL,
    sent_at timestamptz NOT NULL,
    sends integer NOT NULL DEFAULT 0,
    refusals integer NOT NULL DEFAULT 0,
    state text NOT NULL CHECK (state IN ('open', 'unknown', 'settled')),
    outcome text,
    settled_at timestamptz
);
CREATE UNIQUE INDEX quickbooks_request_one ON rowtide.quickbooks_request (realm_id, instance, record)
    WHERE state <> 'settled';
CREATE INDEX quickbooks_request_batch ON rowtide.quickbooks_request (batch_id) WHERE state <> 'settled'
"""


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """Remove the tables."""
    for name in ("quickbooks_request", "customer_sweep", "customer_name", "customer"):
        op.execute(f"DROP TABLE rowtide.{name}")
