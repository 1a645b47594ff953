"""A company of the simulator: connected without a browser, on a clock that jumps over every wait."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from connectors.quickbooks.keys import Key
from connectors.quickbooks.oauth import Pair
from connectors.quickbooks.simulator import Simulator
from connectors.quickbooks.simulator.simulator import CLIENT_ID
from connectors.quickbooks.tokens import store_consent


class JumpingClock:
    """Real time that jumps over every wait: what would take a minute is over at once, and late all the same."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self._now = now
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            self._now += 0.000_01
            return self._now

    def sleep(self, seconds: float, stop: threading.Event | None = None) -> None:
        if stop is None or not stop.is_set():
            self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


def connect_company(connection: psycopg.Connection[Any], key: Key, simulator: Simulator, now: float) -> None:
    """As after a person's consent."""
    realm = simulator.company.realm
    with simulator.lock:
        told: dict[str, Any] = simulator.oauth.connect(CLIENT_ID, realm, now)
    seconds = float(told["expires_in"]), float(told["x_refresh_token_expires_in"])
    store_consent(connection, key, realm, "simulator", Pair(told["access_token"], told["refresh_token"], *seconds), now)
