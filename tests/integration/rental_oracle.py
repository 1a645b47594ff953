"""The rental domain computed in plain Python from raw rows, independently of SQL and of the engine."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

Row = Mapping[str, Any]
Models = dict[str, dict[Any, dict[str, Any]]]
KEYS = {
    "rental_status": "rental_id",
    "late_fees": "rental_id",
    "inventory_status": "inventory_id",
    "customer_account": "customer_id",
}
BUCKETS = {
    "current": "aging_current",
    "1-30": "aging_1_30",
    "31-60": "aging_31_60",
    "61-90": "aging_61_90",
    "over 90": "aging_over_90",
}


def local_day(moment: datetime, zone: str) -> date:
    """The calendar day of a moment in a time zone."""
    return moment.astimezone(ZoneInfo(zone)).date()


@lru_cache(maxsize=10_000)
def next_midnight(moment: datetime, zone: str) -> datetime:
    """The first moment, to the second, whose local day is another: searched, not calculated."""
    today = local_day(moment, zone)
    begin = moment.astimezone(UTC).replace(microsecond=0)
    hour = next(h for h in range(1, 49) if local_day(begin + timedelta(hours=h), zone) != today)
    seconds = range(3600 * (hour - 1), 3600 * hour + 1)
    after = bisect_left(seconds, True, key=lambda s: local_day(begin + timedelta(seconds=s), zone) != today)
    return begin + timedelta(seconds=seconds[after])


def compute(
    tables: Mapping[str, Iterable[Row]],
    *,
    now: datetime,
    rate: Decimal = Decimal("1.50"),
    zone: str = "UTC",
    fees_from: date | None = None,
    missing_after: int | None = None,
    write_offs: Iterable[int] = (),
) -> Models:
    """Models by name, rows by key, columns by name, as they must be at `now`. Rows may lack the rows they name."""
    today = local_day(now, zone)
    films = {f["film_id"]: f for f in tables["film"]}
    items = {i["inventory_id"]: i for i in tables["inventory"]}
    customers = {c["customer_id"]: c for c in tables["customer"]}
    gone = frozenset(write_offs)
    paid: dict[int, Decimal] = defaultdict(Decimal)
    last_payment: dict[int, datetime] = {}
    for payment in tables["payment"]:
        if payment["rental_id"] is not None:
            paid[payment["rental_id"]] += payment["amount"]
        customer = payment["customer_id"]
        last_payment[customer] = max(last_payment.get(customer, payment["payment_date"]), payment["payment_date"])
    statuses, fees = {}, {}
    open_items: dict[int, list[datetime]] = defaultdict(list)
    for rental in tables["rental"]:
        number, back = rental["rental_id"], rental["return_date"]
        item = items.get(rental["inventory_id"], {})
        film = films.get(item.get("film_id"), {})
        customer = customers.get(rental["customer_id"], {})
        due = rental["rental_date"] + timedelta(days=film["rental_duration"]) if film else None
        until = back.date() if back else today
        days = max((until - due.date()).days, 0) if due else 0
        late = due is not None and due.date() < today
        statuses[number] = {
            "customer_id": rental["customer_id"], "first_name": customer.get("first_name"),
            "last_name": customer.get("last_name"), "film_id": item.get("film_id"), "title": film.get("title"),
            "rental_date": rental["rental_date"], "due_at": due, "return_date": back,
            "status": "completed" if back else "overdue" if late else "active", "days_overdue": days,
        }  # fmt: skip
        if back is None:
            open_items[rental["inventory_id"]].append(rental["rental_date"])
        if due and days and (fees_from is None or due.date() >= fees_from):
            fees[number] = _fee(rental, film, due, days, paid[number], today, rate, written_off=number in gone)
            fees[number]["store_id"] = item.get("store_id")
    by_customer: dict[int, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for row in statuses.values():
        by_customer[row["customer_id"]][0].append(row)
    for row in fees.values():
        by_customer[row["customer_id"]][1].append(row)
    return {
        "rental_status": statuses,
        "late_fees": fees,
        "inventory_status": {
            number: _item(item, films.get(item["film_id"]), open_items.get(number, []), today, missing_after)
            for number, item in items.items()
        },
        "customer_account": {
            number: _account(customer, *by_customer[number], last_payment.get(number))
            for number, customer in customers.items()
        },
    }


def _fee(
    rental: Row, film: Row, due: datetime, days: int, paid: Decimal, today: date, rate: Decimal, *, written_off: bool
) -> dict[str, Any]:
    amount = days * rate
    covered = min(amount, max(paid - film["rental_rate"], Decimal(0)))
    if covered >= amount:
        status = "paid"
    elif written_off:
        status = "written_off"
    else:
        status = "partially_paid" if covered else "pending"
    age = (today - rental["return_date"].date()).days if rental["return_date"] else 0
    limits = [(1, "current"), (31, "1-30"), (61, "31-60"), (91, "61-90")]
    return {
        "customer_id": rental["customer_id"], "due_at": due, "return_date": rental["return_date"],
        "days_overdue": days, "fee_amount": amount, "fee_paid": covered, "fee_status": status,
        "balance": Decimal(0) if written_off else amount - covered,
        "aging": next((name for limit, name in limits if age < limit), "over 90"),
        "calculated_date": due.date() + timedelta(days=days),
    }  # fmt: skip


def _item(
    item: Row, film: Row | None, open_since: list[datetime], today: date, missing_after: int | None
) -> dict[str, Any]:
    late = (
        (today - (min(open_since) + timedelta(days=film["rental_duration"])).date()).days if open_since and film else 0
    )
    if item.get("status") in ("damaged", "missing"):
        status = str(item["status"])
    elif open_since:
        status = "missing" if missing_after is not None and film and late > missing_after else "rented"
    else:
        status = "available"
    return {
        "film_id": item["film_id"], "store_id": item["store_id"], "status": status, "open_rentals": len(open_since)
    }  # fmt: skip


def _account(customer: Row, rentals: list[Row], fees: list[Row], last_payment: datetime | None) -> dict[str, Any]:
    overdue = sum(r["status"] == "overdue" for r in rentals)
    out = sum(r["status"] != "completed" for r in rentals)
    balance = sum((f["balance"] for f in fees), Decimal(0))
    active = next((bool(customer[c]) for c in ("active", "activebool") if customer.get(c) is not None), True)
    if overdue > 3:
        status = "suspended"
    elif overdue:
        status = "past_due"
    elif balance > 0:
        status = "at_risk"
    else:
        status = "closed" if not active and not out else "good_standing"
    account = {
        "first_name": customer["first_name"], "last_name": customer["last_name"], "store_id": customer["store_id"],
        "active": active, "balance": balance, "total_rentals": len(rentals), "unreturned_rentals": out,
        "overdue_rentals": overdue, "total_late_fees": sum((f["fee_amount"] for f in fees), Decimal(0)),
        "paid_late_fees": sum((f["fee_paid"] for f in fees), Decimal(0)), "last_payment_date": last_payment,
        "status": status,
    }  # fmt: skip
    for bucket, column in BUCKETS.items():
        account[column] = sum((f["balance"] for f in fees if f["aging"] == bucket), Decimal(0))
    return account


def day_totals(models: Models) -> dict[str, Any]:
    """What daily_summary keeps of a day that ends with these models: sums over all rentals, fees and items."""
    rentals, fees = models["rental_status"].values(), models["late_fees"].values()
    totals: dict[str, Any] = {
        "open_rentals": sum(r["status"] != "completed" for r in rentals),
        "overdue_rentals": sum(r["status"] == "overdue" for r in rentals),
        "fees_accrued": sum((f["fee_amount"] for f in fees), Decimal(0)),
        "fees_collected": sum((f["fee_paid"] for f in fees), Decimal(0)),
        "receivable": sum((f["balance"] for f in fees), Decimal(0)),
    }
    for bucket, column in BUCKETS.items():
        totals[column] = sum((f["balance"] for f in fees if f["aging"] == bucket), Decimal(0))
    items = models["inventory_status"].values()
    for status in ("available", "rented", "damaged", "missing"):
        totals[f"items_{status}"] = sum(item["status"] == status for item in items)
    return totals


class Transition(NamedTuple):
    """One row of inventory_audit without its number."""

    at: datetime
    was: str | None
    now: str | None
    cause: str


class Replay:
    """inventory_audit and daily_summary worked out by walking through time, one state after the other.

    Args:
        parameters: as `compute` names them; they may be changed between states.
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.parameters = parameters
        self.clock: datetime | None = None
        self.audit: dict[int, list[Transition]] = defaultdict(list)
        self.days: dict[date, dict[str, Any]] = {}
        self.models: Models = {}
        self._day: date | None = None

    def move(self, tables: Mapping[str, Collection[Row]], moment: datetime | None) -> None:
        """Let time pass to the moment with these rows as they are: each midnight on the way is a state."""
        while self.clock is not None and moment is not None:
            midnight = next_midnight(self.clock, self.parameters["zone"])
            if midnight > moment:
                break
            self.clock = midnight
            self._observe(tables, "due")
        if moment is not None and self.clock is None:
            self.clock = moment  # the first day has begun, whatever its first unit brings
            self._observe(tables, "due")
        elif moment is not None and self.clock is not None and moment > self.clock:
            self.clock = moment

    def change(self, tables: Mapping[str, Collection[Row]], cause: str) -> None:
        """The rows are these from now on."""
        self._observe(tables, cause)

    def _observe(self, tables: Mapping[str, Collection[Row]], cause: str) -> None:
        assert self.clock is not None
        before = {n: row["status"] for n, row in self.models.get("inventory_status", {}).items()}
        day = local_day(self.clock, self.parameters["zone"])
        if self._day is not None and day != self._day:
            self.days.setdefault(self._day, day_totals(self.models))
        self._day = day
        self.models = compute(
            tables, now=self.clock, write_offs=[w["rental_id"] for w in tables["write_off"]], **self.parameters
        )
        after = {n: row["status"] for n, row in self.models["inventory_status"].items()}
        for number in before.keys() | after.keys():
            if before.get(number) != after.get(number):
                self.audit[number].append(Transition(self.clock, before.get(number), after.get(number), cause))
