"""Mistakes known from systems that charge late fees: each test fails on a system that makes its mistake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal

from rental_shop import LiveShop, furnished, moment

from consumers.engine.units import Unit

Make = Callable[..., LiveShop]


def together(shop: LiveShop, happen: Callable[[], None]) -> None:
    """Whatever happens reaches the engine in one batch, as after a night in which nothing ran."""
    made: list[Unit] = []
    take, shop.take = shop.take, made.append
    happen()
    shop.take = take
    shop.engine.apply(made)


def test_fees_are_not_multiplied_by_payments_nor_payments_by_rentals(shop: LiveShop) -> None:
    """Two late rentals with three payments each: each fee counts once, each payment once."""
    for number in (1, 2):
        shop.rent(number, item=number, customer=1, at="2024-03-01 10:00", back="2024-03-06 10:00")
        for payment in range(3):
            shop.pay(number * 10 + payment, number, "1.50", f"2024-03-0{payment + 6} 10:00")
    shop.at("2024-03-08 10:00")
    account = shop.row("customer_account")
    # 4.50 paid for 2.99 each leaves 1.51 of a fee of 3.00.
    assert (account["total_late_fees"], account["paid_late_fees"], account["balance"], account["total_rentals"]) == (
        Decimal("6.00"), Decimal("3.02"), Decimal("2.98"), 2
    )  # fmt: skip
    shop.reach("2024-03-09")
    assert shop.all("daily_summary", "day")[date(2024, 3, 8)]["fees_accrued"] == Decimal("6.00")


def test_there_is_one_definition_of_a_day(new_shop: Make) -> None:
    """Hours late do not matter, nor the day in UTC: every table counts the shop's calendar days, in one and the same way."""
    shop = furnished(new_shop(zone="America/New_York", missing_after=0))
    shop.rent(1, item=1, customer=1, at="2024-03-01 23:50", back="2024-03-05 00:10")  # twenty minutes late
    shop.rent(2, item=2, customer=2, at="2024-03-01 00:10")
    shop.rent(3, item=3, customer=2, at="2024-03-01 00:10", back="2024-03-04 23:50")  # nearly a day late, on its day
    shop.at("2024-03-05 04:59")  # 23:59 on the 4th in New York, where rental 2 is due today
    days = {n: row["days_overdue"] for n, row in shop.all("rental_status").items()}
    assert days == {1: 1, 2: 0, 3: 0}
    assert shop.all("late_fees").keys() == {1}
    assert shop.row("inventory_status", 2)["status"] == "rented"
    shop.reach("2024-03-05 05:00")
    rental, fee = shop.row("rental_status", 2), shop.row("late_fees", 2)
    assert (rental["status"], rental["days_overdue"], fee["days_overdue"], fee["calculated_date"]) == (
        "overdue", 1, 1, date(2024, 3, 5)
    )  # fmt: skip
    assert shop.row("inventory_status", 2)["status"] == "missing"
    assert shop.row("customer_account", 2)["overdue_rentals"] == 1
    assert max(shop.all("daily_summary", "day")) == date(2024, 3, 4)


