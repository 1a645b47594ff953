"""One PostgreSQL server for all conformance tests of capture; the rules' assertions say what differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("capture_rules", "sources")

if TYPE_CHECKING:
    from postgres_source import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A source server of its own: the rules restart it."""
    from postgres_source import PostgresServer

    server = PostgresServer()
    yield server
    server.close()
