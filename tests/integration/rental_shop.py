"""A rental shop for tests: rows in plain Python, and the units of changes that bring them to an instance."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row
from rental_oracle import KEYS, Models, Replay, compute

from connectors.event import Change, Source, Truncate, encode_boundary, encode_change, encode_heartbeat, encode_truncate
from connectors.log import Message, Record, TopicPartition
from connectors.table import Table
from consumers.domain import Domain
from consumers.engine import instance
from consumers.engine.analysis import Analysis
from consumers.engine.engine import Engine
from consumers.engine.moments import to_datetime
from consumers.engine.units import Unit

TOPIC = "dvdrental"
PARAMETERS: dict[str, Any] = {"rate": Decimal("1.50"), "zone": "UTC", "fees_from": None, "missing_after": None}


def moment(text: str) -> datetime:
    """A moment; UTC unless the text says otherwise."""
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def text(value: Any) -> str | None:
    """A value as PostgreSQL reads it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)


class Shop:
    """The rows of a shop by table and key, and what changed since the last unit.

    Args:
        domain: the rental domain.
        take: is given each unit as it is made.
    """

    def __init__(self, domain: Domain, take: Callable[[Unit], object]) -> None:
        self.domain = domain
        self.rows: dict[str, dict[Any, dict[str, Any]]] = {name: {} for name in domain.mirror_tables}
        self.take = take
        self._pending: list[Change | Truncate] = []
        self._offset = 0

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The rows as the oracle takes them."""
        return {name: list(rows.values()) for name, rows in self.rows.items()}

    def _key(self, table: Table, row: Mapping[str, Any]) -> Any:
        values = tuple(row[name] for name in table.key)
        return values if len(values) > 1 else values[0]

    def put(self, name: str, /, **columns: Any) -> None:
        """Insert a row, or change the given columns of one that is there."""
        table = self.domain.mirror_tables[name]
        key = self._key(table, columns)
        op = "u" if key in self.rows[name] else "c"
        row = {**dict.fromkeys(table.names), **self.rows[name].get(key, {}), **columns}
        self.rows[name][key] = row
        self._change(table, op, row)

    def remove(self, name: str, key: Any) -> None:
        """Delete a row."""
        self._change(self.domain.mirror_tables[name], "d", self.rows[name].pop(key))

    def move(self, name: str, key: Any, new: Any) -> None:
        """Change a row's key (of one column): a deletion and a creation, as captures tell it."""
        table = self.domain.mirror_tables[name]
        row = self.rows[name][key]
        self.remove(name, key)
        self.put(name, **{**row, table.key[0]: new})

    def kept(self) -> dict[str, dict[Any, dict[str, Any]]]:
        """The rows as they are, for `restore`."""
        return {name: dict(rows) for name, rows in self.rows.items()}

    def restore(self, kept: dict[str, dict[Any, dict[str, Any]]]) -> None:
        """Make the rows what they were."""
        for name, rows in kept.items():
            for key in [key for key in self.rows[name] if key not in rows]:
                self.remove(name, key)
            for row in rows.values():
                self.put(name, **row)

    def truncate(self, name: str) -> None:
        """Remove all rows of a table at once."""
        self.rows[name].clear()
        self._pending.append(Truncate(name, 0))

    def _change(self, table: Table, op: Any, row: Mapping[str, Any]) -> None:
        key = tuple(str(text(row[name])) for name in table.key)
        values = None if op == "d" else tuple(text(row[name]) for name in table.names)
        self._pending.append(Change(table.name, op, key, values, 0))

    # --- what happens in a shop ---

    def film(self, number: int, days: int = 3, rate: str = "2.99", **other: Any) -> None:
        base = {"title": f"FILM {number}", "replacement_cost": Decimal("19.99"), "length": 90, "rating": "PG"}
        self.put("film", film_id=number, rental_duration=days, rental_rate=Decimal(rate), **{**base, **other})

    def item(self, number: int, film: int = 1, store: int = 1, status: str | None = "available") -> None:
        self.put("inventory", inventory_id=number, film_id=film, store_id=store, status=status)

    def customer(self, number: int, *, active: bool | None = True, **other: Any) -> None:
        base = {"store_id": 1, "first_name": f"F{number}", "last_name": f"L{number}", "email": None}
        self.put("customer", customer_id=number, active=active, **{**base, **other})

    def rent(self, number: int, item: int, customer: int, at: str, back: str | None = None) -> None:
        returned = datetime.fromisoformat(back) if back else None
        self.put(
            "rental", rental_id=number, rental_date=datetime.fromisoformat(at), inventory_id=item,
            customer_id=customer, return_date=returned, staff_id=1,
        )  # fmt: skip

    def bring_back(self, number: int, at: str) -> None:
        self.put("rental", rental_id=number, return_date=datetime.fromisoformat(at))

    def pay(self, number: int, rental: int | None, amount: str, at: str, customer: int = 1) -> None:
        self.put(
            "payment", payment_id=number, customer_id=customer, staff_id=1, rental_id=rental, amount=Decimal(amount),
            payment_date=datetime.fromisoformat(at),
        )  # fmt: skip

    def write_off(self, rental: int) -> None:
        self.put("write_off", rental_id=rental, reason="goodwill", written_off_at=datetime(2024, 1, 1))  # noqa: DTZ001

    def parameters(self, **given: Any) -> None:
        """Set parameters, by the oracle's names."""
        values = {**PARAMETERS, **given}
        row = {
            "_one": 1, "late_fee_per_day": values["rate"], "time_zone": values["zone"],
            "fees_from": values["fees_from"], "missing_after_days": values["missing_after"],
        }  # fmt: skip
        self.put("params", **row)

    # --- units ---

    def commit(self, at: datetime | None) -> Unit:
        """Hand on what changed as one unit of this time; None: it tells none."""
        unit = Unit()
        if at is not None:
            unit.ts_ms = int(at.timestamp() * 1000)
        for change in self._pending or [None]:
            record = Record(TOPIC, 0, self._offset, unit.ts_ms or 0, b"", b"")
            self._offset += 1
            if change is not None:
                unit.add(record, change)
            else:  # time passes, and nothing happens
                unit.positions[TopicPartition(TOPIC, 0)] = self._offset
        self._pending = []
        self.take(unit)
        return unit


