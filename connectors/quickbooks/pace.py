"""The one limiter of a company, shared through the state database by every thread and process that talks to it.

A request takes a *slot* before it is sent and gives it back when its answer is there. QuickBooks counts it at some moment in between,
so it counts here from its taking until a window's length after its answer: then no window of QuickBooks', wherever it begins, can
hold more than is permitted. Slots are handed out under a lock, for a moment to come where the window is full: whoever asks
first goes first, in one round trip. After a 429 the whole company rests, then goes on at a lower rate that recovers.

Proof that the limits hold: take any moment, and the slots that count then. The one handed out last was handed out for a moment at
which fewer than the limit of the others counted, and those that count later counted already then.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from connectors.quickbooks.audit import Entry
from connectors.quickbooks.clock import Clock
from connectors.quickbooks.database import Connection, Connections
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.options import Limits
from connectors.state import connect

Kind = Literal["request", "batch"]

REST_SECONDS = 60.0  # what QuickBooks asks for after a 429
LONGEST_REQUEST = 120.0  # QuickBooks ends a request then, and so do we
LEAST_PACE = 0.1
SLOWER = 0.7  # after a 429, multiplied
FASTER = 0.1  # for each minute without one, added
_POLL, _LONGEST_POLL = 0.05, 0.25
_HOLDERS = 0x726F7774  # class of the advisory locks by which the living are known


@dataclass(frozen=True)
class Slot:
    """A permission to send one request, counted until it is settled."""

    id: int
    kind: Kind
    taken_at: float


@dataclass(frozen=True)
class Held:
    """No permission: THROTTLED for a while, or BLOCKED until somebody changes something."""

    verdict: Verdict
    reason: str
    wait: float = 0.0


# Everything at once, in one round trip: the statements of one simple query run in one transaction, each seeing what was
# committed before it began.
_TAKE = """
SELECT pg_advisory_xact_lock(%(family)s, hashtext(%(realm)s));
DELETE FROM rowtide.quickbooks_slot WHERE realm_id = %(realm)s AND taken_at < to_timestamp(%(now)s) - interval '60 s'
   AND coalesce(released_at, taken_at + %(longest)s * interval '1 s') <= to_timestamp(%(now)s) - interval '60 s';
WITH dead AS (
    SELECT id, taken_at FROM rowtide.quickbooks_slot AS slot
    WHERE realm_id = %(realm)s AND released_at IS NULL AND holder <> %(holder)s AND NOT EXISTS (
        SELECT FROM pg_locks AS living WHERE living.locktype = 'advisory' AND living.classid::bigint = %(holders)s
           AND living.objid::bigint = slot.holder AND living.objsubid = 2)
), unused AS (
    DELETE FROM rowtide.quickbooks_slot WHERE id IN (SELECT id FROM dead WHERE taken_at > to_timestamp(%(now)s))
)
UPDATE rowtide.quickbooks_slot SET released_at = to_timestamp(%(now)s)
    WHERE id IN (SELECT id FROM dead WHERE taken_at <= to_timestamp(%(now)s));
WITH realm AS (
    SELECT state, paused, reason, extract(epoch FROM paused_until)::float8 AS until,
           least(1, pace + greatest(0, %(now)s - extract(epoch FROM coalesce(pace_at, '-infinity'))::float8) / 60 * %(faster)s) AS pace
    FROM rowtide.quickbooks_realm WHERE realm_id = %(realm)s
), slot AS (
    SELECT kind, extract(epoch FROM CASE WHEN released_at IS NOT NULL THEN released_at
                 WHEN taken_at <= to_timestamp(%(now)s - %(longest)s) THEN taken_at + %(longest)s * interval '1 s' END)::float8 AS ended
    FROM rowtide.quickbooks_slot WHERE realm_id = %(realm)s
), rule AS (
    SELECT most, width, of_kind FROM (VALUES (%(minute)s::integer, 60::float8, NULL::text), (%(second)s, 1, NULL),
        (%(batches)s, 60, 'batch')) AS rule (most, width, of_kind) WHERE of_kind IS NULL OR of_kind = %(kind)s
), free AS (
    SELECT width, of_kind, greatest(1, floor(most * realm.pace))::integer - 1
           - (SELECT count(*) FROM slot WHERE ended IS NULL AND (of_kind IS NULL OR kind = of_kind))::integer AS others
    FROM rule CROSS JOIN realm
), start AS (
    SELECT greatest(%(now)s, max((SELECT ended + width FROM slot WHERE ended IS NOT NULL AND (of_kind IS NULL OR kind = of_kind)
                                  ORDER BY ended DESC OFFSET greatest(others, 0) LIMIT 1))) AS at,
           min(others) >= 0 AND (SELECT count(*) FROM slot WHERE ended IS NULL) < %(concurrency)s AS known
    FROM free
), taken AS (
    INSERT INTO rowtide.quickbooks_slot (realm_id, kind, holder, taken_at)
    SELECT %(realm)s, %(kind)s, %(holder)s, to_timestamp(start.at) FROM start CROSS JOIN realm
    WHERE start.known AND realm.state = 'connected' AND NOT realm.paused AND coalesce(realm.until, 0) <= %(now)s
    RETURNING id
)
SELECT taken.id, start.at, realm.state, realm.paused, realm.reason, realm.until,
    (SELECT extract(epoch FROM min(taken_at))::float8 FROM rowtide.quickbooks_slot WHERE realm_id = %(realm)s AND released_at IS NULL)
