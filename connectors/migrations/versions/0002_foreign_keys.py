"""The foreign keys of an instance's source, whose cascades its log leaves out."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.execute("""
CREATE TABLE rowtide.foreign_key (
    instance text NOT NULL,
    name text NOT NULL,
    "table" text NOT NULL,
    columns text[] NOT NULL,
    parent text NOT NULL,
    parent_columns text[] NOT NULL,
    on_delete text NOT NULL,
    on_update text NOT NULL,
    PRIMARY KEY (instance, "table", name)
)""")


def downgrade() -> None:
    """Remove the table."""
    op.execute("DROP TABLE rowtide.foreign_key")
