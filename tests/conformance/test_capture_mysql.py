"""Capture from MariaDB keeps the rules of every capture, on a real server, as a user with the printed grants alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from capture_rules import CaptureRules
from links import Proxy
from mariadb_source import MariadbSource
from mariadb_types import TYPES

from deploy.stack.mariadb import MariaDB


@pytest.fixture(scope="module")
def link(mariadb: MariaDB) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", mariadb.port)) as proxy:
        yield proxy


@pytest.fixture
def source(mariadb: MariaDB, link: Proxy) -> Iterator[MariadbSource]:
    made = MariadbSource(mariadb, link)
    made.types = TYPES
    yield made
    made.close()


class TestMariaDB(CaptureRules):
    """The rules, on MariaDB."""
