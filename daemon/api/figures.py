"""The figures that API and commands tell of customers, computed once for both; nothing here knows of HTTP."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from connectors.errors import RowtideError
from connectors.quickbooks.client import MOST_OPERATIONS
from connectors.quickbooks.errors import NotConnectedError, QuickBooksBlockedError, ReconnectNeededError
from connectors.quickbooks.realm import CONNECTED, RECONNECT_NEEDED
from connectors.state import connect
from consumers.engine import instance, schema
from daemon import customers

if TYPE_CHECKING:
    from consumers.push import CustomerPush
    from daemon.app import App

_NAMED = re.compile(r"[a-z]{1,20}:[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_EVERYTHING = 2**31 - 1
_STUCK = 30.0  # seconds without any change after which what others work on is left to them
PLURAL = {"applicant": "applicants", "student": "students"}
_STATES = ("total", "not_synced", "synced", "failed", "in_progress")


class UnknownCustomerError(RowtideError):
    """Nobody knows which customer is meant."""


Counts = Mapping[str, Mapping[str, int]]


def analysis(counts: Counts) -> dict[str, Any]:
    """What `counts` told, with totals over all kinds."""
    kinds = {many: {state: counts.get(one, {}).get(state, 0) for state in _STATES} for one, many in PLURAL.items()}
    overall = {
        f"total_{name}": sum(kind[state] for kind in kinds.values())
        for name, state in (("customers", "total"), ("not_synced",) * 2, ("synced",) * 2, ("failed",) * 2)
    }
    return {**kinds, "overall": overall}


def progress(figures: Mapping[str, Any]) -> dict[str, float]:
    """Per cent synced, of an analysis; 100 is told only where all are, and where there is nothing to sync."""
    overall = figures["overall"]
    return {
        **{many: _per_cent(figures[many]["synced"], figures[many]["total"]) for many in PLURAL.values()},
        "overall": _per_cent(overall["total_synced"], overall["total_customers"]),
    }


def _per_cent(part: int, whole: int) -> float:
    return part * 10_000 // whole / 100 if whole else 100.0


def record_id(record: str) -> int:
    """The number in the name of a record: 17 of applicant:17."""
    return int(record.rpartition(":")[2])


def outcome(kind: str, result: customers.PushResult) -> dict[str, Any]:
    """What a push did to customers of one kind. What waits to be tried again by itself has not come through either."""
    name = f"{kind}_id"
    return {
        "total_processed": result.total_processed,
        "successful": result.successful,
        "failed": result.failed + result.waiting,
        "errors": [{name: record_id(record), "error": error} for record, error in result.errors],
        "success_details": [
            {name: record_id(record), "quickbooks_id": quickbooks_id}
            for record, quickbooks_id in result.success_details
        ],
    }


def sent(*results: customers.PushResult) -> customers.PushResult:
    """The first of some results. Raises QuickBooksBlockedError where nothing could be sent at all."""
    blocked = next((result.blocked for result in results if result.blocked), None)
    if blocked is not None and not any(result.successful or result.failed for result in results):
        raise QuickBooksBlockedError(f"Nothing can be sent to QuickBooks now: {blocked}.")
    return results[0]


def push_all(
    app: App,
    kind: str,
    batch_size: int,
    stop: threading.Event,
    on_page: Callable[[int], None] = lambda _: None,
) -> customers.PushResult:
    """Push customers of a kind until none is pending that can be pushed now, or until stopped.

    Nothing is counted off: what is pending is asked for anew, some at a time. What others work on at the moment is waited
    for as long as anything gets on; a customer that failed is not.
    """
    done: dict[str, str] = {}
    errors: dict[str, str] = {}
    blocked, seen, since = None, None, time.monotonic()
    while not stop.is_set() and blocked is None:
        result = customers.push(app, [kind], _EVERYTHING, stop=stop, page=_whole(batch_size), on_page=on_page)
        blocked = result.blocked
        errors.update(result.errors)
        done.update(result.success_details)
        for record, _ in result.success_details:
            errors.pop(record, None)
        if not customers.is_due(app, [kind]):
            break
        if (counted := customers.counts(app)) != seen:
            seen, since = counted, time.monotonic()
        elif time.monotonic() - since > _STUCK:
            break
    found = {record: id_ for record, id_ in done.items() if record not in errors}
    return customers.PushResult(
        total_processed=len(found) + len(errors),
        successful=len(found),
        failed=len(errors),
        errors=list(errors.items()),
        success_details=list(found.items()),
        blocked=blocked,
    )


def _whole(batch_size: int) -> int:
    """In whole batches of QuickBooks', where it fills one: a rest would go one by one, which takes longer."""
    return -(-batch_size // MOST_OPERATIONS) * MOST_OPERATIONS if batch_size >= MOST_OPERATIONS else batch_size


def previews(kind: str, planned: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Customers as they would be sent, each with its id: `operation` is what would be done with `customer`."""
    return [
        {
            f"{kind}_id": record_id(entry["record"]),
            "operation": entry["operation"],
            "customer": entry["body"],
            "remarks": entry["remarks"],
        }
        for entry in planned
    ]


def status(app: App) -> dict[str, Any]:
    """How far everything is, and whether QuickBooks is connected."""
    figures = analysis(customers.counts(app))
    realm = customers.realm_status(app)
    return {
        "statistics": figures,
        "progress": progress(figures),
        "quickbooks_connected": realm is not None and realm["state"] == CONNECTED,
        "last_updated": last_updated(app),
    }


def last_updated(app: App) -> datetime | None:
    """When the state of a customer last changed; None where none has one."""
    with connect(app.dsn) as connection:
        row = connection.execute(
            "SELECT max(updated_at) FROM rowtide.customer WHERE instance = %s", [app.name]
        ).fetchone()
    return row[0] if row else None


def waiting(app: App, kind: str) -> int:
    """How many customers of a kind are pending."""
    push = _push(app)
    row = _one(
        app, f'SELECT count(*) FROM "{push.pending}" JOIN "{push.model}" AS c USING (record) WHERE c.kind = %s', kind
    )
    return int(row[0][0])


def resolve(app: App, given: str) -> str:
    """The record that a person means by applicant:17, or by 17 where one kind alone has that number.

    Raises UnknownCustomerError.
    """
    if _NAMED.fullmatch(given):
        return given
    if not _NUMBER.fullmatch(given):
        raise UnknownCustomerError(
            f"“{given}” names no customer.", hint="Write applicant:17 or student:9, or the number alone."
        )
    found = [
        row[0]
        for row in _one(
            app, f'SELECT record FROM "{_push(app).model}" WHERE record_id = %s ORDER BY record', int(given)
        )
    ]
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise UnknownCustomerError(
            f"There is no customer {given}.", hint="See `rowtide customers analyze`, and what `rowtide status` tells."
        )
    raise UnknownCustomerError(f"{given} is the number of several customers.", hint=f"Write {' or '.join(found)}.")


def _push(app: App) -> CustomerPush:
    if app.domain.push is None:
        raise UnknownCustomerError(
            f"The domain {app.name} has no customers for QuickBooks.",
            hint="Name one that has: `rowtide --domain mis customers status`.",
        )
    return app.domain.push


def _one(app: App, sql: str, value: int | str) -> list[tuple[Any, ...]]:
    with connect(app.dsn) as connection:
        instance.require(connection, app.name, app.analysis)
        schema.use(connection, app.name)
        return connection.execute(sql, [value]).fetchall()


def require_set_up(app: App) -> None:
    """Raise InstanceError where the instance was not set up, or its tables are of other files."""
    with connect(app.dsn) as connection:
        instance.require(connection, app.name, app.analysis)


def require_connected(app: App) -> None:
    """Raise where nothing can be sent: no company is connected, a person's consent is needed anew, or it is paused."""
    realm = customers.realm_status(app)
    if realm is None:
        raise NotConnectedError
    if realm["state"] == RECONNECT_NEEDED:
        raise ReconnectNeededError
    if realm["waits"] and (realm["paused"] or realm["state"] != CONNECTED):
        raise QuickBooksBlockedError(f"Nothing can be sent to QuickBooks now: {realm['waits']}.")
