"""Display names that a company's records have or are about to take: one owner each, whatever the process."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.quickbooks import naming
from connectors.quickbooks.decide import Held
from consumers.customer_session import Connection, CustomerSession


def reserve(
    connection: Connection, whose: CustomerSession, wanted: Sequence[tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Reserve names for records where they are free. Returns who has each: (instance, record) by name."""
    if not wanted:
        return {}
    ordered = sorted(wanted, key=lambda pair: pair[1])  # everybody in one order: nobody waits in a circle
    records, keys = [record for record, _ in ordered], [key for _, key in ordered]
    connection.execute(
        "INSERT INTO rowtide.customer_name (realm_id, name, instance, record) "
        "SELECT %s, name, %s, record FROM unnest(%s::text[], %s::text[]) AS u(record, name) ON CONFLICT DO NOTHING",
        [whose.realm_id, whose.instance, records, keys],
    )
    rows = connection.execute(
        "SELECT name, instance, record FROM rowtide.customer_name WHERE realm_id = %s AND name = ANY(%s)",
        [whose.realm_id, keys],
    ).fetchall()
    return {name: (instance, record) for name, instance, record in rows}


def forget(connection: Connection, whose: CustomerSession, helds: Sequence[Held]) -> None:
    """Let the names of records go that are not the display name they have."""
    if helds:
        connection.execute(
            "DELETE FROM rowtide.customer_name AS n USING unnest(%s::text[], %s::text[]) AS u(record, name) "
            "WHERE n.realm_id = %s AND n.instance = %s AND n.record = u.record AND n.name <> u.name",
            [
                [held.record for held in helds],
                [naming.key(held.display_name or "") for held in helds],
                whose.realm_id,
                whose.instance,
            ],
        )
