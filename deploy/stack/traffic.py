"""What goes on in the sample shop: each act is one transaction chosen at random, as the shop's programs would do it."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pymysql

from deploy.stack.definition import SHOP, SHOP_USER, Address

_AGAIN = 2.0  # seconds until a server that is away is tried again


class Traffic:
    """Acts on one connection, which is opened at the first act and again after a server was away.

    Args:
        place: where MariaDB is.
        password: of the shop's user.
        rng: chooses acts and rows.
        now: the shop's wall time, which is UTC.
    """

    def __init__(
        self, place: Address, password: str, rng: random.Random, now: Callable[[], datetime] | None = None
    ) -> None:
        self._place = place
        self._password = password
        self._rng = rng
        self._now = now or (lambda: datetime.now(UTC).replace(tzinfo=None, microsecond=0))
        self._connection: pymysql.connections.Connection[Any] | None = None
        self.done: Counter[str] = Counter()
        self._acts: tuple[tuple[Callable[[Any], bool], int], ...] = (
            (self._rent, 40),
            (self._give_back, 34),
            (self._pay, 10),
            (self._change_status, 4),
            (self._correct_film, 1),
            (self._merge_customers, 1),
            (self._cancel_payment, 2),
            (self._cancel_rental, 2),
            (self._renumber_payment, 2),
            (self._bring_film, 2),
            (self._withdraw_film, 2),
        )

    def act(self) -> str:
        """Do one thing in one transaction. Returns its name; empty where there was nothing to do it on."""
        act = self._rng.choices([a for a, _ in self._acts], [w for _, w in self._acts])[0]
        connection = self._open()
        with connection.cursor() as cursor:
            happened = act(cursor)
        connection.commit()
        name = act.__name__.removeprefix("_") if happened else ""
        self.done[name] += 1
        return name

    def run(self, stop: threading.Event, rate: float) -> None:
        """Act about `rate` times a second until stopped; a server that is away is waited for."""
        while not stop.wait(self._rng.expovariate(rate)):
            try:
                self.act()
            except pymysql.err.MySQLError:
                self.close()
                stop.wait(_AGAIN)
        self.close()

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        if self._connection is not None:
            with suppress(pymysql.err.Error):  # it may be broken already
                self._connection.close()
            self._connection = None

    def _open(self) -> pymysql.connections.Connection[Any]:
        if self._connection is None:
            self._connection = pymysql.connect(
                host=self._place.host,
                port=self._place.port,
                user=SHOP_USER,
                password=self._password,
                database=SHOP,
                connect_timeout=10,
            )
        return self._connection

    # --- acts: whether there was something to do ---

    def _rent(self, cursor: Any) -> bool:
        cursor.execute(
            "SELECT i.inventory_id FROM inventory AS i WHERE i.inventory_id >= %s AND i.status = 'available' AND NOT "
            "EXISTS (SELECT 1 FROM rental AS r WHERE r.inventory_id = i.inventory_id AND r.return_date IS NULL) "
            "ORDER BY i.inventory_id LIMIT 1",
            [self._rng.randint(1, 1000)],
        )
        item = cursor.fetchone()
        customer = _one(cursor, "SELECT customer_id FROM customer WHERE active ORDER BY rand() LIMIT 1")
        if item is None or customer is None:
            return False
        # Some were begun days ago and are entered now: they are late at once.
        at = self._now() - timedelta(days=self._rng.choice([0, 0, 0, 3, 9]))
        cursor.execute(
            "INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id) VALUES (%s, %s, %s, 1)",
            [at, item[0], customer[0]],
        )
        return True

    def _give_back(self, cursor: Any) -> bool:
        open_ = "SELECT rental_id, customer_id FROM rental WHERE return_date IS NULL ORDER BY rand() LIMIT 1"
        rental = _one(cursor, open_)
        if rental is None:
            return False
        cursor.execute("UPDATE rental SET return_date = %s WHERE rental_id = %s", [self._now(), rental[0]])
        self._receive(cursor, rental[0], rental[1])
        return True

    def _pay(self, cursor: Any) -> bool:
        rental = _one(cursor, "SELECT rental_id, customer_id FROM rental ORDER BY rand() LIMIT 1")
        if rental is None:
            return False
        self._receive(cursor, rental[0], rental[1])
        return True

    def _receive(self, cursor: Any, rental: int, customer: int) -> None:
        amount = self._rng.choice(["0.99", "1.50", "2.99", "4.50"])
        cursor.execute(
            "INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) VALUES (%s, 1, %s, %s, %s)",
            [customer, rental, amount, self._now()],
        )

    def _change_status(self, cursor: Any) -> bool:
        before, after = self._rng.choice([("available", "damaged"), ("damaged", "available")])
        cursor.execute(
            "UPDATE inventory SET status = %s, last_update = %s WHERE status = %s ORDER BY rand() LIMIT 1",
            [after, self._now(), before],
        )
        return bool(cursor.rowcount)

    def _correct_film(self, cursor: Any) -> bool:
        duration = self._rng.randint(2, 7)
        cursor.execute("UPDATE film SET rental_duration = %s ORDER BY rand() LIMIT 1", [duration])
        return bool(cursor.rowcount)

    def _merge_customers(self, cursor: Any) -> bool:
        """Several tables and many rows in one transaction."""
        cursor.execute("SELECT customer_id FROM customer WHERE active ORDER BY rand() LIMIT 2")
        found = cursor.fetchall()
        if len(found) < 2:
            return False
        gone, stays = found[0][0], found[1][0]
        cursor.execute("UPDATE rental SET customer_id = %s WHERE customer_id = %s", [stays, gone])
        cursor.execute("UPDATE payment SET customer_id = %s WHERE customer_id = %s", [stays, gone])
        cursor.execute("UPDATE customer SET active = false WHERE customer_id = %s", [gone])
        # Somebody comes instead, or the shop would run out of customers.
        cursor.execute(
            "INSERT INTO customer (customer_id, store_id, first_name, last_name, active, create_date) "
            "SELECT max(customer_id) + 1, 1, 'NEW', 'CUSTOMER', true, %s FROM customer",
            [self._now()],
        )
        return True

    def _cancel_payment(self, cursor: Any) -> bool:
        cursor.execute("DELETE FROM payment ORDER BY payment_id DESC LIMIT 1")
        return bool(cursor.rowcount)

    def _cancel_rental(self, cursor: Any) -> bool:
        """Its payments stay and lose the rental's number: the foreign key does that."""
        cursor.execute("DELETE FROM rental WHERE return_date IS NOT NULL ORDER BY rand() LIMIT 1")
        return bool(cursor.rowcount)

    def _renumber_payment(self, cursor: Any) -> bool:
        """A row's key changes."""
        last = _one(cursor, "SELECT max(payment_id) FROM payment")
        if last is None or last[0] is None:
            return False
        cursor.execute(
            "UPDATE payment SET payment_id = %s ORDER BY payment_id LIMIT 1", [last[0] + self._rng.randint(1, 5)]
        )
        return True

    def _bring_film(self, cursor: Any) -> bool:
        cursor.execute(
            "INSERT INTO film SELECT max(film_id) + 1, 'NEW FILM', 3, 2.99, 19.99, 90, 'PG' FROM film",
        )
        cursor.execute("INSERT INTO film_category SELECT max(film_id), 1 FROM film")
        return True

    def _withdraw_film(self, cursor: Any) -> bool:
        """Its categories go with it: the foreign key does that."""
        cursor.execute("DELETE FROM film WHERE title = 'NEW FILM' LIMIT 1")
        return bool(cursor.rowcount)


def _one(cursor: Any, query: str) -> Any:
    cursor.execute(query)
    return cursor.fetchone()
