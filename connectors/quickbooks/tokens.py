"""The tokens of a company: sealed in the state database, renewed by one process at a time, stored before they are used.

The pair before the present one is kept too. Intuit's refresh token changes about once a day and the former stays good for a while: a
process killed between Intuit's answer and our commit leaves the stored one valid, and one whose answer was lost tries it again.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog

from connectors.failpoints import failpoint
from connectors.quickbooks import realm
from connectors.quickbooks.audit import Entry
from connectors.quickbooks.clock import Clock
from connectors.quickbooks.database import Connection, Connections
from connectors.quickbooks.errors import (
    NotConnectedError,
    QuickBooksBlockedError,
    QuickBooksError,
    QuickBooksUnavailableError,
    ReconnectNeededError,
)
from connectors.quickbooks.keys import Key
from connectors.quickbooks.oauth import GrantRefusedError, OAuth, Pair
from connectors.quickbooks.pace import record

AHEAD_SECONDS = 300.0  # renewed so long before its end
AGAIN_SECONDS = 30.0  # after a renewal ahead of time that failed
LOCK_SECONDS = 30
TEND_SECONDS = 86400.0
WARN_SECONDS = 14 * 86400.0  # before consent is needed again
HARD_LIMIT_SECONDS = 5 * 365.25 * 86400.0  # of a consent, however often it is renewed
WARN_HARD_SECONDS = 60 * 86400.0

_log = structlog.get_logger()


class TokensBusyError(QuickBooksError):
    """Another process renews the tokens and has not finished in time."""

    def __init__(self) -> None:
        super().__init__("another process renews the tokens", hint="It is tried again in a few seconds.")
        self.wait = 5.0


@dataclass(frozen=True)
class Access:
    """The access token in use, and of which generation it is."""

    access: str = field(repr=False)
    generation: int
    expires_at: float


@dataclass(frozen=True)
class _Stored:
    generation: int
    current: tuple[str, str] = field(repr=False)
    previous: tuple[str, str] | None = field(repr=False)
    access_expires_at: float
    refresh_expires_at: float
    consented_at: float

    @property
    def token(self) -> Access:
        return Access(self.current[0], self.generation, self.access_expires_at)


class Tokens:
    """A company's tokens; thread-safe.

    Args:
        connections: to the state database.
        realm_id: whose tokens.
        key: that they are sealed with.
        oauth: where they are renewed.
        clock: by which they expire.
    """

    def __init__(self, connections: Connections, realm_id: str, key: Key, oauth: OAuth, clock: Clock) -> None:
        self._connections = connections
        self._realm_id = realm_id
        self._key = key
        self._oauth = oauth
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Access | None = None
        self._not_before = 0.0

    def current(self) -> Access:
        """The token to send with, renewed ahead of its end.

        Raises:
            ReconnectNeededError: no stored refresh token is accepted.
            TokensBusyError: another process renews them.
            QuickBooksUnavailableError, QuickBooksBlockedError: the old one is over and the renewal fails.
        """
        known, now = self._known, self._clock.now()
        if known is not None and now < known.expires_at - AHEAD_SECONDS:
            return known
        if known is not None and now < min(known.expires_at - 5, self._not_before):
            return known
        try:
            return self._renewed(known.generation if known else 0, ahead=True)
        except (QuickBooksUnavailableError, TokensBusyError):
            known = self._known
            if known is None or now >= known.expires_at - 5:
                raise
            self._not_before = now + AGAIN_SECONDS
            _log.warning("quickbooks.renewal_failed", realm=self._realm_id, expires_in=int(known.expires_at - now))
            return known

    def tend(self) -> None:
        """Renew what was not renewed for a day, so that a company with nothing to push stays connected. Raises as `current`."""
        with self._connections.use() as connection:
            row = connection.execute(
                "SELECT generation, extract(epoch FROM updated_at)::float8 FROM rowtide.quickbooks_token WHERE realm_id = %s",
                [self._realm_id],
            ).fetchone()
        if row is not None and row[1] < self._clock.now() - TEND_SECONDS:
            self._renewed(row[0], ahead=True)

    def renewed(self, refused: Access) -> Access:
        """Another token than the one that QuickBooks refused: newer in the database, or renewed now. Raises as `current`."""
        return self._renewed(refused.generation, ahead=False)

    def _renewed(self, generation: int, *, ahead: bool) -> Access:
        """What is stored where that is newer than a generation and good; else renewed under the lock of the row."""
        with self._lock:
            known = self._known
            if known is not None and known.generation > generation and self._good(known):
                return known
            with self._connections.use() as connection:
                stored = self._stored(connection)
                if known is None:
                    self._known = stored.token  # good to the last second where the renewal fails
                if not (stored.generation > generation and self._good(stored.token)):
                    stored = self._renew(connection, generation, ahead=ahead)
            self._known = stored.token
            return self._known

    def _good(self, token: Access) -> bool:
        return self._clock.now() < token.expires_at - AHEAD_SECONDS

    def _stored(self, connection: Connection, *, lock: bool = False) -> _Stored:
        row = connection.execute(
            "SELECT t.generation, t.sealed, t.access_expires_at, t.refresh_expires_at, t.consented_at, r.state, r.reason"
            " FROM rowtide.quickbooks_token AS t JOIN rowtide.quickbooks_realm AS r USING (realm_id) WHERE t.realm_id = %s"
            + (" FOR UPDATE OF t" if lock else ""),
            [self._realm_id],
        ).fetchone()
        if row is None or row[5] == realm.DISCONNECTED:
            raise QuickBooksBlockedError(NotConnectedError().message, hint=NotConnectedError().hint)
        if row[5] == realm.RECONNECT_NEEDED:
            raise ReconnectNeededError
        return _opened(self._key, self._realm_id, row)

    def _renew(self, connection: Connection, generation: int, *, ahead: bool) -> _Stored:
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_SECONDS}s"])
                stored = self._stored(connection, lock=True)
                if stored.generation > generation and self._good(stored.token):
                    return stored
                found = self._asked(connection, stored)
                if found is not None:
                    stored = self._store(connection, stored, found)
        except psycopg.errors.LockNotAvailable:
            raise TokensBusyError from None
        if found is None:
            self._refused(connection)
            raise ReconnectNeededError
        failpoint("token_stored")
        _log.info("quickbooks.tokens_renewed", realm=self._realm_id, generation=stored.generation, ahead=ahead)
        for line in warnings(stored.refresh_expires_at, stored.consented_at, self._clock.now()):
            _log.warning("quickbooks.consent_ends", realm=self._realm_id, reason=line)
        return stored

    def _asked(self, connection: Connection, stored: _Stored) -> Pair | None:
        """A new pair by the stored refresh token, else by the one before; None where both are refused."""
        tried = [stored.current[1]]
        if stored.previous is not None and stored.previous[1] != stored.current[1]:
            tried.append(stored.previous[1])
        for token in tried:
            started = self._clock.now()
            outcome = "failed"
            try:
                found = self._oauth.refresh(token)
                outcome = "done"
            except GrantRefusedError:
                outcome = "refused"
                continue
            finally:
                self._tell(connection, started, outcome)
            failpoint("token_refreshed")
            return found
        return None

    def _tell(self, connection: Connection, started: float, outcome: str) -> None:
        """In the audit, beside the transaction: it happened whatever becomes of that."""
        del connection
        entry = Entry(started, self._realm_id, "token", outcome, self._clock.now() - started)
        with self._connections.use() as beside:
            record(beside, entry)

    def _store(self, connection: Connection, stored: _Stored, pair: Pair) -> _Stored:
        now = self._clock.now()
        kept = stored.current if stored.current[1] != pair.refresh else stored.previous
        found = _Stored(
            stored.generation + 1,
            (pair.access, pair.refresh),
            kept,
            now + pair.access_seconds,
            now + pair.refresh_seconds,
            stored.consented_at,
        )
        _write(connection, self._key, self._realm_id, found, now)
        return found

    def _refused(self, connection: Connection) -> None:
        reason = "QuickBooks takes the stored tokens no more"
        if realm.set_state(connection, self._realm_id, realm.RECONNECT_NEEDED, reason, self._clock.now()):
            _log.error("quickbooks.reconnect_needed", realm=self._realm_id, hint="rowtide quickbooks connect")


def _opened(key: Key, realm_id: str, row: tuple[Any, ...]) -> _Stored:
    generation, sealed, access_expires, refresh_expires, consented = row[:5]
    document = json.loads(key.open(bytes(sealed), realm_id))
    previous = document.get("previous")
    return _Stored(
        generation,
        (document["current"]["access"], document["current"]["refresh"]),
        (previous["access"], previous["refresh"]) if previous else None,
        access_expires.timestamp(),
        refresh_expires.timestamp(),
        consented.timestamp(),
    )


def _write(connection: Connection, key: Key, realm_id: str, found: _Stored, now: float) -> None:
    document: dict[str, Any] = {"current": {"access": found.current[0], "refresh": found.current[1]}}
    if found.previous is not None:
        document["previous"] = {"access": found.previous[0], "refresh": found.previous[1]}
    connection.execute(
        "INSERT INTO rowtide.quickbooks_token AS t (realm_id, generation, sealed, consented_at, access_expires_at,"
        " refresh_expires_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (realm_id) DO UPDATE SET"
        " generation = greatest(excluded.generation, t.generation + 1), sealed = excluded.sealed,"
        " consented_at = excluded.consented_at, access_expires_at = excluded.access_expires_at,"
        " refresh_expires_at = excluded.refresh_expires_at, updated_at = excluded.updated_at",
        [
            realm_id,
            found.generation,
            key.seal(json.dumps(document).encode(), realm_id),
            realm.moment(found.consented_at),
            realm.moment(found.access_expires_at),
            realm.moment(found.refresh_expires_at),
            realm.moment(now),
        ],
    )


def store_consent(connection: Connection, key: Key, realm_id: str, environment: str, pair: Pair, now: float) -> None:
    """Keep the first pair of a consent, and make its company the connected one; one transaction."""
    with connection.transaction():
        realm.set_connected(connection, realm_id, environment, now)
        found = _Stored(
            1, (pair.access, pair.refresh), None, now + pair.access_seconds, now + pair.refresh_seconds, now
        )
        _write(connection, key, realm_id, found, now)
        connection.execute("DELETE FROM rowtide.quickbooks_token WHERE realm_id <> %s", [realm_id])


def forget(connection: Connection, key: Key | None, realm_id: str, oauth: OAuth, now: float) -> bool:
    """Disconnect: have Intuit revoke the consent, and forget the tokens. Tells whether Intuit was reached.

    The tokens go in any case: whoever disconnects does not want them used.
    """
    row = connection.execute(
        "SELECT generation, sealed, access_expires_at, refresh_expires_at, consented_at FROM rowtide.quickbooks_token"
        " WHERE realm_id = %s",
        [realm_id],
    ).fetchone()
    revoked = False
    if row is not None and key is not None:
        try:
            oauth.revoke(_opened(key, realm_id, row).current[1])
            revoked = True
        except GrantRefusedError:
            revoked = True  # it is good for nothing any more
        except QuickBooksError as error:
            _log.warning("quickbooks.revocation_failed", realm=realm_id, reason=error.message)
    with connection.transaction():
        connection.execute("DELETE FROM rowtide.quickbooks_token WHERE realm_id = %s", [realm_id])
        realm.set_state(connection, realm_id, realm.DISCONNECTED, "disconnected by a person", now)
    return revoked


def warnings(refresh_expires_at: float, consented_at: float, now: float) -> list[str]:
    """What is to be said ahead of the two ends of a consent."""
    lines = []
    left = refresh_expires_at - now
    if left < WARN_SECONDS:
        lines.append(f"the refresh token ends in {max(0, int(left // 86400))} days unless it is renewed before")
    left = consented_at + HARD_LIMIT_SECONDS - now
    if left < WARN_HARD_SECONDS:
        lines.append(
            f"the consent ends for good in {max(0, int(left // 86400))} days: type `rowtide quickbooks connect` before"
        )
    return lines


__all__ = ["Access", "Tokens", "TokensBusyError", "forget", "store_consent", "warnings"]
