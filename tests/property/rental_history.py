"""Random histories of a rental shop, mishaps included: what people do, correct, merge and delete."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from rental_oracle import Replay
from rental_shop import PARAMETERS, Shop

from consumers.domain import Domain
from consumers.engine.units import Unit

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Asia/Kathmandu", "Pacific/Auckland"]
STATUSES = ["available", "rented", "damaged", "missing", None]


class RentalHistory:
    """Makes units one by one, and keeps beside them what plain Python says they lead to.

    Args:
        start: business time of the first unit; random starts meet the nights on which clocks are changed.
    """

    def __init__(self, domain: Domain, rng: random.Random) -> None:
        self._rng = rng
        self._made: list[Unit] = []
        self.shop = Shop(domain, self._made.append)
        self.now = datetime(2024, rng.choice([3, 6, 10]), rng.randint(18, 30), 20, tzinfo=UTC)
        self.values = {**PARAMETERS, "missing_after": 3}
        self.replay = Replay(dict(self.values))
        self._next = 100
        actions: dict[Callable[[], None], int] = {
            self._rent: 10, self._bring_back: 9, self._pay: 8, self._correct_film: 2, self._new_film: 1,
            self._item: 5, self._customer: 3, self._merge: 1, self._correct_rental: 4, self._correct_payment: 3,
            self._write_off: 2, self._delete: 3, self._new_key: 2, self._nothing: 2,
        }  # fmt: skip
        self._actions, self._weights = list(actions), list(actions.values())

    def first(self) -> Unit:
        """The parameters, as a daemon publishes them before anything else."""
        self.shop.parameters(**self.values)
        return self.shop.commit(None)

    def unit(self) -> Unit:
        """The next unit; the replay has followed it."""
        rng, shop = self._rng, self.shop
        before = shop.tables
        moment: datetime | None
        if rng.random() < 0.03 and self.replay.clock is not None:  # told with no time of its own
            moment = None
            self._parameters()
        else:
            self.now += timedelta(seconds=rng.choice([0, 60, 3600, 9000, 9000, 30000]))
            if rng.random() < 0.02:
                self.now += timedelta(days=rng.choice([3, 20, 40]))
            late = rng.random() < 0.05  # an event that comes after later ones
            moment = self.now - timedelta(hours=rng.randint(1, 30)) if late else self.now
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                rng.choices(self._actions, self._weights)[0]()
            if rng.random() < 0.004:
                shop.truncate("payment")
        self.replay.move(before, moment)
        unit = shop.commit(moment)
        self.replay.parameters = dict(self.values)
        if unit.changes:
            self.replay.change(shop.tables, unit.cause)
        return unit

    def end(self) -> datetime:
        """Let some nights pass without an event. Returns the moment reached."""
        self.now += timedelta(days=5)
        self.replay.move(self.shop.tables, self.now)
        return self.now

    # --- what happens ---

    def _some(self, table: str) -> Any:
        rows = self.shop.rows[table]
        return self._rng.choice(sorted(rows)) if rows else None

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _wall(self, hours: int) -> str:
        """The shop's wall time some hours ago."""
        at = self.now.astimezone(ZoneInfo(self.values["zone"])) - timedelta(hours=self._rng.randint(0, hours))
        return at.replace(tzinfo=None).isoformat(" ")

    def _parameters(self) -> None:
        rng = self._rng
        change = {
            "rate": rng.choice([Decimal("1.50"), Decimal("0.75"), Decimal(0)]),
            "zone": rng.choice(ZONES),
            "fees_from": rng.choice([None, date(2024, 3, 25), date(2024, 10, 20)]),
            "missing_after": rng.choice([None, 0, 3, 10]),
        }
        name = rng.choice(sorted(change))
        self.values[name] = change[name]
        self.shop.parameters(**self.values)

    def _new_film(self) -> None:
        number = self._number() if len(self.shop.rows["film"]) < 6 else self._some("film")
        self.shop.film(number, days=self._rng.randint(1, 7), rate=self._rng.choice(["0.99", "2.99", "4.99"]))

    def _correct_film(self) -> None:
        if (number := self._some("film")) is not None:
            column = self._rng.choice(["rental_duration", "rental_rate", "title", "length"])
            values = {"rental_duration": self._rng.randint(1, 7), "rental_rate": Decimal("1.99"), "length": 99}
            self.shop.put("film", film_id=number, **{column: values.get(column, f"NEW {self._number()}")})

    def _item(self) -> None:
        rng, rows = self._rng, self.shop.rows["inventory"]
        if len(rows) < 8:
            film = self._some("film") or 1
            self.shop.item(self._number(), film=film, store=rng.randint(1, 2), status=rng.choice(STATUSES))
        elif rng.random() < 0.2:
            self.shop.put("inventory", inventory_id=self._some("inventory"), film_id=self._some("film") or 1)
        else:
            number = self._some("inventory")
            self.shop.put("inventory", inventory_id=number, status=rng.choice(STATUSES), store_id=rng.choice([1, 1, 2]))

    def _customer(self) -> None:
        rng = self._rng
        if len(self.shop.rows["customer"]) < 6:
            self.shop.customer(self._number(), active=rng.random() < 0.6, store_id=rng.randint(1, 2))
        else:
            number = self._some("customer")
            self.shop.put("customer", customer_id=number, active=rng.random() < 0.6, last_name=rng.choice("ABC"))

    def _merge(self) -> None:
        rows = self.shop.rows
        old, new = self._some("customer"), self._some("customer")
        if old == new:
            return
        for table in ("rental", "payment"):
            for number in [n for n, row in rows[table].items() if row["customer_id"] == old]:
                self.shop.put(table, **{f"{table}_id": number, "customer_id": new})
        self.shop.remove("customer", old)

    def _rent(self) -> None:
        item = self._some("inventory") if self._rng.random() < 0.97 else 9999
        self.shop.rent(self._number(), item or 9999, self._some("customer") or 9999, self._wall(200))

    def _bring_back(self) -> None:
        out = sorted(n for n, row in self.shop.rows["rental"].items() if row["return_date"] is None)
        if out:
            self.shop.bring_back(self._rng.choice(out), self._wall(self._rng.choice([0, 60])))

    def _correct_rental(self) -> None:
        if (number := self._some("rental")) is not None:
            values: dict[str, Any] = {
                "return_date": None, "rental_date": datetime.fromisoformat(self._wall(300)),
                "inventory_id": self._some("inventory") or 9999, "customer_id": self._some("customer") or 9999,
                "staff_id": self._rng.randint(1, 2),
            }  # fmt: skip
            column = self._rng.choice(sorted(values))
            self.shop.put("rental", rental_id=number, **{column: values[column]})

    def _pay(self) -> None:
        rental = self._some("rental") if self._rng.random() < 0.95 else None
        customer = self.shop.rows["rental"][rental]["customer_id"] if rental is not None else 1
        amount = self._rng.choice(["0.00", "0.99", "2.99", "4.49", "7.00", "20.00"])
        self.shop.pay(self._number(), rental, amount, self._wall(24), customer=customer)

    def _correct_payment(self) -> None:
        if (number := self._some("payment")) is not None:
            values = {
                "amount": Decimal("5.00"),
                "rental_id": self._some("rental"),
                "customer_id": self._some("customer") or 1,
            }
            column = self._rng.choice(sorted(values))
            self.shop.put("payment", payment_id=number, **{column: values[column]})

    def _write_off(self) -> None:
        gone = self._some("write_off")
        if gone is not None and self._rng.random() < 0.3:
            self.shop.remove("write_off", gone)
        elif (rental := self._some("rental")) is not None:
            self.shop.write_off(rental)

    def _delete(self) -> None:
        table = self._rng.choice(["rental", "rental", "payment", "payment", "inventory", "customer", "film"])
        if (key := self._some(table)) is not None:
            self.shop.remove(table, key)

    def _new_key(self) -> None:
        table = self._rng.choice(["rental", "payment", "inventory", "customer", "film"])
        if (key := self._some(table)) is not None:
            self.shop.move(table, key, self._number())

    def _nothing(self) -> None:
        """Time passes."""