FROM start CROSS JOIN realm LEFT JOIN taken ON true
"""
_THROTTLED = """
UPDATE rowtide.quickbooks_realm SET
    pace = CASE WHEN paused_until > to_timestamp(%(now)s) THEN pace ELSE greatest(%(least)s, %(slower)s * least(1, pace
        + greatest(0, %(now)s - extract(epoch FROM coalesce(pace_at, '-infinity'))::float8) / 60 * %(faster)s)) END,
    pace_at = CASE WHEN paused_until > to_timestamp(%(now)s) THEN pace_at ELSE to_timestamp(%(now)s + %(rest)s) END,
    paused_until = greatest(paused_until, to_timestamp(%(now)s + %(rest)s)), updated_at = to_timestamp(%(now)s)
WHERE realm_id = %(realm)s
"""
_SETTLE = "UPDATE rowtide.quickbooks_slot SET released_at = to_timestamp(%(now)s) WHERE id = %(slot)s"
_AUDIT = """
INSERT INTO rowtide.quickbooks_audit (at, instance, realm_id, record, operation, requestid, http_status, fault_code,
    duration_ms, intuit_tid, outcome, request, response)
VALUES (to_timestamp(%(at)s), %(instance)s, %(realm)s, %(record)s, %(operation)s, %(requestid)s, %(status)s, %(code)s,
    %(duration)s, %(tid)s, %(outcome)s, %(request)s, %(response)s)
