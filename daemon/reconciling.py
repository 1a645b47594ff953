"""Adoption and reconciliation around an app: everything is looked at first, and changed only where a person says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from connectors.quickbooks import adopt, realm, reconcile, resolve
from connectors.quickbooks.client import CHANGES_DAYS
from connectors.quickbooks.customer import Entity, attributes_of
from connectors.quickbooks.decide import Held
from connectors.quickbooks.known import read
from connectors.quickbooks.reconcile import Finding
from connectors.quickbooks.workload import ClaimLostError, Recorded
from connectors.state import connect
from daemon.pushing import Work, opened
from daemon.pushing_current import require_current

if TYPE_CHECKING:
    from daemon.app import App

log = structlog.get_logger()
_ALL = "Active IN (true, false)"
_MARGIN = 600.0  # seconds that are looked at twice, for clocks that do not agree
_PARKED = {
    "deactivated": "the customer was deactivated in QuickBooks",
    "gone": "the customer is no longer in QuickBooks",
}


def adoption(
    app: App,
    *,
    mapping: Mapping[str, str] | None = None,
    by_name: bool = False,
    nothing: bool = False,
    yes: bool = False,
) -> dict[str, Any]:
    """Look through the company's customers, and with `yes` take those that are ours into the map; then pushing may begin.

    Args:
        app: whose customers.
        mapping: record -> QuickBooks id, as a person wrote it; an empty id: a new customer.
        by_name: whether a display name may tell.
        nothing: none of the company's customers is ours.
        yes: do it.

    Raises NotConnectedError, NotCurrentError, and as `QuickBooksClient.query`.
    """
    with opened(app, threads=1) as work:
        require_current(app, work.stop)
        imported = work.store.import_map()
        if yes and work.realm.adopted_at is not None:
            work.settle()
        wishes, helds = work.store.wishes(), work.store.helds()
        entities = [] if nothing else resolve.paged(work.client, _ALL)
        found = adopt.match(wishes, helds, entities, mapping=mapping, by_name=by_name)
        if yes:
            taken = [adopt.adopted(wishes[one.record], one.entity) for one in found.matches]
            work.store.adopt([*taken, *(adopt.anew(wishes[record]) for record in found.anew)])
            with connect(app.dsn) as connection:
                realm.set_adopted(connection, work.realm.realm_id, work.clock.now())
            log.info("customers.adopted", customers=len(taken), anew=len(found.anew))
    return {
        "applied": yes,
        "imported": imported,
        "adopted": [
            {"record": one.record, "quickbooks_id": one.id, "how": one.how}
            for one in sorted(found.matches, key=lambda one: one.record)
        ],
        "anew": sorted(found.anew),
        "unclear": [{"record": record, "reason": reason} for record, reason in sorted(found.unclear)],
        "unmatched_records": found.unmatched,
        "other_customers": found.others,
    }


def sweep(app: App, *, yes: bool = False, reactivate: bool = False, quick: bool = False) -> dict[str, Any]:
    """Compare what QuickBooks holds with what was sent, and with `yes` repair what may be repaired.

    Args:
        app: whose customers.
        yes: send again what a person changed; what was deactivated or is gone is parked, for a person to see.
        reactivate: take deactivated customers back into use too.
        quick: look only at what changed since the last sweep, where QuickBooks still knows that.

    Raises NotConnectedError, NotCurrentError, and as `QuickBooksClient.query`.
    """
    with opened(app) as work:
        require_current(app, work.stop)
        seen = look(work, quick=quick)
        repaired: list[str] = []
        if yes:
            repaired = _repair(work, seen.found, seen.helds, reactivate=reactivate)
            work.tell()
    return {
        "applied": yes,
        "customers": seen.customers,
        "partial": seen.partial,
        "counts": {kind: seen.counts.get(kind, 0) for kind in reconcile.KINDS},
        "findings": [
            {"kind": one.kind, "record": one.record, "quickbooks_id": one.quickbooks_id, "detail": one.detail}
            for one in seen.found
        ],
        "repaired": repaired,
    }


class Seen(NamedTuple):
    """What a look at the company showed: findings, how many customers were looked at, the map at that moment."""

    found: list[Finding]
    customers: int
    partial: bool
    helds: Mapping[str, Held]

    @property
    def counts(self) -> Counter[str]:
        """Findings by kind."""
        return Counter(one.kind for one in self.found)


def look(work: Work, *, quick: bool) -> Seen:
    """Compare the company with what was sent, note when, and say in one line what was found. Raises as `Client.query`."""
    began = work.clock.now()
    entities, partial = _entities(work, quick=quick)
    helds, wishes = work.store.helds(), work.store.wishes()
    found = reconcile.compare(helds, wishes, entities, partial=partial)
    there = resolve.by_ids(work.client, [one.quickbooks_id for one in found if one.kind == "gone"])
    found = [one for one in found if one.kind != "gone" or one.quickbooks_id not in there]
    work.store.swept(began)
    seen = Seen(found, len(entities), partial, helds)
    log.info("customers.reconciled", looked_at=seen.customers, found=dict(seen.counts))
    return seen


def _entities(work: Work, *, quick: bool) -> tuple[dict[str, Entity], bool]:
    """Customers by id; whether only those that changed."""
    last = work.store.last_sweep()
    if quick and last is not None and work.clock.now() - last < (CHANGES_DAYS - 1) * 86400:
        changes = work.client.changes_since(last - _MARGIN)
        if changes.complete:
            return {str(entity.get("Id", "")): entity for entity in changes.customers}, True
    return {str(entity.get("Id", "")): entity for entity in resolve.paged(work.client, _ALL)}, False


def _repair(work: Work, found: Sequence[Finding], helds: Mapping[str, Held], *, reactivate: bool) -> list[str]:
    """Send again what was changed. Returns the records that QuickBooks now holds as wished."""
    again: list[str] = []
    back: list[str] = []
    for one in found:
        held = helds[one.record]
        if one.kind == "changed" and one.entity is not None:
            present = attributes_of(one.entity)
            ours = {name: present[name] for name in held.sent or {} if name in present}
            again += _noted(work, replace(read(held, one.entity, ours), display_name=held.display_name))
        elif one.kind == "deactivated" and one.entity is not None and reactivate:
            back += _noted(work, replace(read(held, one.entity), display_name=held.display_name))
        elif one.kind in _PARKED and held.state != "parked":
            _noted(work, replace(held, state="parked", reason=_PARKED[one.kind], tried=held.fingerprint, told=False))
    items = [*work.push(again, due_only=False), *work.push(back, due_only=False, reactivate=True)]
    return sorted(item.held.record for item in items if item.held.state == "synced")


def _noted(work: Work, held: Held) -> list[str]:
    """Record what is known of a customer; nothing where somebody works on it at this moment."""
    try:
        work.store.record([Recorded(held)])
    except ClaimLostError:
        return []
    return [held.record]
