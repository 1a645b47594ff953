"""What waits to be done, or was done, outside: one row for each key of a pending model that was taken up."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.execute("""
CREATE TABLE rowtide.delivery (
    instance text NOT NULL,
    sink text NOT NULL,
    key text NOT NULL,
    decision text NOT NULL,
    state text NOT NULL CHECK (state IN ('available', 'running', 'retryable', 'completed', 'discarded', 'parked')),
    attempts integer NOT NULL DEFAULT 0,
    reason text,
    due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance, sink, key)
)""")


def downgrade() -> None:
    """Remove the table."""
    op.execute("DROP TABLE rowtide.delivery")
