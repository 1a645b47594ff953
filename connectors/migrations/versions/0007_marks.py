"""By what the last record that was taken in of a partition is known again."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE rowtide.position ADD COLUMN mark text")


def downgrade() -> None:
    """Remove the column."""
    op.execute("ALTER TABLE rowtide.position DROP COLUMN mark")