class LiveShop(Shop):
    """A shop with an instance of its own that takes each unit at once; `row` and `rows` are what a reader sees."""

    def __init__(self, connection: psycopg.Connection[Any], analysis: Analysis, name: str, **parameters: Any) -> None:
        super().__init__(analysis.domain, lambda unit: self.engine.apply([unit]))
        self.connection = connection
        self.name = name
        self._analysis = analysis
        connection.autocommit = True
        instance.create(connection, name, analysis)
        self._epoch = instance.take_over(connection, name)
        connection.autocommit = False
        self.restart()
        self.parameters(**parameters)
        self.commit(None)
        self._before = self.tables

    def restart(self) -> None:
        """A new engine, which knows what the database knows."""
        self.engine = Engine(self.connection, self._analysis, self.name, self._epoch)

    def at(self, when: str) -> Unit:
        """Hand on what changed as a unit of this time."""
        return self.commit(moment(when))

    def told(self, replay: Replay, at: datetime) -> None:
        """Hand on what changed, to the replay as well; it has seen the rows as they were until now."""
        replay.move(self._before, at)
        replay.change(self.tables, self.commit(at).cause)
        self._before = self.tables

    def reach(self, when: str) -> None:
        """Let business time pass."""
        self.engine.advance(int(moment(when).timestamp() * 1_000_000))

    def all(self, table: str, key: str | None = None) -> dict[Any, dict[str, Any]]:
        """A model's rows by key."""
        return read(self.connection, self.name, table, key or KEYS[table])

    def row(self, table: str, key: Any = 1) -> dict[str, Any]:
        return self.all(table)[key]

    def audit(self, item: int = 1) -> list[tuple[datetime, str | None, str | None, str]]:
        """The transitions of an item, oldest first."""
        with self.connection.transaction():
            return self.connection.execute(
                f'SELECT at, from_value, to_value, cause FROM "{self.name}".inventory_audit '
                "WHERE inventory_id = %s ORDER BY seq",
                [item],
            ).fetchall()

    def assert_as_computed(self, **parameters: Any) -> None:
        """The tables are what plain Python makes of the rows."""
        assert self.engine.clock is not None
        now = to_datetime(self.engine.clock)
        assert_models(self.connection, self.name, expected(self, now, **parameters), f"at {now}")

    def close(self) -> None:
        self.connection.rollback()
        self.connection.autocommit = True
        instance.remove(self.connection, self.name)


