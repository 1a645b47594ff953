"""OAuth of the simulator: codes, access tokens, refresh tokens that roll, and their ends.

A connection of an app to a company is a grant. Its refresh token is exchanged for another about every day; the one
before stays usable until the new one was used, so that a client which lost the answer is not cut off. How long a
superseded one really stays usable is not documented: `OAuthRules.previous` chooses.
"""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DAY = 86_400.0


@dataclass(frozen=True)
class OAuthRules:
    """How tokens live; seconds.

    Attributes:
        rotate_after: a refresh token at least this old is exchanged at a refresh; 0 exchanges at every refresh.
        refresh_life: from its issue; the recorded value of `x_refresh_token_expires_in`.
        hard_limit: from the connection; no refresh token outlives it.
        previous: a superseded refresh token is usable until its successor was used (`until_used`), for
            `previous_grace` seconds whatever happens (`grace`), or not at all (`never`).
        describe: whether `invalid_grant` comes with a description.
    """

    access_life: float = 3600.0
    rotate_after: float = DAY
    refresh_life: float = 8_726_400.0
    hard_limit: float = 5 * 365 * DAY
    previous: Literal["until_used", "grace", "never"] = "until_used"
    previous_grace: float = DAY
    code_life: float = 600.0
    describe: bool = True


class OAuthError(Exception):
    """A request for tokens is refused.

    Args:
        error: OAuth's word for it.
        description: said beside it where `OAuthRules.describe`.
    """

    def __init__(self, error: str, description: str = "", *, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status


@dataclass
class Grant:
    """One connection of an app to a company."""

    realm: str
    app: str
    begun: float
    refresh_token: str = ""
    issued: float = 0.0
    previous: dict[str, float] = field(default_factory=dict)  # superseded token -> when
    revoked: bool = False


@dataclass(frozen=True)
class Access:
    """What an access token allows."""

    grant: Grant
    until: float


@dataclass(frozen=True)
class _Code:
    grant: Grant
    redirect: str
    until: float


class OAuth:
    """The authorization server. Not thread-safe: the simulator holds its lock.

    Args:
        rules: how tokens live.
        apps: client id -> client secret.
    """

    def __init__(self, rules: OAuthRules, apps: Mapping[str, str], *, seed: int = 0) -> None:
        self.rules = rules
        self.apps = dict(apps)
        self.grants: list[Grant] = []
        self.refreshes = 0
        self.rotations = 0
        self._random = random.Random(seed)  # noqa: S311 - nothing real is kept secret by it
        self._codes: dict[str, _Code] = {}
        self._access: dict[str, Access] = {}

    def authorize(self, app: str, realm: str, redirect: str, now: float) -> str:
        """A person consents: a code for the app, good once."""
        code = self._word("AB11", 46)
        self._codes[code] = _Code(Grant(realm, app, now), redirect, now + self.rules.code_life)
        return code

    def app_of(self, authorization: str) -> str:
        """The app that a Basic header names. Raises OAuthError."""
        scheme, _, given = authorization.partition(" ")
        try:
            app, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            app = secret = ""
        if scheme.lower() != "basic" or self.apps.get(app) != secret:
            raise OAuthError("invalid_client", status=401)
        return app

    def token(self, app: str, form: Mapping[str, str], now: float) -> dict[str, object]:
        """What the token endpoint answers. Raises OAuthError."""
        kind = form.get("grant_type")
        if kind == "authorization_code":
            return self._issue(self._redeem(app, form, now), now)
        if kind == "refresh_token":
            return self._issue(self._refreshed(app, form.get("refresh_token", ""), now), now)
        raise OAuthError("unsupported_grant_type", "Unsupported grant type")

    def connect(self, app: str, realm: str, now: float) -> dict[str, object]:
        """Tokens without a browser, for tests."""
        grant = Grant(realm, app, now)
        self.grants.append(grant)
        self._roll(grant, now)
        return self._issue(grant, now)

    def access(self, token: str, now: float) -> Access | None:
        """What the token allows; None where it is unknown, expired or revoked."""
        found = self._access.get(token)
        return found if found and now < found.until and not found.grant.revoked else None

    def revoke(self, token: str) -> None:
        """End the connection that the token belongs to. Raises OAuthError where there is none."""
        found = self._access[token].grant if token in self._access else self._grant_of(token)
        if found is None:
            raise OAuthError("invalid_request", "Token not found")
        found.revoked = True

    def revoke_all(self) -> None:
        """A person disconnects the app."""
        for grant in self.grants:
            grant.revoked = True

    def expire_access(self, now: float) -> None:
        """Every access token ends now."""
        self._access = {token: Access(access.grant, min(access.until, now)) for token, access in self._access.items()}

    def expire_refresh(self, now: float) -> None:
        """Every refresh token has been left unused for too long."""
        for grant in self.grants:
            grant.issued = now - self.rules.refresh_life
            grant.previous = {}

    def _redeem(self, app: str, form: Mapping[str, str], now: float) -> Grant:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.grant.app != app or now >= code.until or form.get("redirect_uri") != code.redirect:
            raise OAuthError("invalid_grant", "Incorrect or invalid authorization code")
        self.grants.append(code.grant)
        code.grant.begun = now
        self._roll(code.grant, now)
        return code.grant

    def _refreshed(self, app: str, token: str, now: float) -> Grant:
        grant = self._grant_of(token)
        if grant is None or grant.app != app or grant.revoked or not self._usable(grant, token, now):
            raise OAuthError("invalid_grant", "Incorrect or invalid refresh token")
        self.refreshes += 1
        if token == grant.refresh_token:
            if self.rules.previous == "until_used":
                grant.previous = {}
            if now - grant.issued >= self.rules.rotate_after:
                self._roll(grant, now)
                self.rotations += 1
        return grant

    def _usable(self, grant: Grant, token: str, now: float) -> bool:
        if now >= grant.begun + self.rules.hard_limit:
            return False
        if token == grant.refresh_token:
            return now < grant.issued + self.rules.refresh_life
        if self.rules.previous == "never":
            return False
        return self.rules.previous == "until_used" or now < grant.previous[token] + self.rules.previous_grace

    def _roll(self, grant: Grant, now: float) -> None:
        if grant.refresh_token:
            grant.previous[grant.refresh_token] = now
        grant.refresh_token = self._word("AB11", 46)
        grant.issued = now

    def _grant_of(self, token: str) -> Grant | None:
        return next((g for g in self.grants if token and (token == g.refresh_token or token in g.previous)), None)

    def _issue(self, grant: Grant, now: float) -> dict[str, object]:
        token = self._word("eyJlbmMi", 120)
        self._access[token] = Access(grant, now + self.rules.access_life)
        life = min(self.rules.refresh_life - (now - grant.issued), grant.begun + self.rules.hard_limit - now)
        return {
            "token_type": "bearer",
            "access_token": token,
            "expires_in": int(self.rules.access_life),
            "refresh_token": grant.refresh_token,
            "x_refresh_token_expires_in": int(life),
        }

    def _word(self, begin: str, length: int) -> str:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return begin + "".join(self._random.choices(letters, k=length))
