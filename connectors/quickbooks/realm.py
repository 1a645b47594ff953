"""The connected company (a *realm*): which one, in what state, and how it is paused.

One company at a time belongs to a state database. `connected` is the only state in which anything is sent; `reconnect_needed`
waits for a person's consent, `stopped` for a person's look, and a company that was `disconnected` is only remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from requests.adapters import BaseAdapter

from connectors.quickbooks.clock import Clock, SystemClock
from connectors.quickbooks.database import Connection, Connections
from connectors.quickbooks.errors import NotConnectedError, OtherCompanyError
from connectors.quickbooks.options import Options
from connectors.quickbooks.session import Wire

if TYPE_CHECKING:
    from connectors.quickbooks.client import QuickBooksClient

CONNECTED, RECONNECT_NEEDED, STOPPED, DISCONNECTED = "connected", "reconnect_needed", "stopped", "disconnected"
OAUTH_SECONDS = 15.0  # others wait meanwhile
_COLUMNS = "realm_id, environment, state, reason, paused, paused_until, pace, adopted_at, capabilities, connected_at"


@dataclass(frozen=True)
class Realm:
    """A row of `rowtide.quickbooks_realm`.

    Args:
        paused: by a person, until a person resumes it.
        paused_until: by QuickBooks' own refusal of too many requests.
        pace: part of the permitted rate that is used as of the last refusal.
    """

    realm_id: str
    environment: str
    state: str
    reason: str | None
    paused: bool
    paused_until: datetime | None
    pace: float
    adopted_at: datetime | None
    capabilities: Mapping[str, Any]
    connected_at: datetime

    def waits(self, now: float) -> str | None:
        """Why nothing is sent at this moment; None where it is."""
        if self.state != CONNECTED:
            return f"{self.state.replace('_', ' ')}{f': {self.reason}' if self.reason else ''}"
        if self.paused:
            return f"paused{f': {self.reason}' if self.reason else ''}"
        if self.paused_until is not None and self.paused_until.timestamp() > now:
            return "paused: too many requests"
        return None


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as the tables have them."""
    return datetime.fromtimestamp(seconds, UTC)


def current_realm(connection: Connection) -> Realm | None:
    """The company that is connected, stopped or has to be connected again; None where there is none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM rowtide.quickbooks_realm WHERE state <> %s", [DISCONNECTED]
    ).fetchone()
    return None if row is None else Realm(*row)


def open_wire(options: Options, seconds: float, adapter: BaseAdapter | None = None) -> Wire:
    """The way out that the settings permit; an answer is waited for so many seconds."""
    simulator = options.environment == "simulator"
    return Wire(seconds, simulator=simulator, simulator_host=options.simulator_host, adapter=adapter)


def open_client(
    dsn: str,
    options: Options,
    clock: Clock | None = None,
    instance: str | None = None,
    *,
    adapter: BaseAdapter | None = None,
) -> QuickBooksClient:
    """A client for the connected company.

    Args:
        dsn: of the state database.
        options: as the settings say.
        clock: the system's where None.
        instance: on whose behalf; goes to the audit.
        adapter: what carries requests instead of sockets; for simulated time.

    Raises:
        NotConnectedError: no company is connected.
        OtherCompanyError: the company was connected in another environment than the settings name.
        KeyFileError: the tokens' key is absent or unfit.
    """
    from connectors.quickbooks.client import QuickBooksClient  # noqa: PLC0415 - it uses this module
    from connectors.quickbooks.keys import read_key  # noqa: PLC0415 - as above
    from connectors.quickbooks.oauth import OAuth  # noqa: PLC0415
    from connectors.quickbooks.sending import Sender  # noqa: PLC0415
    from connectors.quickbooks.tokens import Tokens  # noqa: PLC0415

    clock = clock or SystemClock()
    connections = Connections(dsn)
    try:
        with connections.use() as connection:
            realm = require_realm(connection)
        check_environment(realm, options)
        oauth = OAuth(options, open_wire(options, min(options.timeout_seconds, OAUTH_SECONDS), adapter))
        tokens = Tokens(connections, realm.realm_id, read_key(options.key_file), oauth, clock)
        wire = open_wire(options, options.timeout_seconds, adapter)
        sender = Sender(connections, realm.realm_id, options, wire, tokens, clock, instance)
        return QuickBooksClient(sender, tokens, clock)
    except BaseException:
        connections.close()
        raise


def require_realm(connection: Connection) -> Realm:
    """The company as `current_realm` finds it. Raises NotConnectedError."""
    realm = current_realm(connection)
    if realm is None:
        raise NotConnectedError
    return realm


def check_environment(realm: Realm, options: Options) -> None:
    """Refuse settings that name another environment than the company's. Raises OtherCompanyError."""
    if realm.environment != options.environment:
        raise OtherCompanyError(
            f"The connected company {realm.realm_id} is one of “{realm.environment}”, and the settings say "
            f"“{options.environment}”.",
            hint=f'Set quickbooks.environment = "{realm.environment}", or type `rowtide quickbooks disconnect`.',
        )


def check_company(connection: Connection, realm_id: str) -> None:
    """Refuse a company other than the one whose customers are known. Raises OtherCompanyError saying what to do."""
    if connection.execute("SELECT to_regclass('rowtide.customer') IS NULL").fetchone() == (True,):
        return
    row = connection.execute(
        "SELECT realm_id, count(*) FROM rowtide.customer WHERE realm_id <> %s AND quickbooks_id IS NOT NULL"
        " GROUP BY realm_id ORDER BY 2 DESC LIMIT 1",
        [realm_id],
    ).fetchone()
    if row is not None:
        raise OtherCompanyError(
            f"{row[1]} customers of the company {row[0]} are known here, and this is the company {realm_id}: it would get"
            " all of them once more.",
            hint=f"Connect the company {row[0]}; or give another company a state database of its own (state.dsn or --state).",
        )


def set_connected(connection: Connection, realm_id: str, environment: str, now: float) -> None:
    """A person has given consent: this is the company now, and nothing of an old refusal or pause holds."""
    connection.execute(
        "UPDATE rowtide.quickbooks_realm SET state = %s, updated_at = %s WHERE realm_id <> %s AND state <> %s",
        [DISCONNECTED, moment(now), realm_id, DISCONNECTED],
    )
    connection.execute(
        "INSERT INTO rowtide.quickbooks_realm (realm_id, environment, state, connected_at, updated_at)"
        " VALUES (%(realm)s, %(environment)s, %(state)s, %(now)s, %(now)s) ON CONFLICT (realm_id) DO UPDATE SET"
        " environment = excluded.environment, state = excluded.state, reason = NULL, paused = false,"
        " paused_until = NULL, capabilities = '{}', connected_at = excluded.connected_at, updated_at = excluded.updated_at",
        {"realm": realm_id, "environment": environment, "state": CONNECTED, "now": moment(now)},
    )


def set_state(connection: Connection, realm_id: str, state: str, reason: str | None, now: float) -> bool:
    """Note that the company is stopped, has to be connected again, or is disconnected. Tells whether that is new."""
    return (
        connection.execute(
            "UPDATE rowtide.quickbooks_realm SET state = %s, reason = %s, updated_at = %s"
            " WHERE realm_id = %s AND state NOT IN (%s, %s)",
            [state, reason, moment(now), realm_id, state, DISCONNECTED],
        ).rowcount
        > 0
    )


def pause(connection: Connection, realm_id: str, reason: str | None, now: float) -> None:
    """Send nothing until somebody resumes it."""
    connection.execute(
        "UPDATE rowtide.quickbooks_realm SET paused = true, reason = %s, updated_at = %s WHERE realm_id = %s",
        [reason, moment(now), realm_id],
    )


def resume(connection: Connection, realm_id: str, now: float) -> None:
    """Send again: ends a person's pause, and a stop, whose cause a person has looked at."""
    connection.execute(
        "UPDATE rowtide.quickbooks_realm SET paused = false, reason = CASE WHEN state = %(again)s THEN reason END,"
        " state = CASE WHEN state = %(stopped)s THEN %(connected)s ELSE state END, updated_at = %(now)s"
        " WHERE realm_id = %(realm)s",
        {
            "again": RECONNECT_NEEDED,
            "stopped": STOPPED,
            "connected": CONNECTED,
            "now": moment(now),
            "realm": realm_id,
        },
    )


def set_capabilities(connection: Connection, realm_id: str, found: Mapping[str, Any], now: float) -> None:
    """Keep what was found out about the company, beside what is kept already."""
    from psycopg.types.json import Jsonb  # noqa: PLC0415

    connection.execute(
        "UPDATE rowtide.quickbooks_realm SET capabilities = capabilities || %s, updated_at = %s WHERE realm_id = %s",
        [Jsonb(dict(found)), moment(now), realm_id],
    )


def set_adopted(connection: Connection, realm_id: str, now: float) -> None:
    """Note that what the company held before was looked through."""
    connection.execute(
        "UPDATE rowtide.quickbooks_realm SET adopted_at = %s, updated_at = %s WHERE realm_id = %s",
        [moment(now), moment(now), realm_id],
    )
