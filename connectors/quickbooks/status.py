"""What can be said of the connected company at a moment, from the state database alone: nothing is asked of QuickBooks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connectors.quickbooks.database import Connection
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.options import Limits
from connectors.quickbooks.pace import LONGEST_REQUEST
from connectors.quickbooks.realm import Realm, moment
from connectors.quickbooks.tokens import HARD_LIMIT_SECONDS, warnings

SILENT = 2  # requests in a row without a usable answer that are more than one lost connection
# As the audit words it; "failed" is a renewal of tokens. What died with its process says nothing.
_NO_ANSWER = [str(Verdict.UNKNOWN), str(Verdict.RETRY), "failed"]
_SEEN = timedelta(days=1)  # how far back is looked: customers that wait are tried more often than that


@dataclass(frozen=True)
class Silence:
    """QuickBooks gives no usable answer.

    Args:
        requests: how many in a row had none.
        since: when the first of them was sent.
        last: when the last was.
        questions: how many of them were about no customer: where there are any, it is not a customer that gets no answer.
    """

    requests: int
    since: datetime
    last: datetime
    questions: int


def silence(connection: Connection, realm_id: str, now: float) -> Silence | None:
    """Whether the last requests, of whatever process, got no usable answer; None where one did, or nothing was asked."""
    row = connection.execute(
        "SELECT count(*), min(at), max(at), count(*) FILTER (WHERE operation IN ('company', 'token')) FROM rowtide.quickbooks_audit"
        " WHERE realm_id = %(realm)s AND outcome = ANY(%(none)s)"
        " AND at > coalesce((SELECT max(at) FROM rowtide.quickbooks_audit WHERE realm_id = %(realm)s AND at > %(seen)s"
        " AND outcome <> ALL(%(none)s) AND outcome <> 'interrupted' AND operation <> 'token'), %(seen)s)",
        {"realm": realm_id, "none": _NO_ANSWER, "seen": moment(now) - _SEEN},
    ).fetchone()
    return Silence(*row) if row is not None and row[0] >= SILENT else None


def status(connection: Connection, realm: Realm, now: float, limits: Limits | None = None) -> dict[str, Any]:
    """State, why nothing is sent, the ends of the tokens, what was used of the limits in the last minute, what is unresolved or unanswered.

    Args:
        connection: to the state database.
        realm: as `current_realm` tells it.
        now: seconds since 1970.
        limits: as the settings have them; the documented ones where None.
    """
    unanswered = silence(connection, realm.realm_id, now)
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
        "unanswered": unanswered.requests if unanswered else 0,
        "unanswered_since": unanswered.since if unanswered else None,
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
