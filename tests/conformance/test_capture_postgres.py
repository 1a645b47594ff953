"""Capture from PostgreSQL keeps the rules of every capture, on a real server, as a user with the printed grants alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from capture_rules import CaptureRules
from postgres_source import PostgresServer, PostgresSource
from postgres_types import TYPES


@pytest.fixture
def source(postgres_server: PostgresServer) -> Iterator[PostgresSource]:
    made = PostgresSource(postgres_server)
    made.types = TYPES
    yield made
    made.close()


class TestPostgres(CaptureRules):
    """The rules, on PostgreSQL."""
