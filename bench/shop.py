"""A rental shop in memory: its past, and traffic that goes on from there, as rows and as the messages of a log.

Everything follows from the seed and the scale, so that two runs see the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from connectors.event import Source, encode_boundary, encode_change
from connectors.log import Message
from connectors.table import Table

START = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday noon: a day of traffic has one midnight
_RATES = (99, 299, 499)
_CATEGORIES = ("Action", "Animation", "Comedy", "Documentary", "Drama", "Family", "Horror", "Music", "Travel")
HISTORY_DAYS = 90

Row = tuple[str | None, ...]
_Thing = TypeVar("_Thing")


class Write(NamedTuple):
    """One row change of the source; `row` is None for a deletion."""

    table: str
    op: str
    key: tuple[str, ...]
    row: Row | None


class Transaction(NamedTuple):
    """What the source commits at once, at `ts_ms` (ms since the epoch)."""

    ts_ms: int
    writes: list[Write]


@dataclass(frozen=True)
class Scale:
    """How large the shop is. Films, items and customers stand to the rentals as they do in Sakila."""

    rentals: int = 16_000
    films: int = 1_000
    items: int = 4_581
    customers: int = 599

    @classmethod
    def of(cls, rentals: int) -> Scale:
        """The proportions of Sakila for so many rentals."""
        share = rentals / 16_000
        return cls(rentals, max(10, round(1_000 * share)), max(50, round(4_581 * share)), max(10, round(599 * share)))


@dataclass
class _Rental:
    number: int
    at: datetime
    item: int
    customer: int
    back: datetime | None = None

    def write(self, op: str) -> Write:
        key = str(self.number)
        back = None if self.back is None else _time(self.back)
        return Write("rental", op, (key,), (key, _time(self.at), str(self.item), str(self.customer), back, "1"))


class Shop:
    """The shop. Call `history` once, then take from `traffic` as much as wanted.

    Args:
        days: business time that `pace` events take, in days: how dense the traffic is.
        pace: see `days`.
        start: when the past ends.
        numbers_from: the last number of rentals and payments given out before this past.
    """

    def __init__(
        self,
        scale: Scale,
        *,
        seed: int = 7,
        days: float = 1.0,
        pace: int = 60_000,
        start: datetime = START,
        numbers_from: int = 0,
    ) -> None:
        self.scale = scale
        self.start = start
        self._rng = random.Random(seed)
        self._step = timedelta(days=days / pace)
        self._now = start
        self._films: dict[int, list[str | None]] = {}
        self._items: dict[int, list[str | None]] = {}
        self._customers: dict[int, list[str | None]] = {}
        self._free: list[int] = []
        self._out: list[_Rental] = []
        self._owing: list[_Rental] = []
        self._payments: list[str] = []
        self._rentals = self._paid = numbers_from

    # --- the past ---

    def history(self) -> Iterator[Write]:
        """The rows of the shop's first 90 days, as a snapshot reads them."""
        rng, scale = self._rng, self.scale
        for number in (1, 2):
            yield Write("store", "r", (str(number),), (str(number),))
        for number, name in enumerate(_CATEGORIES, start=1):
            yield Write("category", "r", (str(number),), (str(number), name))
        for number in range(1, scale.films + 1):
            cost = f"{rng.randint(9, 29)}.99"
            self._films[number] = [
                *(str(number), f"FILM {number}", str(rng.randint(3, 7)), _money(rng.choice(_RATES)), cost),
                *(str(rng.randint(50, 180)), rng.choice(("G", "PG", "R"))),
            ]
            yield Write("film", "r", (str(number),), tuple(self._films[number]))
            category = str(rng.randint(1, len(_CATEGORIES)))
            yield Write("film_category", "r", (str(number), category), (str(number), category))
        for number in range(1, scale.items + 1):
            self._items[number] = [str(number), str(rng.randint(1, scale.films)), str(rng.randint(1, 2)), "available"]
            yield Write("inventory", "r", (str(number),), tuple(self._items[number]))
        for number in range(1, scale.customers + 1):
            yield self._customer(number, "r")
        yield from self._past()

    def _customer(self, number: int, op: str) -> Write:
        self._customers[number] = [
            *(str(number), str(self._rng.randint(1, 2)), f"Given{number}", f"Family{number}"),
            *(f"customer{number}@example.org", "true", _time(self._now), None),
        ]
        return Write("customer", op, (str(number),), tuple(self._customers[number]))

    def _past(self) -> Iterator[Write]:
        """Rentals in the order of their dates; each item is out at most once at a time."""
        rng, scale = self._rng, self.scale
        begin = self.start - timedelta(days=HISTORY_DAYS)
        free = dict.fromkeys(range(1, scale.items + 1), begin)
        step = timedelta(days=HISTORY_DAYS) / scale.rentals
        out: dict[int, _Rental] = {}
        for number in range(1, scale.rentals + 1):
            at = begin + step * number
            item = rng.randint(1, scale.items)
            while free[item] >= at:
                item = rng.randint(1, scale.items)
            back = at + timedelta(minutes=rng.randint(600, 13_000))
            free[item] = back
            self._rentals += 1
            rental = _Rental(
                self._rentals, at, item, rng.randint(1, scale.customers), back if back < self.start else None
            )
            if rental.back is None:
                out[item] = rental
            yield rental.write("r")
            if rental.back is not None:
                yield self._pay(rental, self._rate(rental), rental.back, "r")
                late = self._late_days(rental)
                if late and rng.random() < 0.6:
                    yield self._pay(rental, 150 * late, rental.back, "r")
                elif late and len(self._owing) < 5_000:
                    self._owing.append(rental)
        self._out = list(out.values())
        self._free = [item for item in range(1, scale.items + 1) if item not in out]

    # --- what goes on ---

    def traffic(self) -> Iterator[Transaction]:
        """Transactions without end, each a little later than the one before."""
        rng = self._rng
        actions = (self._rent, self._give_back, self._pay_fee, self._look_up, self._edit_customer, self._set_status)
        rare = (self._cancel_payment, self._correct_film, self._merge_customers)
        weights = (400, 400, 90, 30, 20, 20, 10, 1, 0.2)
        # The pool of open rentals stays about as large as it was.
        usual = max(1, len(self._out))
        while True:
            action = rng.choices((*actions, *rare), weights)[0]
            if action == self._rent and len(self._out) > 1.2 * usual:
                action = self._give_back
            elif action == self._give_back and len(self._out) < 0.8 * usual:
                action = self._rent
            writes = action()
            if writes:
                self._now += self._step * len(writes)
                yield Transaction(_ms(self._now), writes)

    def _rent(self) -> list[Write]:
        """A rental; three of ten are entered days later, from paper: they are the ones that come back late."""
        if not self._free:
            return []
        rng = self._rng
        item = _take(rng, self._free)
        at = self._now
        if rng.random() < 0.3:
            at -= timedelta(minutes=rng.randint(600, 13_000))
        self._rentals += 1
        rental = _Rental(self._rentals, at, item, rng.randint(1, len(self._customers)))
        self._out.append(rental)
        return [rental.write("c")]

    def _give_back(self) -> list[Write]:
        """A return with the payment of the rate; a late one pays its fee at once, or later, or never."""
        if not self._out:
            return []
        rental = _take(self._rng, self._out)
        rental.back = self._now
        self._free.append(rental.item)
        if self._late_days(rental):
            self._owing.append(rental)
        return [rental.write("u"), self._pay(rental, self._rate(rental), self._now, "c")]

    def _pay_fee(self) -> list[Write]:
        if not self._owing:
            return []
        rental = _take(self._rng, self._owing)
        days = max(1, self._late_days(rental))
        return [self._pay(rental, 150 * days if self._rng.random() < 0.7 else 75, self._now, "c")]

    def _look_up(self) -> list[Write]:
        """An update that changes no column of the declared ones, as a `last_update` does."""
        number = self._rng.randint(1, self.scale.items)
        return [Write("inventory", "u", (str(number),), tuple(self._items[number]))]

    def _edit_customer(self) -> list[Write]:
        """A new mail address, which no model reads; one of ten joins."""
        rng = self._rng
        if rng.random() < 0.1:
            return [self._customer(len(self._customers) + 1, "c")]
        number = rng.randint(1, self.scale.customers)
        self._customers[number][4] = f"mail{rng.randint(1, 10**9)}@example.org"
        return [Write("customer", "u", (str(number),), tuple(self._customers[number]))]

    def _set_status(self) -> list[Write]:
        """Damaged, or repaired."""
        number = self._rng.randint(1, self.scale.items)
        item = self._items[number]
        item[3] = "damaged" if item[3] == "available" else "available"
        return [Write("inventory", "u", (str(number),), tuple(item))]

    def _cancel_payment(self) -> list[Write]:
        if not self._payments:
            return []
        key = _take(self._rng, self._payments)
        return [Write("payment", "d", (key,), None)]

    def _correct_film(self) -> list[Write]:
        """A corrected rental duration reaches every rental of the film."""
        number = self._rng.randint(1, self.scale.films)
        self._films[number][2] = str(self._rng.randint(3, 7))
        return [Write("film", "u", (str(number),), tuple(self._films[number]))]

    def _merge_customers(self) -> list[Write]:
        """One customer's open rentals become another's; the first is no longer active."""
        rng = self._rng
        gone, stays = rng.randint(1, self.scale.customers), rng.randint(1, self.scale.customers)
        writes = []
        for rental in self._out:
            if rental.customer == gone != stays:
                rental.customer = stays
                writes.append(rental.write("u"))
        self._customers[gone][5] = "false"
        return [*writes, Write("customer", "u", (str(gone),), tuple(self._customers[gone]))]

    def _pay(self, rental: _Rental, cents: int, at: datetime, op: str) -> Write:
        self._paid += 1
        key = str(self._paid)
        row: Row = (key, str(rental.customer), "1", str(rental.number), _money(min(cents, 99_999)), _time(at))
        if op == "c":
            self._payments.append(key)
        return Write("payment", op, (key,), row)

    def _rate(self, rental: _Rental) -> int:
        rate = self._films[int(self._items[rental.item][1] or 0)][3] or ""
        return int(rate.replace(".", ""))

    def _late_days(self, rental: _Rental) -> int:
        days = int(self._films[int(self._items[rental.item][1] or 0)][2] or 0)
        back = rental.back or self._now
        return max(0, (back.date() - (rental.at + timedelta(days=days)).date()).days)


