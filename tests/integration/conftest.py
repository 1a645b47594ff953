"""Rental shops and schools: each an instance of its own in one database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from mis_school import LiveSchool
from rental_shop import LiveShop, furnished

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine.analysis import Analysis, analyse

_numbers = count()


@pytest.fixture(scope="session")
def rental_analysis() -> Analysis:
    return analyse(load_domain("rental"))


@pytest.fixture(scope="session")
def rental_database(server: EmbeddedPostgres) -> str:
    dsn = server.ensure_database("rental_shops")
    migrate(dsn)
    return dsn


@pytest.fixture
def new_shop(rental_database: str, rental_analysis: Analysis) -> Iterator[Callable[..., LiveShop]]:
    """Makes empty shops with the given parameters."""
    shops: list[LiveShop] = []

    def make(**parameters: Any) -> LiveShop:
        connection = psycopg.connect(rental_database)
        shops.append(LiveShop(connection, rental_analysis, f"shop_{next(_numbers)}", **parameters))
        return shops[-1]

    yield make
    for shop in shops:
        shop.close()
        shop.connection.close()


@pytest.fixture
def shop(new_shop: Callable[..., LiveShop]) -> LiveShop:
    """A shop with one film (3 days, 2.99), three items of it and two customers; parameters as they come."""
    return furnished(new_shop())


@pytest.fixture(scope="session")
def mis_analysis() -> Analysis:
    return analyse(load_domain("mis"))


@pytest.fixture(scope="session")
def mis_database(server: EmbeddedPostgres) -> str:
    dsn = server.ensure_database("mis_schools")
    migrate(dsn)
    return dsn


@pytest.fixture(scope="session")
def _school(mis_database: str, mis_analysis: Analysis) -> Iterator[LiveSchool]:
    with psycopg.connect(mis_database) as connection:
        made = LiveSchool(connection, mis_analysis, "school")
        yield made
        made.close()


@pytest.fixture
def school(_school: LiveSchool) -> Iterator[LiveSchool]:
    """A school with its lookup tables and no people, and parameters as they come."""
    _school.begin_anew()
    yield _school
    _school.connection.rollback()


@pytest.fixture(scope="module")
def books_dsn(server: EmbeddedPostgres, request: pytest.FixtureRequest) -> str:
    """A state database for the tests of a module about QuickBooks, which empty its tables before each."""
    return server.ensure_database(f"books_{request.module.__name__.rpartition('.')[2]}")
