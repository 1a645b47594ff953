"""The tokens that open the API, as hashes."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table."""
    op.execute("""
CREATE TABLE rowtide.api_token (
    name text PRIMARY KEY,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    made_at timestamptz NOT NULL DEFAULT now()
)""")


def downgrade() -> None:
    """Remove the table."""
    op.execute("DROP TABLE rowtide.api_token")
