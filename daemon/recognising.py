"""Customers that are ours though the state database does not know them: it was restored from a backup made before their push.

The source was told their ids, in its flags. Without this they would be made once more, under their second names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from connectors.quickbooks import adopt, naming, resolve
from connectors.quickbooks.adopt import Match
from connectors.quickbooks.customer import Wished
from connectors.quickbooks.decide import created_at
from consumers.engine.sqltext import quote

if TYPE_CHECKING:
    from daemon.pushing import Work

log = structlog.get_logger()


def recognise(work: Work, records: Sequence[str]) -> int:
    """Take customers into the map whose ids the source tells, of those records that were never taken up. Returns how many.

    A customer is the record's if it was made after the company was looked through, or has one of the record's names: an id that
    is left over from another company, and that adoption passed over, stands for somebody else.

    Raises as `QuickBooksClient.query`.
    """
    strange = _strange(work, records)
    if not strange:
        return 0
    wishes = work.store.wishes(strange)
    ids = sorted({wished.known_id for wished in wishes.values() if wished.known_id} - set(_owned(work, wishes)))
    entities = list(resolve.by_ids(work.client, ids).values())
    found = [one for one in adopt.match(wishes, {}, entities).matches if _is_ours(work, wishes[one.record], one)]
    if found:
        # Which real name a name was chosen for is not known any more: it stays where it may, else another is chosen.
        work.store.adopt([replace(adopt.adopted(wishes[one.record], one.entity), real_name=None) for one in found])
        log.warning("customers.recognised", customers=len(found))
    return len(found)


def _strange(work: Work, records: Sequence[str]) -> list[str]:
    """Records whose source names a customer, and of which nothing at all is known here."""
    store = work.store
    rows = store.connection.execute(
        f"SELECT m.record FROM {quote(store.instance)}.{quote(store.push.model)} AS m WHERE m.record = ANY(%s) "
        "AND m.known_id ~ '^[0-9]{1,20}$' AND NOT EXISTS (SELECT 1 FROM rowtide.customer AS c "
        "WHERE c.realm_id = %s AND c.instance = %s AND c.record = m.record) ORDER BY m.record",
        [list(records), store.realm_id, store.instance],
    ).fetchall()
    return [row[0] for row in rows]


def _owned(work: Work, wishes: dict[str, Wished]) -> dict[str, str]:
    return work.store.owners([wished.known_id for wished in wishes.values() if wished.known_id])


def _is_ours(work: Work, wished: Wished, match: Match) -> bool:
    looked_through, made = work.realm.adopted_at, created_at(match.entity)
    # QuickBooks tells whole seconds: what was made in the second of the look may have come after it.
    if looked_through is not None and made is not None and made >= int(looked_through.timestamp()):
        return True
    names = {naming.key(name) for name in wished.names}
    return naming.key(str(match.entity.get("DisplayName", ""))) in names
