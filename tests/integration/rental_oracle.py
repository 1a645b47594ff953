"""The rental domain computed in plain Python from raw rows, independently of SQL and of the engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

Row = Mapping[str, Any]


def compute(
    tables: Mapping[str, Iterable[Row]],
    *,
    now: datetime,
    rate: Decimal = Decimal("1.50"),
    zone: str = "UTC",
    fees_from: date | None = None,
    missing_after: int | None = None,
    write_offs: Iterable[int] = (),
) -> dict[str, dict[Any, dict[str, Any]]]:
    """Models by name, rows by key, columns by name, as they must be at `now`."""
    today = now.astimezone(ZoneInfo(zone)).date()
    films = {f["film_id"]: f for f in tables["film"]}
    items = {i["inventory_id"]: i for i in tables["inventory"]}
    paid: dict[int, Decimal] = defaultdict(Decimal)
    last_payment: dict[int, datetime] = {}
    for payment in tables["payment"]:
        if payment["rental_id"] is not None:
            paid[payment["rental_id"]] += payment["amount"]
        customer = payment["customer_id"]
        last_payment[customer] = max(last_payment.get(customer, payment["payment_date"]), payment["payment_date"])
    statuses, fees, open_items = {}, {}, {}
    for rental in tables["rental"]:
        film = films[items[rental["inventory_id"]]["film_id"]]
        due = rental["rental_date"] + timedelta(days=film["rental_duration"])
        back = rental["return_date"]
        until = back.date() if back else today
        days = max((until - due.date()).days, 0)
        status = "completed" if back else ("overdue" if due.date() < today else "active")
        statuses[rental["rental_id"]] = {
            "customer_id": rental["customer_id"], "due_at": due, "status": status, "days_overdue": days
        }  # fmt: skip
        if back is None:
            open_items[rental["inventory_id"]] = due
        if days and (fees_from is None or due.date() >= fees_from):
            fees[rental["rental_id"]] = _fee(rental, film, due, days, paid, today, rate, set(write_offs))
    return {
        "rental_status": statuses,
        "late_fees": fees,
        "inventory_status": {
            number: {"status": _item_status(item, open_items.get(number), today, missing_after)}
            for number, item in items.items()
        },
        "customer_account": {
            c["customer_id"]: _account(c, statuses, fees, last_payment)
            for c in _grouped(tables["customer"], statuses, fees)
        },
    }


def _fee(
    rental: Row,
    film: Row,
    due: datetime,
    days: int,
    paid: Mapping[int, Decimal],
    today: date,
    rate: Decimal,
    write_offs: set[int],
) -> dict[str, Any]:
    amount = days * rate
    beyond = max(paid.get(rental["rental_id"], Decimal(0)) - film["rental_rate"], Decimal(0))
    covered = min(amount, beyond)
    if covered >= amount:
        status = "paid"
    elif rental["rental_id"] in write_offs:
        status = "written_off"
    else:
        status = "partially_paid" if covered else "pending"
    age = (today - rental["return_date"].date()).days if rental["return_date"] else 0
    buckets = [(1, "current"), (31, "1-30"), (61, "31-60"), (91, "61-90")]
    aging = next((name for limit, name in buckets if age < limit), "over 90")
    balance = Decimal(0) if rental["rental_id"] in write_offs else amount - covered
    return {
        "customer_id": rental["customer_id"], "days_overdue": days, "fee_amount": amount, "fee_paid": covered,
        "fee_status": status, "balance": balance, "aging": aging, "calculated_date": due.date() + timedelta(days=days),
    }  # fmt: skip


def _item_status(item: Row, due: datetime | None, today: date, missing_after: int | None) -> str:
    if item.get("status") in ("damaged", "missing"):
        return str(item["status"])
    if due is None:
        return "available"
    if missing_after is not None and (today - due.date()).days > missing_after:
        return "missing"
    return "rented"


def _grouped(
    customers: Iterable[Row], statuses: Mapping[int, Row], fees: Mapping[int, Row]
) -> Iterable[dict[str, Any]]:
    rentals: dict[int, list[Row]] = defaultdict(list)
    owed: dict[int, list[Row]] = defaultdict(list)
    for row in statuses.values():
        rentals[row["customer_id"]].append(row)
    for row in fees.values():
        owed[row["customer_id"]].append(row)
    for customer in customers:
        number = customer["customer_id"]
        yield {**customer, "_rentals": rentals[number], "_fees": owed[number]}


def _account(
    customer: Row, _s: Mapping[int, Row], _f: Mapping[int, Row], last: Mapping[int, datetime]
) -> dict[str, Any]:
    rentals, fees = customer["_rentals"], customer["_fees"]
    overdue = sum(r["status"] == "overdue" for r in rentals)
    out = sum(r["status"] != "completed" for r in rentals)
    balance = sum((f["balance"] for f in fees), Decimal(0))
    if overdue > 3:
        status = "suspended"
    elif overdue:
        status = "past_due"
    elif balance > 0:
        status = "at_risk"
    elif not customer["active"] and not out:
        status = "closed"
    else:
        status = "good_standing"
    account = {
        "balance": balance, "total_rentals": len(rentals), "unreturned_rentals": out, "overdue_rentals": overdue,
        "total_late_fees": sum((f["fee_amount"] for f in fees), Decimal(0)),
        "paid_late_fees": sum((f["fee_paid"] for f in fees), Decimal(0)),
        "last_payment_date": last.get(customer["customer_id"]), "status": status,
    }  # fmt: skip
    for column, bucket in (
        ("aging_current", "current"), ("aging_1_30", "1-30"), ("aging_31_60", "31-60"), ("aging_61_90", "61-90"),
        ("aging_over_90", "over 90"),
    ):  # fmt: skip
        account[column] = sum((f["balance"] for f in fees if f["aging"] == bucket), Decimal(0))
    return account