def generated(shop: LiveShop, now: datetime, seed: int = 7) -> Replay:
    """Fill a shop with half a year of business, mishaps included: enough that every question has an answer.

    Returns what the oracle made of its history.
    """
    rng = random.Random(seed)
    zone, missing_after = shop.rows["params"][1]["time_zone"], shop.rows["params"][1]["missing_after_days"]
    replay = Replay({**PARAMETERS, "zone": zone, "missing_after": missing_after})
    for number in range(1, 13):
        shop.film(
            number, days=rng.randint(2, 6), rate=rng.choice(["0.99", "2.99", "4.99"]),
            title=f"{rng.choice('ABC')}LPHA {number}", replacement_cost=Decimal(rng.randint(999, 2999)) / 100,
        )  # fmt: skip
    for number, name in enumerate(["Action", "Drama", "Comedy"], start=1):
        shop.put("category", category_id=number, name=name)
    for film in range(1, 11):  # the other films have none, and one has two
        shop.put("film_category", film_id=film, category_id=film % 3 + 1)
    shop.put("film_category", film_id=1, category_id=1)
    for number in range(1, 61):
        status = rng.choice(["available"] * 8 + ["rented", "damaged", "missing", None])
        shop.item(number, film=rng.randint(1, 12), store=rng.randint(1, 2), status=status)
    for number in range(61, 63):  # a title that is always out
        shop.item(number, film=20, status="damaged")
    shop.film(20, title="A GONE")
    shop.item(70, film=99)  # its film is not known
    for number in range(1, 41):
        shop.customer(number, active=number % 5 != 0, store_id=rng.randint(1, 2))
    start = now.replace(tzinfo=None) - timedelta(days=170)
    shop.told(replay, now - timedelta(days=170))
    for number in range(1, 301):
        # From time to time the shop tells what happened; the busiest customers keep things longest.
        hours = rng.randint(0, 168 * 24) if number > 15 else 168 * 24 - rng.randint(30, 140)
        at = start + timedelta(hours=hours, minutes=rng.randint(0, 59))
        customer = rng.choice([3, 3, rng.randint(1, 40)]) if number % 10 else 4
        shop.rent(number, rng.randint(1, 55), min(customer, 38), at.isoformat(" "))
        if rng.random() < 0.93 and not (customer == 3 and number % 7 == 0):
            back = at + timedelta(hours=rng.randint(10, 300))
            if back < now.replace(tzinfo=None) - timedelta(days=1):
                shop.bring_back(number, back.isoformat(" "))
        for payment in range(rng.choice([0, 1, 1, 2])):
            amount = rng.choice(["0.99", "2.99", "4.99", "8.00"])
            shop.pay(number * 10 + payment, number, amount, at.isoformat(" "), customer=min(customer, 38))
    shop.rent(400, 1, 99, start.isoformat(" "), back=(start + timedelta(days=30)).isoformat(" "))  # of nobody
    shop.rent(401, 70, 1, start.isoformat(" "), back=(start + timedelta(days=30)).isoformat(" "))  # of no film
    shop.pay(9000, None, "1.00", start.isoformat(" "), customer=2)
    shop.pay(9001, 12345, "2.00", start.isoformat(" "), customer=99)
    local = now.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    for number in (500, 501):  # due today
        days = shop.rows["film"][shop.rows["inventory"][number - 480]["film_id"]]["rental_duration"]
        shop.rent(number, number - 480, 38, (local - timedelta(days=days, hours=number - 500)).isoformat(" "))
    for number in (7, 14, 21, 28, 35):
        shop.write_off(number)
    shop.told(replay, now)
    return replay


def furnished(shop: LiveShop) -> LiveShop:
    shop.film(1)
    for number in (1, 2, 3):
        shop.item(number)
    shop.customer(1)
    shop.customer(2)
    return shop


def read(connection: psycopg.Connection[Any], schema: str, table: str, key: str) -> dict[Any, dict[str, Any]]:
    """A table's rows by a column."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        return {row[key]: row for row in cursor.execute(f'SELECT * FROM "{schema}"."{table}"')}


def assert_models(connection: psycopg.Connection[Any], schema: str, expected: Models, note: str = "") -> None:
    """Every column that the oracle computes stands so in the tables, and there are no other rows."""
    for name, key in KEYS.items():
        actual = read(connection, schema, name, key)
        assert expected[name].keys() == actual.keys(), f"{name} {note}"
        for number, row in expected[name].items():
            assert row == {column: actual[number][column] for column in row}, f"{name} {number} {note}"


def expected(shop: Shop, now: datetime, **parameters: Any) -> Models:
    """What plain Python makes of the shop's rows."""
    gone = [row["rental_id"] for row in shop.rows["write_off"].values()]
    return compute(shop.tables, now=now, write_offs=gone, **{**PARAMETERS, **parameters})


def messages(domain: Domain, unit: Unit) -> list[Message]:
    """A unit as a capture would write it: a transaction with its boundaries."""
    ts = unit.ts_ms or 0
    if not unit.changes:
        return [Message(*encode_heartbeat(ts), ts)]
    name = f"{unit.changes[0].record.offset}"
    encoded: list[tuple[Any, bytes]] = [encode_boundary("BEGIN", name, ts)]
    for placed in unit.changes:
        event = placed.event
        source = Source("postgresql", "s", "d", "public", event.table, ts)
        if isinstance(event, Truncate):
            encoded.append(encode_truncate(source=source))
        else:
            table = domain.mirror_tables[event.table]
            encoded.append(encode_change(table, event.op, event.key, event.row, source=source))
    encoded.append(encode_boundary("END", name, ts))
    return [Message(key, value, ts) for key, value in encoded]
