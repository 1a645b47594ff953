"""What the oracles of the domains share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from connectors.state import migrate


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    migrate(database)
    with psycopg.connect(database) as opened:
        yield opened
