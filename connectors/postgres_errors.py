"""What PostgreSQL and its client library say of a failure, in one line."""

from __future__ import annotations

import psycopg


def reason_of(error: psycopg.Error) -> str:
    """What failed, without values: it names host, user or database and never a password."""
    if error.diag.message_primary:
        return error.diag.message_primary
    # Lines that go on from the one before hold advice of the client library, which knows nothing of Rowtide.
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    return lines[-1] if lines else type(error).__name__
