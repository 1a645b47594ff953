"""The tokens that open the API: made and shown once, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from pydantic import SecretStr

from connectors.errors import RowtideError
from connectors.state import connect

PREFIX = "rowtide_"  # lets scanners of repositories and logs find one that was leaked
_FRESH = 1.0  # seconds that hashes read are used: a revoked token opens nothing after that
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Connection = psycopg.Connection[tuple[Any, ...]]


class TokenError(RowtideError):
    """A token's name cannot be used, or names none."""


def digest(token: bytes) -> bytes:
    """What is kept of a token. It is random and long, so a plain hash is enough: there is nothing to guess from."""
    return hashlib.sha256(token).digest()


def make(connection: Connection, name: str) -> str:
    """A new token under a name, in place of the one that had it. It can be shown now and never again."""
    if not _NAME.fullmatch(name):
        raise TokenError(
            f"“{name}” cannot name a token.",
            hint="Write up to 64 letters, digits, _, . and -, a letter or digit first.",
        )
    token = PREFIX + secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO rowtide.api_token (name, hash) VALUES (%s, %s)"
        " ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, made_at = now()",
        [name, digest(token.encode())],
    )
    return token


def made(connection: Connection) -> list[dict[str, Any]]:
    """The tokens there are: name and moment, nothing of themselves."""
    rows = connection.execute("SELECT name, made_at FROM rowtide.api_token ORDER BY name").fetchall()
    return [{"name": name, "made_at": at} for name, at in rows]


def revoke(connection: Connection, name: str) -> None:
    """Take a token away. Raises TokenError where none has the name."""
    found = connection.execute("DELETE FROM rowtide.api_token WHERE name = %s", [name])
    if found.rowcount == 0:
        raise TokenError(f"There is no token “{name}”.", hint="See `rowtide api tokens`.")


class Keys:
    """Tells whether a token opens the API.

    Args:
        dsn: of the state database.
        given: the token of the settings, where there is one.
        clock: seconds that only rise.
    """

    def __init__(self, dsn: str, given: SecretStr | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._dsn = dsn
        self._given = [digest(given.get_secret_value().encode())] if given is not None else []
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._read: list[bytes] = []

    def opens(self, token: bytes) -> bool:
        """Whether the token is one of those there are. Raises StateError where that cannot be told now."""
        presented = digest(token)
        if _is_among(presented, self._given):
            return True
        return _is_among(presented, self._hashes())

    def _hashes(self) -> list[bytes]:
        """Read anew once a second at most, however many ask."""
        with self._lock:
            now = self._clock()
            if self._read_at is None or now - self._read_at >= _FRESH:
                with connect(self._dsn) as connection:
                    rows = connection.execute("SELECT hash FROM rowtide.api_token").fetchall()
                self._read = [bytes(row[0]) for row in rows]
                self._read_at = now
            return self._read


def _is_among(presented: bytes, known: list[bytes]) -> bool:
    """Compared with each, without an end at the first that fits."""
    found = False
    for one in known:
        found |= hmac.compare_digest(presented, one)
    return found
