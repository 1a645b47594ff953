"""Tells the log what came of customers: rows of the input `pushed`, from what the state database knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.customer_session import Connection, CustomerSession
from consumers.engine.sqltext import quote
from consumers.push import PUSHED

PAGE = 300  # results told at a time
_TELLING = 0x72777463  # one process at a time tells of an instance
FLAGS = {"available": 0, "running": 3, "retryable": 3, "synced": 1, "failed": 2, "parked": 2}
_TELL_AGAIN = 60.0  # seconds after which what was told and is pending all the same is told again


@dataclass(frozen=True)
class Told:
    """A row of the input `pushed`, and the version of what it tells."""

    record: str
    version: int
    row: tuple[Any, ...]


def tell_again(connection: Connection, whose: CustomerSession) -> None:
    """What was told some time ago and is pending all the same did not arrive."""
    connection.execute(
        f"UPDATE rowtide.customer AS c SET told = false, updated_at = to_timestamp(%s) "
        f"FROM {quote(whose.instance)}.{quote(whose.push.pending)} AS p "
        f"JOIN {quote(whose.instance)}.{quote(whose.push.model)} AS m ON m.record = p.record "
        "WHERE c.realm_id = %s AND c.instance = %s AND c.record = p.record AND c.state = 'synced' AND c.told "
        "AND c.fingerprint = m.fingerprint AND c.updated_at < to_timestamp(%s)",
        [whose.now(), whose.realm_id, whose.instance, whose.now() - _TELL_AGAIN],
    )


def untold(connection: Connection, whose: CustomerSession) -> list[Told]:
    """The next results that are not told yet, as rows of the input."""
    rows = connection.execute(
        "SELECT c.record, c.version, c.realm_id, c.state, c.quickbooks_id, c.sync_token, c.display_name, "
        "c.fingerprint, coalesce(c.reason, c.remarks), c.pushed_by, "
        "to_char(c.pushed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM rowtide.customer AS c "
        "WHERE c.realm_id = %s AND c.instance = %s AND NOT c.told ORDER BY c.record LIMIT %s",
        [whose.realm_id, whose.instance, PAGE],
    ).fetchall()
    found = []
    for record, version, realm, state, id_, token, name, fingerprint, reason, by, at in rows:
        flag = FLAGS[state]
        if state == "available" and fingerprint is not None:
            flag = FLAGS["synced"]
        values = dict(
            zip(PUSHED, (record, realm, str(flag), id_, token, name, fingerprint, reason, by, at), strict=True)
        )
        found.append(Told(record, version, tuple(values.get(column) for column in whose.push.pushed.names)))
    return found


def tell(
    connection: Connection,
    whose: CustomerSession,
    append: Callable[[Sequence[Told]], None],
    told: Callable[[], None],
) -> int:
    """Append what is untold, page by page, and note that it was; see `CustomerStore.tell`. Returns how many."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [_TELLING, whose.instance]).fetchone()
    if row != (True,):
        return 0
    count = 0
    try:
        tell_again(connection, whose)
        while page := untold(connection, whose):
            append(page)
            told()
            connection.execute(
                "UPDATE rowtide.customer AS c SET told = true FROM unnest(%s::text[], %s::bigint[]) "
                "AS u(record, version) WHERE c.realm_id = %s AND c.instance = %s AND c.record = u.record "
                "AND c.version = u.version",
                [
                    [one.record for one in page],
                    [one.version for one in page],
                    whose.realm_id,
                    whose.instance,
                ],
            )
            count += len(page)
            if len(page) < PAGE:
                break
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [_TELLING, whose.instance])
    return count
