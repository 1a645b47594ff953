"""A company connected to a simulator over HTTP, in a real state database, for tests of the client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from connected_company import JumpingClock, connect_company

from connectors.quickbooks import realm
from connectors.quickbooks.client import QuickBooksClient
from connectors.quickbooks.keys import Key, make_key
from connectors.quickbooks.options import Limits, Options
from connectors.quickbooks.simulator import Simulator, serve
from connectors.quickbooks.simulator.simulator import CLIENT_ID, CLIENT_SECRET
from connectors.state import migrate


class Books:
    """The company, the state database, and clients to it."""

    def __init__(self, dsn: str, simulator: Simulator, options: Options, key: Key, clock: JumpingClock) -> None:
        self.dsn, self.simulator, self.options, self.key, self.clock = dsn, simulator, options, key, clock
        self.realm = simulator.company.realm
        self.state = psycopg.connect(dsn, autocommit=True)
        self._clients: list[QuickBooksClient] = []

    def connect(self) -> None:
        """As after a person's consent."""
        connect_company(self.state, self.key, self.simulator, self.clock.now())

    def client(self, **options: Any) -> QuickBooksClient:
        """Another process' client, as far as the state database can tell."""
        given = Options(**{**vars(self.options), **options})
        self._clients.append(realm.open_client(self.dsn, given, self.clock, "school"))
        return self._clients[-1]

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.state.execute(statement, parameters).fetchall()

    def audit(self, columns: str) -> list[tuple[Any, ...]]:
        """Of what was asked of the API, in order."""
        return self.rows(f"SELECT {columns} FROM rowtide.quickbooks_audit WHERE operation <> 'token' ORDER BY id")

    def current(self) -> realm.Realm:
        found = realm.current_realm(self.state)
        assert found is not None
        return found

    def sent(self, *operations: str) -> list[Any]:
        return [seen for seen in self.simulator.requests if seen.operation in operations]

    def tokens(self) -> list[str]:
        """Every access token that was ever given."""
        return list(self.simulator.oauth._access)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.state.close()


@contextmanager
def books(dsn: str, folder: Path, simulator: Simulator, clock: JumpingClock) -> Iterator[Books]:
    """A connected company. The simulator enforces nothing that the test does not ask for."""
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE rowtide.quickbooks_realm, rowtide.quickbooks_slot, rowtide.quickbooks_audit CASCADE"
        )
    key = make_key(folder / "key")
    with serve(simulator) as url:
        options = Options(
            environment="simulator",
            api_url=url,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            key_file=folder / "key",
            limits=Limits(),
            timeout_seconds=10,
        )
        opened = Books(dsn, simulator, options, key, clock)
        opened.connect()
        try:
            yield opened
        finally:
            opened.close()