def test_a_fee_is_right_though_nothing_ran_before_the_return(shop: LiveShop) -> None:
    """Rented, then nothing for weeks, then the return: the fee is that of the return's day, neither frozen nor grown on."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.at("2024-03-01 10:00")

    def late() -> None:
        shop.bring_back(1, at="2024-03-24 10:00")
        shop.at("2024-04-10 10:00")

    together(shop, late)
    assert (shop.row("late_fees")["days_overdue"], shop.row("late_fees")["fee_amount"]) == (20, Decimal("30.00"))
    # The days in between were not skipped: each has the fee as it was then.
    days = shop.all("daily_summary", "day")
    assert [days[date(2024, 3, n)]["fees_accrued"] for n in (4, 5, 6, 23)] == [0, Decimal("1.50"), 3, Decimal("28.50")]


def test_a_rental_late_and_returned_between_two_runs_is_charged(shop: LiveShop) -> None:
    """Rental, lateness and return arrive in one batch: the fee is there, and so are both transitions of the item."""

    def all_at_once() -> None:
        shop.at("2024-03-01 09:00")
        shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
        shop.at("2024-03-01 10:00")
        shop.bring_back(1, at="2024-03-09 10:00")
        shop.at("2024-03-09 10:00")

    together(shop, all_at_once)
    assert shop.row("late_fees")["fee_amount"] == Decimal("7.50")
    assert [(at, now) for at, _, now, _ in shop.audit()] == [
        (moment("2024-03-01 09:00"), "available"),
        (moment("2024-03-01 10:00"), "rented"),
        (moment("2024-03-09 10:00"), "available"),
    ]


def test_the_status_of_a_fee_moves(shop: LiveShop) -> None:
    """Pending → partially_paid → paid → (a payment taken back) partially_paid → written_off."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-06 10:00")
    shop.at("2024-03-06 10:00")
    seen = [shop.row("late_fees")["fee_status"]]
    for number, amount in enumerate(("3.99", "2.00"), start=1):
        shop.pay(number, 1, amount, f"2024-03-0{6 + number} 10:00")
        shop.at(f"2024-03-0{6 + number} 10:00")
        seen.append(shop.row("late_fees")["fee_status"])
    shop.remove("payment", 2)
    shop.at("2024-03-09 10:00")
    seen.append(shop.row("late_fees")["fee_status"])
    shop.write_off(1)
    shop.at("2024-03-10 10:00")
    seen.append(shop.row("late_fees")["fee_status"])
    assert seen == ["pending", "partially_paid", "paid", "partially_paid", "written_off"]


def test_the_audit_is_written_for_items_that_change_and_change_back_in_one_batch(shop: LiveShop) -> None:
    """Rented and returned within a minute and a batch: both transitions are in the audit, each with its cause."""
    shop.at("2024-03-01 09:00")
    causes: list[str] = []

    def quickly() -> None:
        shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
        causes.append(shop.at("2024-03-01 10:00").cause)
        shop.bring_back(1, at="2024-03-01 10:01")
        causes.append(shop.at("2024-03-01 10:01").cause)

    together(shop, quickly)
    assert [(was, now, cause) for _, was, now, cause in shop.audit()[1:]] == [
        ("available", "rented", causes[0]),
        ("rented", "available", causes[1]),
    ]


def test_rented_does_not_overwrite_damaged(shop: LiveShop) -> None:
    """An item that people set to damaged or missing stays so when it is rented, returned or too long out."""
    shop.parameters(missing_after=1)
    for number, status in ((1, "damaged"), (2, "missing")):
        shop.item(number, status=status)
        shop.rent(number, item=number, customer=1, at="2024-03-01 10:00")
    shop.at("2024-03-01 10:00")
    seen = [[shop.row("inventory_status", n)["status"] for n in (1, 2)]]
    shop.reach("2024-03-20")
    seen.append([shop.row("inventory_status", n)["status"] for n in (1, 2)])
    shop.bring_back(1, at="2024-03-20 10:00")
    shop.bring_back(2, at="2024-03-20 10:00")
    shop.at("2024-03-20 10:00")
    seen.append([shop.row("inventory_status", n)["status"] for n in (1, 2)])
    assert seen == [["damaged", "missing"]] * 3


def test_a_null_status_becomes_rented(shop: LiveShop) -> None:
    """An item without a status in the source is available, rented and available like any other."""
    shop.item(1, status=None)
    shop.at("2024-03-01 09:00")
    seen = [shop.row("inventory_status")["status"]]
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.at("2024-03-01 10:00")
    seen.append(shop.row("inventory_status")["status"])
    shop.bring_back(1, at="2024-03-02 10:00")
    shop.at("2024-03-02 10:00")
    seen.append(shop.row("inventory_status")["status"])
    assert seen == ["available", "rented", "available"]
    assert [now for _, _, now, _ in shop.audit()] == seen


def test_the_wall_clock_plays_no_part(shop: LiveShop) -> None:
    """In a history of years ago an open rental is late by the days of that history, and is so again in a second one."""
    shop.rent(1, item=1, customer=1, at="2005-05-24 22:53")
    shop.at("2005-05-24 22:53")
    shop.reach("2005-05-30 10:00")
    assert shop.row("rental_status")["days_overdue"] == 3
    shop.assert_as_computed()
    assert max(shop.all("daily_summary", "day")) == date(2005, 5, 29)
