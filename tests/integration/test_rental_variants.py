"""Shops of the Sakila family differ in their columns; each loads unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rental_shop import TOPIC, LiveShop, messages, moment

from connectors.event import Change, Decoder
from connectors.log import Record
from consumers.engine.units import Unit

AT = 1_709_287_200_000  # 2024-03-01 10:00 in UTC


def send(shop: LiveShop, table: str, *rows: dict[str, Any], connector: str = "mysql") -> None:
    """Rows as a connector's JSON tells them, decoded for the domain's tables."""
    decoder = Decoder(shop.domain.mirror_tables.values())
    unit = Unit()
    for number, row in enumerate(rows):
        source = {"connector": connector, "db": "sakila", "table": table, "ts_ms": AT}
        value = json.dumps({"before": None, "after": row, "source": source, "op": "c", "ts_ms": AT}).encode()
        offset = 1000 * (1 + len(shop.all("rental_status"))) + hash_of(table) + number
        record = Record(TOPIC, 0, offset, AT, None, value)
        event = decoder.decode(None, value)
        assert isinstance(event, Change)
        unit.add(record, event)
    shop.engine.apply([unit])


def hash_of(table: str) -> int:
    """Offsets that rise in the order in which the tests send the tables."""
    return 100 * ["film", "inventory", "customer", "rental", "payment"].index(table)


def customer(number: int, **columns: Any) -> dict[str, Any]:
    base = {"store_id": 1, "first_name": "A", "last_name": "B", "email": None, "address_id": 5}
    return {"customer_id": number, **base, "create_date": "2006-02-14T22:04:36Z", **columns}


@pytest.mark.parametrize(
    ("columns", "active"),
    [
        ({"active": True}, True),
        ({"active": False}, False),
        ({"active": 1}, True),  # TINYINT(1), read as a number
        ({"active": 0}, False),
        ({"active": 1, "activebool": True}, True),
        ({"active": 0, "activebool": True}, False),  # PostgreSQL's port: activebool has kept its default
        ({"active": None, "activebool": True}, True),
        ({"active": None, "activebool": False}, False),
        ({"active": None}, True),
    ],
)
def test_a_customer_is_active_by_number_or_by_truth(new_shop: Any, columns: dict[str, Any], active: bool) -> None:
    """`active` as a number or boolean decides; where it is NULL, `activebool` does, if there is one."""
    shop = new_shop()
    send(shop, "customer", customer(1, **columns))
    account = shop.row("customer_account")
    assert (account["active"], account["status"]) == (active, "good_standing" if active else "closed")


def test_an_inventory_without_the_status_column(new_shop: Any) -> None:
    """The classic inventory has no status: items are available or rented by their rentals alone."""
    shop = new_shop()
    film = {"film_id": 1, "title": "ACADEMY DINOSAUR", "description": "…", "release_year": 2006, "language_id": 1}
    money = {"rental_duration": 6, "rental_rate": "0.99", "replacement_cost": "20.99", "length": 86, "rating": "PG"}
    send(shop, "film", {**film, **money, "special_features": "Deleted Scenes,Behind the Scenes"})
    item = {"film_id": 1, "store_id": 1, "last_update": "2006-02-15T05:09:17Z"}
    send(shop, "inventory", {"inventory_id": 1, **item}, {"inventory_id": 2, **item})
    rental = {"customer_id": 7, "return_date": None, "staff_id": 1, "rental_date": "2024-03-01T09:00:00Z"}
    send(shop, "rental", {"rental_id": 1, "inventory_id": 1, **rental})
    send(shop, "payment", {"payment_id": 1, "customer_id": 7, "rental_id": None, "staff_id": 1, "amount": "4.99",
                           "payment_date": "2024-03-01T09:00:00Z"})  # fmt: skip
    items = {n: (row["source_status"], row["status"]) for n, row in shop.all("inventory_status").items()}
    assert items == {1: (None, "rented"), 2: (None, "available")}
    assert (shop.row("rental_status")["title"], shop.row("rental_status")["due_at"].day) == ("ACADEMY DINOSAUR", 7)


def test_a_number_for_a_truth_survives_our_own_capture(new_shop: Any) -> None:
    """A source column `active integer` reads 1 and 0 as text: captured and read back they are true and false."""
    shop = new_shop()
    decoder = Decoder(shop.domain.mirror_tables.values())
    seen = {}
    for text in ("1", "0", "t", "f", "true", "false"):
        shop.customer(1, active=None)
        unit = Unit()
        for change in shop._pending:
            assert isinstance(change, Change)
            assert change.row is not None
            names = shop.domain.mirror_tables["customer"].names
            row = tuple(text if name == "active" else value for name, value in zip(names, change.row, strict=True))
            unit.add(Record(TOPIC, 0, 1, AT, None, None), Change("customer", "c", change.key, row, AT))
        shop._pending.clear()
        event = decoder.decode(*messages(shop.domain, unit)[1][:2])
        assert isinstance(event, Change)
        assert event.row is not None
        seen[text] = event.row[names.index("active")]
    assert seen == {"1": "true", "0": "false", "t": "true", "f": "false", "true": "true", "false": "false"}
    assert moment("2024-03-01 10:00").timestamp() * 1000 == AT
