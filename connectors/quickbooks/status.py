"""What can be said of the connected company at a moment, from the state database alone: nothing is asked of QuickBooks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from connectors.quickbooks.database import Connection
from connectors.quickbooks.options import Limits
from connectors.quickbooks.pace import LONGEST_REQUEST
from connectors.quickbooks.realm import Realm, moment
from connectors.quickbooks.tokens import HARD_LIMIT_SECONDS, warnings


def status(connection: Connection, realm: Realm, now: float, limits: Limits | None = None) -> dict[str, Any]:
    """State, why nothing is sent, the ends of the tokens, what was used of the limits in the last minute, what is unresolved.

    Args:
        connection: to the state database.
        realm: as `current_realm` tells it.
        now: seconds since 1970.
        limits: as the settings have them; the documented ones where None.
    """
    return {
        "realm": realm.realm_id,
        "environment": realm.environment,
        "state": realm.state,
        "reason": realm.reason,
        "waits": realm.waits(now),
        "paused": realm.paused,
        "paused_until": realm.paused_until if realm.paused_until and realm.paused_until > moment(now) else None,
        "adopted_at": realm.adopted_at,
        "connected_at": realm.connected_at,
        **_tokens(connection, realm, now),
        "last_minute": _used(connection, realm, now, limits or Limits()),
        "unresolved": _unresolved(connection, realm),
    }


def _tokens(connection: Connection, realm: Realm, now: float) -> dict[str, Any]:
    row = connection.execute(
        "SELECT access_expires_at, refresh_expires_at, consented_at, updated_at FROM rowtide.quickbooks_token"
        " WHERE realm_id = %s",
        [realm.realm_id],
    ).fetchone()
    if row is None:
        return {"tokens": None, "warnings": []}
    access, refresh, consented, renewed = row
    ends: datetime = consented + timedelta(seconds=HARD_LIMIT_SECONDS)
    tokens = {"access_ends": access, "refresh_ends": refresh, "consent_ends": ends, "renewed_at": renewed}
    return {"tokens": tokens, "warnings": warnings(refresh.timestamp(), consented.timestamp(), now)}


def _used(connection: Connection, realm: Realm, now: float, limits: Limits) -> dict[str, Any]:
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE kind = 'batch'), count(*) FILTER (WHERE released_at IS NULL)"
        " FROM rowtide.quickbooks_slot WHERE realm_id = %s AND taken_at <= %s AND coalesce(released_at, taken_at + %s) > %s",
        [realm.realm_id, moment(now), timedelta(seconds=LONGEST_REQUEST), moment(now - 60)],
    ).fetchone()
    requests, batches, under_way = row or (0, 0, 0)
    return {
        "requests": requests,
        "requests_permitted": limits.requests_per_minute,
        "batches": batches,
        "batches_permitted": limits.batches_per_minute,
        "under_way": under_way,
    }


def _unresolved(connection: Connection, realm: Realm) -> int:
    """Requests whose outcome is not known yet."""
    if connection.execute("SELECT to_regclass('rowtide.quickbooks_request') IS NULL").fetchone() == (True,):
        return 0
    row = connection.execute(
        "SELECT count(*) FROM rowtide.quickbooks_request WHERE realm_id = %s AND state = 'unknown'", [realm.realm_id]
    ).fetchone()
    return int(row[0]) if row else 0
