"""QuickBooks: the connected company, its sealed tokens, the slots of its limiter, what was sent."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = """
CREATE TABLE rowtide.quickbooks_realm (
    realm_id text PRIMARY KEY,
    environment text NOT NULL CHECK (environment IN ('production', 'sandbox', 'simulator')),
    state text NOT NULL CHECK (state IN ('connected', 'reconnect_needed', 'stopped', 'disconnected')),
    reason text,
    paused boolean NOT NULL DEFAULT false,
    paused_until timestamptz,
    pace double precision NOT NULL DEFAULT 1 CHECK (pace > 0 AND pace <= 1),
    pace_at timestamptz,
    adopted_at timestamptz,
    capabilities jsonb NOT NULL DEFAULT '{}',
    connected_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX quickbooks_realm_one ON rowtide.quickbooks_realm ((true)) WHERE state <> 'disconnected';
CREATE TABLE rowtide.quickbooks_token (
    realm_id text PRIMARY KEY REFERENCES rowtide.quickbooks_realm,
    generation bigint NOT NULL,
    sealed bytea NOT NULL,
    consented_at timestamptz NOT NULL,
    access_expires_at timestamptz NOT NULL,
    refresh_expires_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE TABLE rowtide.quickbooks_slot (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    realm_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('request', 'batch')),
    holder integer NOT NULL,
    taken_at timestamptz NOT NULL,
    released_at timestamptz
);
CREATE INDEX quickbooks_slot_window ON rowtide.quickbooks_slot (realm_id, taken_at);
CREATE TABLE rowtide.quickbooks_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    instance text,
    realm_id text NOT NULL,
    record text,
    operation text NOT NULL,
    requestid text,
    http_status integer,
    fault_code text,
    duration_ms double precision NOT NULL,
    intuit_tid text,
    outcome text NOT NULL,
    request jsonb NOT NULL,
    response jsonb NOT NULL
);
CREATE INDEX quickbooks_audit_at ON rowtide.quickbooks_audit (at);
CREATE INDEX quickbooks_audit_record ON rowtide.quickbooks_audit (record, id) WHERE record IS NOT NULL;
CREATE INDEX quickbooks_audit_items ON rowtide.quickbooks_audit USING gin (request jsonb_path_ops)
    WHERE operation = 'batch'
"""


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """Remove the tables."""
    for name in ("audit", "slot", "token", "realm"):
        op.execute(f"DROP TABLE rowtide.quickbooks_{name}")
