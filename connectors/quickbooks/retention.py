"""What is kept of requests to QuickBooks does not grow for ever: old ones go, some at a time, beside everything else."""

from __future__ import annotations

from connectors.quickbooks.database import Connection
from connectors.quickbooks.realm import moment

BATCH = 1000  # rows of one statement: a matter of milliseconds, whatever has piled up

# Rows that another process removes at this moment are left to it.
_AUDIT = """
DELETE FROM rowtide.quickbooks_audit WHERE id IN (
    SELECT id FROM rowtide.quickbooks_audit WHERE at < %(before)s AND (instance = %(instance)s OR instance IS NULL)
    ORDER BY at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
"""
# What has no recorded outcome stays, however old: it is still to be settled.
_REQUESTS = """
DELETE FROM rowtide.quickbooks_request WHERE requestid IN (
    SELECT requestid FROM rowtide.quickbooks_request WHERE state = 'settled' AND settled_at < %(before)s
    AND instance = %(instance)s LIMIT %(most)s FOR UPDATE SKIP LOCKED)
"""


def prune(connection: Connection, instance: str, before: float, most: int = BATCH) -> tuple[int, int]:
    """Remove an instance's audit rows and settled requests from before a moment (seconds since 1970), each `most` at most.

    Renewals of tokens are on nobody's behalf, and go with any instance's. Returns how many went of each.
    """
    values = {"before": moment(before), "instance": instance, "most": most}
    return connection.execute(_AUDIT, values).rowcount, connection.execute(_REQUESTS, values).rowcount
