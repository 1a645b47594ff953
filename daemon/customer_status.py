"""How the customers of an instance stand, told from the state database by whoever asks; no value of a customer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from connectors.quickbooks import realm
from connectors.quickbooks.status import silence
from consumers.engine.sqltext import quote

if TYPE_CHECKING:
    from daemon.app import App

STATES = ("available", "running", "retryable", "synced", "failed", "parked")
Connection = psycopg.Connection[tuple[Any, ...]]


def status(app: App, connection: Connection) -> dict[str, Any] | None:
    """Pending customers, their states, and why they do not get on (`problem`); None where the domain pushes none."""
    push = app.domain.push
    if push is None:
        return None
    now = app.outside.now()
    current = realm.current_realm(connection)
    realm_id = current.realm_id if current else ""
    pending = connection.execute(f"SELECT count(*) FROM {quote(app.name)}.{quote(push.pending)}").fetchone()
    rows = connection.execute(
        "SELECT state, count(*), extract(epoch FROM max(pushed_at))::float8, count(*) FILTER (WHERE NOT told), "
        "(array_agg(reason ORDER BY updated_at DESC) FILTER (WHERE reason IS NOT NULL))[1] "
        "FROM rowtide.customer WHERE realm_id = %s AND instance = %s GROUP BY state",
        [realm_id, app.name],
    ).fetchall()
    unsettled = connection.execute(
        "SELECT count(*), extract(epoch FROM min(since))::float8 FROM rowtide.quickbooks_request "
        "WHERE realm_id = %s AND instance = %s AND state <> 'settled'",
        [realm_id, app.name],
    ).fetchone()
    states = {**dict.fromkeys(STATES, 0), **{row[0]: row[1] for row in rows}}
    reasons = {row[0]: row[4] for row in rows}
    last = max((row[2] for row in rows if row[2] is not None), default=None)
    silent = silence(connection, realm_id, now)
    waits = "QuickBooks not connected" if current is None else current.waits(now)
    enabled = app.settings.quickbooks.enabled
    found = {
        "enabled": enabled,
        "realm": None if current is None else current.realm_id,
        "realm_state": "disconnected" if current is None else current.state,
        "adopted": current is not None and current.adopted_at is not None,
        "waits": waits,
        "pending": pending[0] if pending else 0,
        "states": states,
        "unsettled": unsettled[0] if unsettled else 0,
        "oldest_unsettled_seconds": None if not unsettled or unsettled[1] is None else round(now - unsettled[1], 3),
        "unanswered": silent.requests if silent else 0,
        "unanswered_seconds": round(now - silent.since.timestamp(), 3) if silent else 0.0,
        "untold": sum(row[3] for row in rows),
        "last_push": None if last is None else realm.moment(last).isoformat(),
        "last_push_seconds": None if last is None else round(now - last, 3),
    }
    return {**found, "problem": _problem(found, reasons) if enabled else None}


def _problem(found: dict[str, Any], reasons: dict[str, str | None]) -> str | None:
    """Why customers do not get on; None where they do."""
    states = found["states"]
    if found["pending"] and found["waits"]:
        return f"{found['pending']} customers wait: {found['waits']}"
    if found["pending"] and not found["adopted"] and not states["synced"]:
        return f"{found['pending']} customers wait: see `rowtide quickbooks adopt`, unless the company is empty"
    if (waiting := max(found["pending"], found["unsettled"])) and found["unanswered"]:
        return (
            f"{waiting} customers wait: QuickBooks does not answer (the last {found['unanswered']} requests, for "
            f"{found['unanswered_seconds']:.0f} s)"
        )
    stuck = states["failed"] + states["parked"]
    if stuck:
        return f"{stuck} customers do not get on ({states['parked']} parked): {reasons.get('parked') or reasons.get('failed')}"
    return None