def _take(rng: random.Random, things: list[_Thing]) -> _Thing:
    """Remove any one, in constant time."""
    place = rng.randrange(len(things))
    things[place], things[-1] = things[-1], things[place]
    return things.pop()


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _time(moment: datetime) -> str:
    return str(moment)[:19]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class Encoder:
    """Turns what the shop does into messages, as the built-in capture of PostgreSQL writes them."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self._number = 0

    def snapshot(self, writes: Iterable[Write], at: datetime = START) -> Iterator[Message]:
        """All rows as one snapshot, between its boundaries, at the shop's start."""
        ts = _ms(at)
        yield self._boundary("BEGIN", "snapshot:1", ts)
        for write in writes:
            yield self._message(write, ts, None)
        yield self._boundary("END", "snapshot:1", ts)

    def transaction(self, transaction: Transaction) -> Iterator[Message]:
        """A transaction between its boundaries."""
        self._number += 1
        name, ts = str(self._number), transaction.ts_ms
        yield self._boundary("BEGIN", name, ts)
        for write in transaction.writes:
            yield self._message(write, ts, name)
        yield self._boundary("END", name, ts)

    def _message(self, write: Write, ts: int, transaction: str | None) -> Message:
        source = Source("postgresql", "bench", "shop", "public", write.table, ts, lsn=self._number)
        table = self._tables[write.table]
        return Message(
            *encode_change(table, write.op, write.key, write.row, source=source, transaction=transaction), ts
        )

    @staticmethod
    def _boundary(status: str, name: str, ts: int) -> Message:
        return Message(*encode_boundary(status, name, ts), ts)
