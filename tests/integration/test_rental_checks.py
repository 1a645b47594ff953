"""The rental domain's checks: each finds its row and nothing in a clean shop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from named import found, found_amiss
from rental_shop import LiveShop, furnished

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine.analysis import Analysis
from daemon.app import App
from daemon.settings import Settings
from daemon.times import BusinessTime


def contradicting(shop: LiveShop) -> None:
    shop.item(1, status="available")  # which rental 1 has
    shop.item(2, status="rented")  # which nobody has


def two_open(shop: LiveShop) -> None:
    shop.rent(7, item=1, customer=2, at="2024-03-01 12:00")
    shop.pay(7, 7, "2.99", "2024-03-01 12:00", customer=2)


def future(shop: LiveShop) -> None:
    shop.rent(7, item=2, customer=2, at="2024-03-01 12:00", back="2024-03-02 13:01")  # it is 13:00 in Berlin
    shop.rent(8, item=3, customer=2, at="2024-03-01 12:00", back="2024-03-02 13:00")


def of_nothing_known(shop: LiveShop) -> None:
    shop.pay(7, None, "1.00", "2024-03-01")
    shop.pay(8, 99, "1.00", "2024-03-01")


# What makes the shop offend, and the keys that the check then names.
OFFENCES: dict[str, tuple[Callable[[LiveShop], None], set[int]]] = {
    "item_status_contradicts": (contradicting, {1, 2}),
    "two_open_rentals": (two_open, {1}),
    "open_rental_without_payment": (lambda s: s.rent(7, item=2, customer=1, at="2024-03-01 12:00"), {7}),
    "return_before_rental": (
        lambda s: s.rent(7, item=2, customer=1, at="2024-03-01 12:00", back="2024-03-01 11:59:59"),
        {7},
    ),
    "return_in_the_future": (future, {7}),
    "payment_without_rental": (
        of_nothing_known,
        {7, 8},
    ),
    "payment_of_nothing": (lambda s: s.pay(7, 1, "0.00", "2024-03-01"), {7}),
    "customer_missing": (lambda s: s.rent(7, item=2, customer=99, at="2024-03-01 12:00", back="2024-03-01 13:00"), {7}),
    "item_missing": (lambda s: s.rent(7, item=99, customer=1, at="2024-03-01 12:00", back="2024-03-01 13:00"), {7}),
    "status_is_null": (lambda s: s.item(3, status=None), {3}),
}
TITLES = {
    "Status of an item contradicts its rentals", "Two open rentals of one item", "Open rental without payment",
    "Return before rental", "Return in the future", "Payment without rental", "Payment of 0.00",
    "Customer of a rental is missing", "Item or film of a rental is missing", "Item without a status in the source",
}  # fmt: skip


@pytest.fixture(scope="module")
def database_of_checks(server: EmbeddedPostgres) -> str:
    dsn = server.ensure_database("rental_checks")
    migrate(dsn)
    return dsn


@pytest.fixture
def clean(database_of_checks: str, rental_analysis: Analysis) -> Iterator[tuple[LiveShop, App]]:
    """A shop in which everything is as it should be, one rental out and one returned; it is 13:00 in Berlin."""
    with psycopg.connect(database_of_checks) as connection:
        shop = furnished(LiveShop(connection, rental_analysis, "rental", zone="Europe/Berlin"))
        shop.item(1, status="rented")
        shop.item(3, status="damaged")
        shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
        shop.rent(2, item=2, customer=2, at="2024-03-01 10:00", back="2024-03-01 10:00")
        for number in (1, 2):
            shop.pay(number, number, "2.99", "2024-03-01 10:00", customer=number)
        shop.at("2024-03-02 12:00")
        app = App(Settings(), database_of_checks, load_domain("rental"), BusinessTime())
        yield shop, app
        app.close()
        shop.close()


def test_every_check_is_tried_below() -> None:
    """All checks have a title, a severity and an offence."""
    checks = load_domain("rental").checks
    assert checks.keys() == OFFENCES.keys()
    assert {file.title for file in checks.values()} == TITLES
    assert {file.header["severity"] for file in checks.values()} == {"error", "warning"}


def test_a_clean_shop_passes_all_checks(clean: tuple[LiveShop, App]) -> None:
    """Checks return offending rows: in a clean shop none."""
    assert found(clean[1]) == {}


@pytest.mark.parametrize("name", OFFENCES)
def test_a_check_finds_the_offending_row(clean: tuple[LiveShop, App], name: str) -> None:
    """Each check names exactly the rows that offend, and is clean again once they are put right."""
    offend, keys = OFFENCES[name]
    assert found_amiss(*clean, "2024-03-02 12:00", offend, name) == sorted(keys)