"""


class Pace:
    """Hands out slots; thread-safe. Waits by the clock it is given, and knows no other time.

    Args:
        connections: to the state database.
        realm_id: whose limits.
        limits: what is permitted.
        clock: of the waits. The clocks of several hosts have to agree, as NTP has them do.
    """

    def __init__(self, connections: Connections, realm_id: str, limits: Limits, clock: Clock) -> None:
        self._connections = connections
        self._realm_id = realm_id
        self._limits = limits
        self._clock = clock
        self._alive: Connection | None = None
        self._holder = 0
        self._lock = threading.Lock()

    def take(self, kind: Kind, stop: threading.Event | None = None) -> Slot | Held:
        """Wait for the next turn; what comes back as a Slot must be settled. Ends early when `stop` is set."""
        for asked in count():
            slot, wait = self._ask(kind, asked)
            if isinstance(slot, Held):
                return slot
            try:
                self._clock.sleep(wait, stop)
                held = self._held_meanwhile(wait) if slot is not None else None
                if stop is not None and stop.is_set():
                    held = Held(Verdict.THROTTLED, "stopped before its turn")
            except BaseException:
                self._give_back(slot)
                raise
            if held is not None:
                self._give_back(slot)
                return held
            if slot is not None:
                return slot
        raise AssertionError

    def _ask(self, kind: Kind, asked: int) -> tuple[Slot | Held | None, float]:
        """A slot and the seconds until its moment; or None and the seconds until asking again makes sense."""
        holder, now = self._held_by(), self._clock.now()
        with self._connections.use() as connection:
            rows = _last(connection, _TAKE, {**self._parameters(now), "kind": kind, "holder": holder})
        if not rows:
            return Held(Verdict.BLOCKED, "QuickBooks not connected"), 0.0
        slot_id, start, state, paused, reason, until, first = rows[0]
        if slot_id is not None:
            # A hair later than the moment: microseconds are lost on the way through the database.
            return Slot(slot_id, kind, start), max(0.0, start - now + 0.001) if start > now else 0.0
        # Somebody's answer has to come first, and none comes before the first of them is sent.
        poll = min(_LONGEST_POLL, _POLL * 1.5**asked) * random.uniform(0.7, 1.3)  # noqa: S311 - not all in step
        return _held(state, paused, reason, until, now), max(poll, (first or now) - now)

    def _parameters(self, now: float) -> dict[str, Any]:
        limits = self._limits
        return {
            "realm": self._realm_id,
            "now": now,
            "family": _HOLDERS + 1,
            "holders": _HOLDERS,
            "longest": LONGEST_REQUEST,
            "faster": FASTER,
            "minute": limits.requests_per_minute,
            "second": limits.requests_per_second,
            "batches": limits.batches_per_minute,
            "concurrency": limits.concurrency,
        }

    def _held_meanwhile(self, waited: float) -> Held | None:
        """Whether the company was paused while the turn was waited for."""
        if waited <= 0:
            return None
        with self._connections.use() as connection:
            row = connection.execute(
                "SELECT state, paused, reason, extract(epoch FROM paused_until)::float8 FROM rowtide.quickbooks_realm"
                " WHERE realm_id = %s",
                [self._realm_id],
            ).fetchone()
        if row is None:
            return Held(Verdict.BLOCKED, "QuickBooks not connected")
        state, paused, reason, until = row
        return _held(state, paused, reason, until, self._clock.now())

    def _give_back(self, slot: Slot | None) -> None:
        """Nothing was sent with it: it never counted."""
        if slot is not None:
            with self._connections.use() as connection:
                connection.execute("DELETE FROM rowtide.quickbooks_slot WHERE id = %s", [slot.id])

    def settle(self, slot: Slot, entry: Entry) -> None:
        """The answer is there, or will not come: counts a window more; the request is told in the audit."""
        with self._connections.use() as connection:
            _last(
                connection,
                f"{_SETTLE};{_AUDIT}",
                {**_audited(entry), "now": self._clock.now(), "slot": slot.id},
            )

    def throttled(self) -> float:
        """QuickBooks has refused for the rate: the whole company rests. Returns for how many seconds."""
        with self._connections.use() as connection:
            connection.execute(
                _THROTTLED,
                {
                    "realm": self._realm_id,
                    "now": self._clock.now(),
                    "rest": REST_SECONDS,
                    "least": LEAST_PACE,
                    "slower": SLOWER,
                    "faster": FASTER,
                },
            )
        return REST_SECONDS

    def rest(self, reason: str) -> float:
        """Let the whole company rest for another reason than the rate. Returns for how many seconds."""
        now = self._clock.now()
        with self._connections.use() as connection:
            connection.execute(
                "UPDATE rowtide.quickbooks_realm SET paused_until = greatest(paused_until, to_timestamp(%s)), reason = %s,"
                " updated_at = to_timestamp(%s) WHERE realm_id = %s",
                [now + REST_SECONDS, reason, now, self._realm_id],
            )
        return REST_SECONDS

    # --- who lives ---

    def _held_by(self) -> int:
        """The number under which this process' slots are known, locked for as long as it lives."""
        with self._lock:
            if self._alive is None or self._alive.closed:
                self._alive = connect(self._connections.dsn)
                self._holder = _lock_number(self._alive)
            return self._holder

    def close(self) -> None:
        """Be known as gone: slots that were not settled count from now on as answered."""
        with self._lock:
            if self._alive is not None:
                self._alive.close()


def _lock_number(connection: Connection) -> int:
    while True:
        number = random.SystemRandom().randrange(1, 2**31)
        if connection.execute("SELECT pg_try_advisory_lock(%s, %s)", [_HOLDERS, number]).fetchone() == (True,):
            return number


def _held(state: str, paused: bool, reason: str | None, until: float | None, now: float) -> Held | None:
    if state != "connected" or paused:
        word = "paused" if state == "connected" else state.replace("_", " ")
        return Held(Verdict.BLOCKED, f"{word}: {reason}" if reason else word)
    if until is not None and until > now:
        return Held(Verdict.THROTTLED, "the company rests after a refusal", until - now)
    return None


def record(connection: Connection, entry: Entry) -> None:
    """Tell a request in the audit that took no slot: those for tokens."""
    connection.execute(_AUDIT, _audited(entry))


def _audited(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "instance": entry.instance,
        "realm": entry.realm_id,
        "record": entry.record,
        "operation": entry.operation,
        "requestid": entry.requestid,
        "status": entry.http_status,
        "code": entry.fault_code,
        "duration": entry.duration * 1000,
        "tid": entry.tid,
        "outcome": entry.outcome,
        "request": Jsonb(dict(entry.request)),
        "response": Jsonb(dict(entry.response)),
    }


def _last(connection: Connection, statements: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of the last of several statements, sent as one."""
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(statements, parameters)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []
