"""Connecting a company: a person consents in a browser, which comes back to this machine, or whose address is pasted."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from connectors.errors import RowtideError
from connectors.quickbooks import keys, realm, tokens
from connectors.quickbooks.audit import kept_id
from connectors.quickbooks.clock import Clock
from connectors.quickbooks.database import Connection
from connectors.quickbooks.errors import QuickBooksError
from connectors.quickbooks.keys import Key
from connectors.quickbooks.oauth import GrantRefusedError, OAuth
from connectors.quickbooks.options import Options
from connectors.state import connect

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Rowtide</title>
<body style="font-family:system-ui,sans-serif;max-width:36rem;margin:4rem auto"><h1>{}</h1><p>{}</p></body></html>"""


class ConsentError(RowtideError):
    """What the browser brought is no consent to this connection."""


class StrangerError(ConsentError):
    """It was not brought by a browser that was sent from here."""


@dataclass(frozen=True)
class Consent:
    """What the browser brings: a code good for a few minutes, and the company that was chosen."""

    code: str = field(repr=False)
    realm_id: str


def authorization(options: Options) -> OAuth:
    """Where consent is asked for and redeemed."""
    return OAuth(options, realm.open_wire(options, realm.OAUTH_SECONDS))


def new_state() -> str:
    """A word that only the browser sent from here can bring back."""
    return secrets.token_urlsafe(24)


def consent_of(address: str, state: str | None) -> Consent:
    """What the address, or its query, that the browser was sent back to says. Raises ConsentError.

    Args:
        address: whole, or what stands after its question mark.
        state: the word that was sent along; None where this process did not send the browser.
    """
    query = parse_qs(urlsplit(address).query if "?" in address else address)
    told = {name: values[0] for name, values in query.items()}
    if state is not None and not hmac.compare_digest(told.get("state", "").encode(), state.encode()):
        raise StrangerError(
            "The answer does not belong to this attempt to connect (its state is another).",
            hint="Use the address that was printed last, and type `rowtide quickbooks connect` again.",
        )
    if told.get("error"):
        raise ConsentError("Consent was not given.", hint="Type `rowtide quickbooks connect` to try again.")
    code, realm_id = told.get("code", ""), kept_id(told.get("realmId"))
    if not code or realm_id is None:
        raise ConsentError(
            "There is no code, or no company, in that answer.",
            hint="Paste the whole address that the browser ended at: it has code=…, state=… and realmId=… in it.",
        )
    return Consent(code, realm_id)


class Waiting:
    """The answer of a browser, once it comes."""

    def __init__(self, state: str, path: str) -> None:
        self._state = state
        self._path = path
        self._came = threading.Event()
        self._found: Consent | ConsentError | None = None

    def take(self, target: str) -> tuple[int, str, str]:
        """A request for this address has come: (HTTP status, headline, text) of what the browser shows."""
        if urlsplit(target).path != self._path:
            return 404, "Nothing is here", "This address is for the browser that gives consent."
        try:
            self._found = consent_of(target, self._state)
        except ConsentError as error:
            if isinstance(error, StrangerError) or "error" not in parse_qs(urlsplit(target).query):
                return 400, "This was not the answer that is waited for", error.message
            self._found = error
        self._came.set()
        if isinstance(self._found, ConsentError):
            return 200, "Not connected", self._found.message
        return 200, "Consent received", "You can close this window; Rowtide goes on in the terminal."

    def result(self, seconds: float) -> Consent:
        """The consent. Raises ConsentError where it was refused or did not come in time."""
        if not self._came.wait(seconds):
            raise ConsentError(
                f"No answer of a browser came within {seconds:.0f} seconds.",
                hint="Where the browser is on another machine, type `rowtide quickbooks connect --paste`.",
            )
        if isinstance(self._found, ConsentError):
            raise self._found
        assert self._found is not None  # noqa: S101 - it is set before the event
        return self._found


@contextmanager
def listening(options: Options, state: str) -> Iterator[Waiting]:
    """Wait for the browser on loopback. Raises ConsentError where the port is taken."""
    waiting = Waiting(state, urlsplit(options.redirect).path or "/")

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            status, headline, text = waiting.take(self.path)
            body = _PAGE.format(headline, text).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: the address has the code in it."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", options.redirect_port), Handler)
    except OSError as error:
        raise ConsentError(
            f"Port {options.redirect_port}, to which the browser comes back, cannot be used: {error.strerror}.",
            hint="Set quickbooks.redirect_port to another that the app has at Intuit, or use --paste.",
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield waiting
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def ready_key(options: Options, agree: Callable[[Path], bool]) -> Key:
    """The key of the tokens; made where it is absent and `agree` says so. Raises KeyFileError."""
    place = keys.key_place(options.key_file)
    if options.key_file is not None and place is not None and not place.exists() and agree(place):
        return keys.make_key(place)
    return keys.read_key(options.key_file)


def redeem(dsn: str, options: Options, key: Key, oauth: OAuth, consent: Consent, clock: Clock) -> None:
    """Exchange the code, and store the tokens before anything is done with them.

    Raises OtherCompanyError before the code is used, ConsentError where it is not accepted.
    """
    with connect(dsn) as connection:
        realm.check_company(connection, consent.realm_id)
        asked = clock.now()
        try:
            pair = oauth.exchange(consent.code, consent.realm_id)
        except GrantRefusedError:
            raise ConsentError(
                "Intuit does not accept the code: it is good once, for a few minutes.",
                hint="Type `rowtide quickbooks connect` again.",
            ) from None
        tokens.store_consent(connection, key, consent.realm_id, options.environment, pair, asked)


def disconnect(connection: Connection, options: Options, found: realm.Realm, clock: Clock) -> bool:
    """Revoke and forget the tokens. Tells whether Intuit was told."""
    try:
        key = keys.read_key(options.key_file)
    except QuickBooksError:
        key = None
    return tokens.forget(connection, key, found.realm_id, authorization(options), clock.now())
