"""Customers as the API and the commands see them: pushed now, tried again, shown, counted, previewed.

The functions work beside the lane, in this process or another: whoever has a record's claim works on it, and one limiter
holds for all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.errors import RowtideError
from connectors.quickbooks import realm
from connectors.quickbooks.customer import Wished
from connectors.quickbooks.decide import Change, Held, plan
from connectors.quickbooks.errors import NotConnectedError
from connectors.state import connect
from consumers.customers import CustomerStore
from consumers.engine.sqltext import quote
from daemon.outage import require_answers
from daemon.pushing import (
    NoCustomersError,
    NotAdoptedError,
    company_of,
    opened,
    push_of,
)
from daemon.pushing_current import NotCurrentError, require_current

if TYPE_CHECKING:
    from daemon.app import App

_PAGE = 300  # records taken up at a time
_ROOM = 0.25  # seconds after which a wish to stop is noticed

__all__ = [
    "NoCustomersError",
    "NotAdoptedError",
    "NotCurrentError",
    "PushResult",
    "UnknownRecordError",
    "counts",
    "is_due",
    "preview",
    "push",
    "push_of",
    "realm_status",
    "retry",
    "show",
]


class UnknownRecordError(RowtideError):
    """The domain has no such customer."""


@dataclass
class PushResult:
    """What became of the records that were taken up.

    Args:
        total_processed: records taken up.
        successful: those that QuickBooks now holds as wished.
        failed: those that did not come through.
        errors: (record, reason without personal values) for each that failed or has to wait.
        success_details: (record, QuickBooks id).
        waiting: those that are tried again by themselves; not among `failed`.
        blocked: why nothing more can be sent now; None where it can.
    """

    total_processed: int = 0
    successful: int = 0
    failed: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    success_details: list[tuple[str, str]] = field(default_factory=list)
    waiting: int = 0
    blocked: str | None = None


def push(
    app: App,
    kinds: Sequence[str],
    limit: int,
    *,
    stop: threading.Event | None = None,
    by: str | None = None,
    page: int = _PAGE,
    on_page: Callable[[int], None] = lambda _: None,
) -> PushResult:
    """Push up to `limit` pending records of the kinds now; what becomes pending meanwhile too, up to the limit.

    Args:
        app: whose customers.
        kinds: as in the model's column `kind`: applicant, student.
        limit: records at most.
        stop: ends it early.
        by: who pushes, as it is recorded; the domain's own word where None.
        page: records taken up at a time.
        on_page: told how many records were worked on, after each page.

    Raises:
        NoCustomersError: the domain pushes none.
        NotConnectedError: no company is connected.
        NotAdoptedError: customers of the company have to be looked through first.
        NotCurrentError: the models are behind the log.
        SilentError: QuickBooks answers nobody.
    """
    stop = stop or threading.Event()
    result = PushResult()
    with opened(app, by=by, stop=stop) as work, _ended_by(stop, work.client.stop):
        require_current(app, stop)
        with connect(app.dsn) as connection:
            require_answers(work, connection, at_once=True)
        work.prepare()
        work.settle()
        after, gets_on = "", False
        while result.total_processed < limit and not stop.is_set() and result.blocked is None:
            wanted = min(page, limit - result.total_processed)
            records = work.store.due(after, kinds, limit=wanted)
            if not records:
                if not gets_on:
                    break
                after, gets_on = "", False  # from the first again, for what has become pending behind us
                continue
            after = records[-1]
            items = work.push(records, along=work.tell)
            on_page(len(items))
            for item in items:
                result.total_processed += 1
                if item.held.state == "synced":
                    gets_on = True
                    result.successful += 1
                    result.success_details.append((item.held.record, str(item.held.quickbooks_id)))
                elif item.error is not None:
                    result.failed += 1
                    result.errors.append((item.held.record, item.error))
                else:
                    result.waiting += 1
                    result.errors.append((item.held.record, item.held.reason or "is tried again"))
            result.blocked = work.blocked or ("QuickBooks does not answer" if work.silent else None)
        work.tell()
    return result


@contextmanager
def _ended_by(stop: threading.Event, waits: threading.Event) -> Iterator[None]:
    """Have `stop` end, within a moment, what waits for its turn at QuickBooks: that may be most of a minute away."""
    over = threading.Event()

    def follow() -> None:
        while not over.is_set():
            if stop.wait(_ROOM):
                waits.set()
                return

    threading.Thread(target=follow, name="customers-end", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def is_due(app: App, kinds: Sequence[str]) -> bool:
    """Whether a customer of the kinds is pending and to be pushed now, though somebody may be at it."""
    store = _store(app)
    try:
        return bool(store.due("", kinds, limit=1))
    finally:
        store.close()


def retry(app: App, records: Sequence[str]) -> list[str]:
    """Have customers that failed, are parked or wait tried at once, by the running daemon. Returns which.

    Names and values that QuickBooks refused before are tried anew. Raises NotConnectedError; UnknownRecordError for
    records that the domain does not have.
    """
    store = _store(app)
    try:
        known = {**store.wishes(records), **store.helds(records)}
        if unknown := next((record for record in records if record not in known), None):
            raise UnknownRecordError(f"There is no customer “{unknown}”.", hint="Name one as KIND:ID, as in student:9.")
        return store.retry(records)
    finally:
        store.close()


def show(app: App, record: str) -> dict[str, Any]:
    """All that is known of a customer: as it is wished, as it was sent, its state, its requests.

    Holds personal values: for the person who asks, never for a log. Raises UnknownRecordError.
    """
    with connect(app.dsn) as connection:
        current = realm.current_realm(connection)
    store = _store(app, current.realm_id if current else "")
    try:
        wished, held = store.wishes([record]).get(record), store.helds([record]).get(record)
        if wished is None and held is None:
            raise UnknownRecordError(f"There is no customer “{record}”.", hint="Name one as KIND:ID, as in student:9.")
        return {
            "record": record,
            "wished": None if wished is None else _wished(wished),
            "pending": bool(wished and (held is None or held.fingerprint != wished.fingerprint)),
            "state": held.state if held else "available",
            "quickbooks_id": held.quickbooks_id if held else None,
            "sync_token": held.sync_token if held else None,
            "display_name": held.display_name if held else None,
            "sent": held.sent if held else None,
            "attempts": held.attempts if held else 0,
            "due_at": realm.moment(held.due_at).isoformat() if held and held.due_at else None,
            "reason": held.reason if held else None,
            "remarks": held.remarks if held else None,
            "pushed_at": realm.moment(held.pushed_at).isoformat() if held and held.pushed_at else None,
            "pushed_by": held.pushed_by if held else None,
            "requests": store.requests(record),
        }
    finally:
        store.close()


def counts(app: App) -> dict[str, dict[str, int]]:
    """By kind: total, not_synced, synced, failed, in_progress; the four add up to the total.

    A customer that QuickBooks holds in an older form is not synced.
    """
    push_ = push_of(app)
    with connect(app.dsn) as connection:
        current = realm.current_realm(connection)
        rows = connection.execute(
            "SELECT m.kind, count(*), count(*) FILTER (WHERE c.state IN ('failed', 'parked')), "
            "count(*) FILTER (WHERE c.state IN ('running', 'retryable')), "
            "count(*) FILTER (WHERE c.state IN ('synced', 'available') AND c.fingerprint = m.fingerprint) "
            f"FROM {quote(app.name)}.{quote(push_.model)} AS m LEFT JOIN rowtide.customer AS c "
            "ON c.realm_id = %s AND c.instance = %s AND c.record = m.record GROUP BY m.kind ORDER BY m.kind",
            [current.realm_id if current else "", app.name],
        ).fetchall()
    return {
        kind: {
            "total": total,
            "not_synced": total - failed - running - synced,
            "synced": synced,
            "failed": failed,
            "in_progress": running,
        }
        for kind, total, failed, running, synced in rows
    }


def preview(app: App, kind: str, limit: int, offset: int) -> list[dict[str, Any]]:
    """Pending customers as they would be sent: record, operation, body, remarks. Nothing is sent or changed.

    Holds personal values: for the person who asks, never for a log.
    """
    with connect(app.dsn) as connection:
        current = realm.current_realm(connection)
    store = _store(app, current.realm_id if current else "")
    company = company_of(app.settings, current, app.outside.now())
    found = []
    try:
        records = store.pending(kind, limit, offset)
        helds, wishes = store.helds(records), store.wishes(records)
        for record in records:
            wished = wishes.get(record)
            if wished is None:
                continue
            planned = plan(wished, helds.get(record) or Held(record, ""), company)
            step = planned.step
            found.append(
                {
                    "record": record,
                    "operation": step.operation if isinstance(step, Change) else "none",
                    "body": dict(step.body) if isinstance(step, Change) else {},
                    "remarks": list(planned.remarks),
                }
            )
    finally:
        store.close()
    return found


def realm_status(app: App) -> dict[str, Any] | None:
    """The connected company and why nothing is sent, if nothing is; None where no company is connected."""
    with connect(app.dsn) as connection:
        current = realm.current_realm(connection)
    if current is None:
        return None
    return {
        "realm_id": current.realm_id,
        "environment": current.environment,
        "state": current.state,
        "reason": current.reason,
        "paused": current.paused,
        "paused_until": current.paused_until.isoformat() if current.paused_until else None,
        "adopted": current.adopted_at is not None,
        "connected_at": current.connected_at.isoformat(),
        "waits": current.waits(app.outside.now()),
    }


def _wished(wished: Wished) -> dict[str, Any]:
    return {**wished.__dict__, "fields": dict(wished.fields)}


def _store(app: App, realm_id: str | None = None) -> CustomerStore:
    if realm_id is None:
        with connect(app.dsn) as connection:
            current = realm.current_realm(connection)
        if current is None:
            raise NotConnectedError
        realm_id = current.realm_id
    return CustomerStore(app.dsn, app.name, push_of(app), realm_id, app.outside.now)
