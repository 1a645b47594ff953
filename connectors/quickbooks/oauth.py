"""Consent, renewal and revocation at Intuit, over intuit-oauth.

The library's constructor asks the network for addresses; so it is made when it is first needed, over our own way out, which
bounds each wait and refuses strange hosts. Its errors quote what was received: none of them leaves this module.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from intuitlib.client import AuthClient
from intuitlib.enums import Scopes
from intuitlib.exceptions import AuthClientError

from connectors.quickbooks.errors import (
    AddressRefusedError,
    QuickBooksBlockedError,
    QuickBooksUnavailableError,
)
from connectors.quickbooks.options import Options
from connectors.quickbooks.session import UnansweredError, UnsentError, Wire


@dataclass(frozen=True)
class Pair:
    """What Intuit gives: both tokens and how long they are good for, in seconds."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_seconds: float
    refresh_seconds: float


class GrantRefusedError(Exception):
    """The code or the refresh token is not accepted (`invalid_grant`)."""


class _Client(AuthClient):  # type: ignore[misc]
    """intuit-oauth with our way out."""

    def __init__(self, wire: Wire, *arguments: Any, **options: Any) -> None:
        self.wire = wire
        super().__init__(*arguments, **options)

    def request(self, method: str, url: str, headers: Any = None, data: Any = None, **_: Any) -> requests.Response:
        """As requests' own, within time and to known hosts. Raises what `Wire.send` raises."""
        body = data.encode() if isinstance(data, str) else None
        return self.wire.send(method, url, headers=headers or {}, data=body)


class OAuth:
    """Talks to Intuit's authorization server; thread-safe.

    Every method raises QuickBooksUnavailableError where no usable answer came, QuickBooksBlockedError where the app's own id and
    secret are refused, GrantRefusedError where the code or token is.
    """

    def __init__(self, options: Options, wire: Wire) -> None:
        self._options = options
        self._wire = wire
        self._lock = threading.Lock()
        self._known: Mapping[str, str] | None = None

    def address(self, state: str) -> str:
        """Where the browser goes to give consent."""
        client = self._client()
        url: str = client.get_authorization_url([Scopes.ACCOUNTING], state_token=state)
        self._wire.check(url.partition("?")[0])
        return url

    def exchange(self, code: str, realm_id: str) -> Pair:
        """The first pair for the code that the browser brought."""
        client = self._client()
        _guarded("the code of the consent", lambda: client.get_bearer_token(code, realm_id=realm_id))
        return _pair(client)

    def refresh(self, token: str) -> Pair:
        """The next pair."""
        client = self._client()
        _guarded("the renewal of the tokens", lambda: client.refresh(refresh_token=token))
        return _pair(client)

    def revoke(self, token: str) -> None:
        """Have Intuit forget the consent."""
        client = self._client()
        _guarded("the revocation", lambda: client.revoke(token=token))

    def _client(self) -> _Client:
        """One for one request: what it keeps of tokens goes with it. The addresses are asked for once."""
        options = self._options
        if not options.client_id or not options.client_secret:
            raise QuickBooksBlockedError(
                "The app's id or secret at Intuit is not set.",
                hint="Set quickbooks.client_id and quickbooks.client_secret; docs/quickbooks.md tells where they come from.",
            )
        with self._lock:
            wire: Any = self._wire if self._known is None else _Remembered(self._wire, self._known)
            made: list[_Client] = []

            def make() -> None:
                made.append(
                    _Client(wire, options.client_id, options.client_secret, options.redirect, options.discovery)
                )

            _guarded("the addresses to ask for consent at", make)
            client = made[0]
            client.wire = self._wire
            self._known = {
                "authorization_endpoint": client.auth_endpoint,
                "token_endpoint": client.token_endpoint,
                "revocation_endpoint": client.revoke_endpoint,
                "issuer": client.issuer_uri,
                "jwks_uri": client.jwks_uri,
                "userinfo_endpoint": client.user_info_url,
            }
        return client


class _Remembered:
    """Answers the constructor's question for addresses from what is known already."""

    def __init__(self, wire: Wire, known: Mapping[str, str]) -> None:
        self.simulator = wire.simulator
        self._known = known

    def send(self, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response._content = json.dumps(dict(self._known)).encode()  # noqa: SLF001 - an answer without a network
        return response


def _guarded(what: str, ask: Any) -> None:
    """Run a call of the library and say what went wrong without its words."""
    try:
        ask()
    except AuthClientError as error:
        status, word = int(error.status_code), _word(error.content)
    except AddressRefusedError:
        raise
    except UnsentError:
        raise QuickBooksUnavailableError(f"Intuit could not be reached for {what}.") from None
    except (UnansweredError, ValueError, KeyError, TypeError, AttributeError):
        raise QuickBooksUnavailableError(f"Intuit gave no usable answer to {what}.") from None
    else:
        return
    if status == 400 and word == "invalid_grant":
        raise GrantRefusedError from None
    if word in ("invalid_client", "unauthorized_client") or status == 401:
        raise QuickBooksBlockedError(
            "Intuit does not know the app's id and secret.",
            hint="Correct quickbooks.client_id and quickbooks.client_secret; keys of development are good for the sandbox only.",
        ) from None
    if status < 500 and status not in (403, 408, 429) and word:
        raise QuickBooksBlockedError(f"Intuit refused {what} (HTTP {status}, {word}).") from None
    raise QuickBooksUnavailableError(f"Intuit gave no usable answer to {what} (HTTP {status}).") from None


_WORDS = frozenset(
    {
        "invalid_grant",
        "invalid_client",
        "unauthorized_client",
        "invalid_request",
        "invalid_scope",
        "unsupported_grant_type",
    }
)


def _word(content: Any) -> str:
    """OAuth's word for what is wrong, if it is one of its words."""
    try:
        told = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return told if told in _WORDS else ""


def _pair(client: _Client) -> Pair:
    access, refresh = client.access_token, client.refresh_token
    try:
        seconds = float(client.expires_in), float(client.x_refresh_token_expires_in)
    except (TypeError, ValueError):
        seconds = -1.0, -1.0
    if not (isinstance(access, str) and isinstance(refresh, str) and access and refresh) or min(seconds) <= 0:
        raise QuickBooksUnavailableError(
            "Intuit's answer has not both tokens and how long they are good for."
        ) from None
    return Pair(access, refresh, *seconds)
