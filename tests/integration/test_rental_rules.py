"""The rules of the rental domain's derived tables, each on a shop small enough to work it out by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from rental_oracle import local_day
from rental_shop import LiveShop, furnished, moment

from consumers.engine.units import Unit

Make = Callable[..., LiveShop]


def local(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- days ---


def test_due_is_the_rental_plus_the_films_days_at_the_same_time_of_day(shop: LiveShop) -> None:
    """due_at = rental_date + rental_duration days, the time of day kept; the view shows the same rows."""
    shop.rent(1, item=1, customer=1, at="2024-02-27 17:30:05")
    shop.at("2024-02-27 17:30:05")
    row = shop.row("rental_status")
    assert row["due_at"] == local("2024-03-01 17:30:05")
    assert (row["first_name"], row["last_name"], row["film_id"], row["title"]) == ("F1", "L1", 1, "FILM 1")
    assert shop.all("v_rental_status", "rental_id") == shop.all("rental_status")


@pytest.mark.parametrize(
    ("clock", "status", "days"),
    [
        ("2024-03-04 17:30:00", "active", 0),
        ("2024-03-04 23:59:59.999999", "active", 0),  # the hour it was due at is past, the day is not
        ("2024-03-05 00:00:00", "overdue", 1),
        ("2024-03-05 23:59:59", "overdue", 1),
        ("2024-03-06 00:00:00", "overdue", 2),
        ("2024-04-04 12:00:00", "overdue", 31),
    ],
)
def test_overdue_begins_when_the_due_day_ends(shop: LiveShop, clock: str, status: str, days: int) -> None:
    """Overdue means that the due date is before today; days are calendar days, and the fee goes with them."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 17:30")
    shop.at("2024-03-01 17:30")
    shop.reach(clock)
    row = shop.row("rental_status")
    assert (row["status"], row["days_overdue"]) == (status, days)
    fees = [(fee["days_overdue"], fee["fee_amount"]) for fee in shop.all("late_fees").values()]
    assert fees == ([(days, days * Decimal("1.50"))] if days else [])


@pytest.mark.parametrize(
    ("back", "days"),
    [
        ("2024-03-02 09:00", 0),
        ("2024-03-04 17:29", 0),
        ("2024-03-04 23:59:59", 0),  # late by the hour, on time by the day
        ("2024-03-05 00:00", 1),  # 6.5 hours late, on the next calendar day
        ("2024-03-05 23:00", 1),
        ("2024-03-09 00:01", 5),
    ],
)
def test_a_return_settles_the_days(shop: LiveShop, back: str, days: int) -> None:
    """A returned rental is completed, late by the calendar days between its due date and its return."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 17:30", back=back)
    shop.at("2024-04-01")
    row = shop.row("rental_status")
    assert (row["status"], row["days_overdue"]) == ("completed", days)
    assert {n: fee["fee_amount"] for n, fee in shop.all("late_fees").items()} == (
        {1: days * Decimal("1.50")} if days else {}
    )


@pytest.mark.parametrize(
    ("zone", "rented", "before", "overdue", "second"),
    [
        # The due day ends at local midnight, wherever the zone's hours were moved on that day.
        ("UTC", "2024-03-01 12:00", "2024-03-04 23:59:59", "2024-03-05 00:00:00", "2024-03-06 00:00:00"),
        ("Europe/Berlin", "2024-03-28 22:00", "2024-03-31 21:59:59", "2024-03-31 22:00:00", "2024-04-01 22:00:00"),
        ("Europe/Berlin", "2024-10-23 01:00", "2024-10-26 21:59:59", "2024-10-26 22:00:00", "2024-10-27 23:00:00"),
        ("America/New_York", "2024-03-07 23:59", "2024-03-11 03:59:59", "2024-03-11 04:00:00", "2024-03-12 04:00:00"),
        ("America/New_York", "2024-10-31 08:00", "2024-11-04 04:59:59", "2024-11-04 05:00:00", "2024-11-05 05:00:00"),
        ("Pacific/Auckland", "2024-04-03 10:00", "2024-04-06 10:59:59", "2024-04-06 11:00:00", "2024-04-07 12:00:00"),
        ("Asia/Kathmandu", "2024-04-03 10:00", "2024-04-06 18:14:59", "2024-04-06 18:15:00", "2024-04-07 18:15:00"),
        # Midnight does not exist: the clock goes from 24:00 to 01:00.
        ("America/Sao_Paulo", "2018-10-31 10:00", "2018-11-04 02:59:59", "2018-11-04 03:00:00", "2018-11-05 02:00:00"),
        # The hour before midnight does not exist.
        ("America/Scoresbysund", "2025-03-26 10:00", "2025-03-30 00:59:59", "2025-03-30 01:00:00", "2025-03-31 01:00:00"),
        # Midnight comes twice: the day begins with the first.
        ("America/Havana", "2024-10-30 10:00", "2024-11-03 03:59:59", "2024-11-03 04:00:00", "2024-11-04 05:00:00"),
        ("Atlantic/Azores", "2024-10-23 10:00", "2024-10-26 23:59:59", "2024-10-27 00:00:00", "2024-10-28 01:00:00"),
    ],
)  # fmt: skip
def test_a_day_is_a_calendar_day_in_the_shops_time_zone(
    new_shop: Make, zone: str, rented: str, before: str, overdue: str, second: str
) -> None:
    """A fee grows at local midnight, to the second, whatever daylight saving does to that night."""
    shop = furnished(new_shop(zone=zone))
    shop.rent(1, item=1, customer=1, at=rented)
    shop.at(rented + "+00:00")
    seen = []
    for clock in (before, overdue, second):
        shop.reach(clock)
        seen.append((shop.row("rental_status")["status"], shop.row("rental_status")["days_overdue"]))
        shop.assert_as_computed(zone=zone)
    assert seen == [("active", 0), ("overdue", 1), ("overdue", 2)]
    days = shop.all("daily_summary", "day")
    due = shop.row("rental_status")["due_at"].date()
    assert days.keys() == {due - timedelta(days=n) for n in range((due - min(days)).days + 1)} | {
        due + timedelta(days=1)
    }
    assert [days[due]["overdue_rentals"], days[due + timedelta(days=1)]["overdue_rentals"]] == [0, 1]


# --- fees ---


def test_a_fee_grows_by_itself_and_is_final_on_return(shop: LiveShop) -> None:
    """While open the fee grows at each midnight without an event; after the return it never changes."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.at("2024-03-01 10:00")
    amounts = []
    for day in ("2024-03-05", "2024-03-06", "2024-03-07"):
        shop.reach(day)
        amounts.append((shop.row("late_fees")["fee_amount"], shop.row("late_fees")["calculated_date"]))
    assert amounts == [
        (Decimal("1.50"), date(2024, 3, 5)),
        (Decimal("3.00"), date(2024, 3, 6)),
        (Decimal("4.50"), date(2024, 3, 7)),
    ]
    shop.bring_back(1, at="2024-03-07 18:00")
    shop.at("2024-03-07 18:00")
    shop.reach("2024-12-31")
    fee = shop.row("late_fees")
    assert (fee["fee_amount"], fee["days_overdue"], fee["calculated_date"]) == (Decimal("4.50"), 3, date(2024, 3, 7))


@pytest.mark.parametrize(
    ("payments", "paid", "status", "balance"),
    [
        ([], "0", "pending", "6.00"),
        (["2.00"], "0", "pending", "6.00"),  # not even the rental
        (["2.99"], "0", "pending", "6.00"),  # the rental alone
        (["3.00"], "0.01", "partially_paid", "5.99"),
        (["2.99", "5.99"], "5.99", "partially_paid", "0.01"),
        (["2.99", "6.00"], "6.00", "paid", "0.00"),
        (["8.99"], "6.00", "paid", "0.00"),
        (["2.99", "2.00", "2.00", "2.00"], "6.00", "paid", "0.00"),
        (["50.00"], "6.00", "paid", "0.00"),  # at most the fee
        (["0.00", "0.00"], "0", "pending", "6.00"),
    ],
)
def test_what_is_paid_beyond_the_rental_pays_the_fee(
    shop: LiveShop, payments: list[str], paid: str, status: str, balance: str
) -> None:
    """fee_paid = payments of the rental beyond rental_rate, at most the fee; the fee is not multiplied by them."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-08 10:00")
    for number, amount in enumerate(payments, start=1):
        shop.pay(number, 1, amount, "2024-03-08 10:00")
    shop.at("2024-03-08 10:00")
    fee = shop.row("late_fees")
    assert (fee["fee_amount"], fee["fee_paid"], fee["fee_status"], fee["balance"]) == (
        Decimal("6.00"), Decimal(paid), status, Decimal(balance)
    )  # fmt: skip
    account = shop.row("customer_account")
    assert (account["total_late_fees"], account["paid_late_fees"], account["balance"]) == (
        Decimal("6.00"), Decimal(paid), Decimal(balance)
    )  # fmt: skip


def test_a_payment_in_advance_is_used_up_as_the_fee_grows(shop: LiveShop) -> None:
    """A fee that was paid is partially paid again at the midnight at which it outgrows the payment."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.pay(1, 1, "5.99", "2024-03-01 10:00")  # 3.00 beyond the rental: two days
    shop.at("2024-03-01 10:00")
    seen = []
    for day in ("2024-03-05", "2024-03-06", "2024-03-07"):
        shop.reach(day)
        fee = shop.row("late_fees")
        seen.append((fee["fee_status"], fee["fee_paid"], fee["balance"]))
    assert seen == [
        ("paid", Decimal("1.50"), Decimal(0)),
        ("paid", Decimal("3.00"), Decimal(0)),
        ("partially_paid", Decimal("3.00"), Decimal("1.50")),
    ]


def test_a_payment_of_no_rental_pays_no_fee(shop: LiveShop) -> None:
    """A payment whose rental is NULL counts for no rental, but it is the customer's last payment."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-08 10:00")
    shop.pay(1, None, "50.00", "2024-03-09 11:00")
    shop.at("2024-03-09 11:00")
    assert shop.row("late_fees")["fee_status"] == "pending"
    assert shop.row("customer_account")["balance"] == Decimal("6.00")
    assert shop.row("customer_account")["last_payment_date"] == local("2024-03-09 11:00")
    assert shop.row("customer_account", 2)["last_payment_date"] is None


def test_a_payment_corrected_moved_and_taken_back(shop: LiveShop) -> None:
    """A payment counts for the rental it names now, with the amount it has now."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-08 10:00")
    shop.rent(2, item=2, customer=2, at="2024-03-01 10:00", back="2024-03-08 10:00")
    shop.pay(1, 1, "8.99", "2024-03-08 10:00")
    shop.at("2024-03-08 10:00")

    def statuses() -> list[str]:
        return [row["fee_status"] for _, row in sorted(shop.all("late_fees").items())]

    seen = [statuses()]
    shop.put("payment", payment_id=1, rental_id=2)
    shop.at("2024-03-08 10:01")
    seen.append(statuses())
    shop.put("payment", payment_id=1, amount=Decimal("4.00"))
    shop.at("2024-03-08 10:02")
    seen.append(statuses())
    shop.remove("payment", 1)
    shop.at("2024-03-08 10:03")
    seen.append(statuses())
    assert seen == [["paid", "pending"], ["pending", "paid"], ["pending", "partially_paid"], ["pending", "pending"]]


def test_a_write_off_owes_nothing(shop: LiveShop) -> None:
    """A fee written off keeps its amount and owes nothing, though it grows; one that is paid stays paid."""
    for number, customer in ((1, 1), (2, 1), (3, 2)):
        shop.rent(number, item=number, customer=customer, at="2024-03-01 10:00")
    shop.pay(1, 2, "3.99", "2024-03-05 10:00")
    shop.pay(2, 3, "8.99", "2024-03-05 10:00", customer=2)
    for number in (1, 2, 3):
        shop.write_off(number)
    shop.at("2024-03-08 10:00")
    fees = shop.all("late_fees")
    assert {n: (f["fee_status"], f["fee_amount"], f["fee_paid"], f["balance"]) for n, f in fees.items()} == {
        1: ("written_off", Decimal("6.00"), Decimal(0), Decimal(0)),
        2: ("written_off", Decimal("6.00"), Decimal("1.00"), Decimal(0)),
        3: ("paid", Decimal("6.00"), Decimal("6.00"), Decimal(0)),
    }
    shop.reach("2024-03-09")
    assert shop.row("late_fees", 1)["fee_amount"] == Decimal("7.50")
    account = shop.row("customer_account")
    assert (account["balance"], account["total_late_fees"], account["status"]) == (0, Decimal("15.00"), "past_due")
    shop.remove("write_off", 1)
    shop.at("2024-03-09 01:00")
    assert (shop.row("late_fees", 1)["fee_status"], shop.row("late_fees", 1)["balance"]) == ("pending", Decimal("7.50"))


def test_rentals_due_before_fees_from_owe_nothing(new_shop: Make) -> None:
    """fees_from is compared with the due day: the day itself owes. The rental is overdue all the same."""
    shop = furnished(new_shop(fees_from=date(2024, 3, 5)))
    shop.rent(1, item=1, customer=1, at="2024-03-01 23:59:59")  # due on the 4th
    shop.rent(2, item=2, customer=2, at="2024-03-02 00:00:00")  # due on the 5th
    shop.at("2024-03-02 12:00")
    shop.reach("2024-03-08")
    assert {n: f["fee_amount"] for n, f in shop.all("late_fees").items()} == {2: Decimal("4.50")}
    accounts = {n: (a["balance"], a["overdue_rentals"], a["status"]) for n, a in shop.all("customer_account").items()}
    assert accounts == {1: (0, 1, "past_due"), 2: (Decimal("4.50"), 1, "past_due")}


def test_a_parameter_changes_what_depends_on_it(shop: LiveShop) -> None:
    """A new rate, zone or first day takes effect at once, for returned rentals too."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-06 10:00")
    shop.rent(2, item=2, customer=2, at="2024-03-01 10:00")
    shop.at("2024-03-06 20:00")
    shop.parameters(rate=Decimal("0.25"))
    shop.commit(None)
    assert {n: f["fee_amount"] for n, f in shop.all("late_fees").items()} == {1: Decimal("0.50"), 2: Decimal("0.50")}
    shop.parameters(rate=Decimal("0.25"), zone="Asia/Tokyo")  # there it is the 7th, 05:00
    shop.commit(None)
    assert {n: f["fee_amount"] for n, f in shop.all("late_fees").items()} == {1: Decimal("0.50"), 2: Decimal("0.75")}
    assert {n: f["aging"] for n, f in shop.all("late_fees").items()} == {1: "1-30", 2: "current"}
    shop.parameters(fees_from=date(2024, 3, 5))
    shop.commit(None)
    assert shop.all("late_fees") == {}


def test_a_corrected_film_moves_the_due_times_of_its_rentals(shop: LiveShop) -> None:
    """Another rental_duration makes rentals late or on time; another rental_rate changes what pays the fee."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-06 10:00")
    shop.pay(1, 1, "3.99", "2024-03-06 10:00")
    shop.at("2024-03-06 10:00")
    assert shop.row("late_fees")["fee_amount"] == Decimal("3.00")
    shop.film(1, days=4, rate="0.99")
    shop.at("2024-03-06 11:00")
    assert (shop.row("late_fees")["fee_amount"], shop.row("late_fees")["fee_status"]) == (Decimal("1.50"), "paid")
    shop.film(1, days=5)
    shop.at("2024-03-06 12:00")
    assert (shop.all("late_fees"), shop.row("rental_status")["due_at"]) == ({}, local("2024-03-06 10:00"))


# --- aging ---


@pytest.mark.parametrize(
    ("age", "bucket"),
    [
        (0, "aging_current"), (1, "aging_1_30"), (30, "aging_1_30"), (31, "aging_31_60"), (60, "aging_31_60"),
        (61, "aging_61_90"), (90, "aging_61_90"), (91, "aging_over_90"), (400, "aging_over_90"),
    ],
)  # fmt: skip
def test_the_balance_ages_from_the_return_on(shop: LiveShop, age: int, bucket: str) -> None:
    """A fee is final on the day of the return: on that day it is current, then its age in days decides."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-06 23:30")
    shop.at("2024-03-06 23:30")
    shop.reach(f"{date(2024, 3, 6) + timedelta(days=age)} 23:59:00")
    account = shop.row("customer_account")
    aging = {name: value for name, value in account.items() if name.startswith("aging_") and value}
    assert aging == {bucket: Decimal("3.00")}
    assert account["balance"] == Decimal("3.00")


def test_the_age_steps_at_midnight(shop: LiveShop) -> None:
    """Between two events a balance changes its bucket exactly at the midnights that end days 0, 30, 60 and 90."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-06 23:30")
    shop.at("2024-03-06 23:30")
    ages = {0: "current", 30: "1-30", 60: "31-60", 90: "61-90"}
    for age, name in ages.items():
        midnight = moment("2024-03-07") + timedelta(days=age)
        shop.reach((midnight - timedelta(seconds=1)).isoformat())
        assert shop.row("late_fees")["aging"] == name
        shop.reach(midnight.isoformat())
        assert shop.row("late_fees")["aging"] != name


def test_an_open_fee_is_current_and_a_balance_may_have_many_ages(shop: LiveShop) -> None:
    """Open fees do not age; the ages of one customer add up to the balance; what is paid or written off has none."""
    returns = ["2024-03-06", "2024-05-05", "2024-06-04", "2024-07-03", "2024-06-20"]
    for number, back in enumerate(returns, start=1):
        shop.rent(number, item=1, customer=1, at="2024-03-01 10:00", back=f"{back} 10:00")
    shop.rent(9, item=2, customer=1, at="2024-03-01 10:00")
    shop.pay(1, 4, "500.00", "2024-07-04")
    shop.write_off(5)
    shop.at("2024-07-04 10:00")
    account = shop.row("customer_account")
    late = {n: f["balance"] for n, f in shop.all("late_fees").items()}
    ages = [account[f"aging_{name}"] for name in ("current", "1_30", "31_60", "61_90", "over_90")]
    assert ages == [Decimal("183.00"), Decimal("138.00"), Decimal("93.00"), 0, Decimal("3.00")]
    assert late == {9: 183, 3: 138, 2: 93, 4: 0, 5: 0, 1: 3}
    assert account["balance"] == sum(ages)


# --- customers ---


def test_the_standing_of_customers(new_shop: Make) -> None:
    """More than 3 overdue: suspended; any: past_due; a balance: at_risk; inactive, nothing owed or out: closed."""
    shop = new_shop()
    shop.film(1)
    for number in range(1, 21):
        shop.item(number)
    for number in range(1, 10):
        shop.customer(number, active=number not in (5, 6, 7, 8))
    rentals = [(1, 4), (2, 3), (3, 1), (7, 1), (8, 4)]  # customer, overdue
    number = 0
    for customer, overdue in rentals:
        for _ in range(overdue):
            number += 1
            shop.rent(number, item=number, customer=customer, at="2024-03-01 10:00")
    shop.rent(14, item=14, customer=4, at="2024-03-01 10:00", back="2024-03-06 10:00")  # owes
    shop.rent(15, item=15, customer=6, at="2024-03-09 10:00")  # inactive, out, in time
    shop.rent(16, item=16, customer=9, at="2024-03-01 10:00", back="2024-03-03 10:00")
    shop.at("2024-03-09 12:00")
    assert {n: row["status"] for n, row in shop.all("customer_account").items()} == {
        1: "suspended", 2: "past_due", 3: "past_due", 4: "at_risk", 5: "closed", 6: "good_standing", 7: "past_due",
        8: "suspended", 9: "good_standing",
    }  # fmt: skip
    counts = {
        n: (a["total_rentals"], a["unreturned_rentals"], a["overdue_rentals"])
        for n, a in shop.all("customer_account").items()
    }
    assert counts == {
        1: (4, 4, 4), 2: (3, 3, 3), 3: (1, 1, 1), 4: (1, 0, 0), 5: (0, 0, 0), 6: (1, 1, 0), 7: (1, 1, 1),
        8: (4, 4, 4), 9: (1, 0, 0),
    }  # fmt: skip
    shop.pay(1, 14, "5.99", "2024-03-09 13:00", customer=4)
    shop.put("customer", customer_id=4, active=False)
    shop.at("2024-03-09 13:00")
    assert shop.row("customer_account", 4)["status"] == "closed"


def test_every_customer_has_a_row(shop: LiveShop) -> None:
    """One row for every customer, with zeros and not NULLs where nothing happened; gone with the customer."""
    shop.at("2024-03-01")
    account = shop.row("customer_account", 2)
    assert [name for name, value in account.items() if value is None] == ["last_payment_date"]
    assert account["balance"] == account["total_rentals"] == account["aging_over_90"] == 0
    shop.remove("customer", 2)
    shop.at("2024-03-02")
    assert shop.all("customer_account").keys() == {1}


def test_merged_customers_bring_their_rentals_and_payments(shop: LiveShop) -> None:
    """When rentals and payments get another customer, debts and counts go with them."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00", back="2024-03-06 10:00")
    shop.rent(2, item=2, customer=2, at="2024-03-01 10:00")
    shop.pay(1, 2, "3.99", "2024-03-06 09:00", customer=2)
    shop.at("2024-03-06 12:00")
    shop.put("rental", rental_id=2, customer_id=1)
    shop.put("payment", payment_id=1, customer_id=1)
    shop.remove("customer", 2)
    shop.at("2024-03-06 13:00")
    account = shop.row("customer_account")
    assert (account["total_rentals"], account["balance"], account["last_payment_date"]) == (
        2, Decimal("5.00"), local("2024-03-06 09:00")
    )  # fmt: skip
    assert shop.all("customer_account").keys() == {1}
    shop.assert_as_computed()


# --- items ---


def test_the_status_of_items(shop: LiveShop) -> None:
    """`damaged` and `missing` win over rentals; else `rented` while one is open; else `available`, NULL or not."""
    statuses = {4: "damaged", 5: "missing", 6: None, 7: "rented", 8: "damaged", 9: "missing", 10: None, 11: "available"}
    for number, status in statuses.items():
        shop.item(number, status=status)
    for number in (8, 9, 10, 11):
        shop.rent(number, item=number, customer=1, at="2024-03-01 10:00")
    shop.at("2024-03-01 10:00")
    assert {n: row["status"] for n, row in shop.all("inventory_status").items() if n > 3} == {
        4: "damaged", 5: "missing", 6: "available", 7: "available", 8: "damaged", 9: "missing", 10: "rented",
        11: "rented",
    }  # fmt: skip


def test_an_item_is_missing_when_too_long_overdue(new_shop: Make) -> None:
    """More than missing_after_days days overdue: at that midnight; its return makes it available."""
    shop = furnished(new_shop(missing_after=2))
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.at("2024-03-01 10:00")
    shop.reach("2024-03-06 23:59:59")
    assert shop.row("inventory_status")["status"] == "rented"
    shop.reach("2024-03-07")
    assert shop.row("inventory_status")["status"] == "missing"
    shop.bring_back(1, at="2024-03-09 10:00")
    unit = shop.at("2024-03-09 10:00")
    assert [(at, was, now) for at, was, now, _ in shop.audit()] == [
        (moment("2024-03-01 10:00"), None, "rented"),
        (moment("2024-03-07"), "rented", "missing"),
        (moment("2024-03-09 10:00"), "missing", "available"),
    ]
    assert [cause for *_, cause in shop.audit()][1:] == ["due", unit.cause]


def test_an_item_that_two_rentals_hold(new_shop: Make) -> None:
    """An item with two open rentals is rented until both are back; the older one decides whether it is missing."""
    shop = furnished(new_shop(missing_after=10))
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.rent(2, item=1, customer=2, at="2024-03-09 10:00")
    shop.at("2024-03-09 10:00")
    assert (shop.row("inventory_status")["status"], shop.row("inventory_status")["open_rentals"]) == ("rented", 2)
    shop.reach("2024-03-15")
    assert shop.row("inventory_status")["status"] == "missing"
    shop.bring_back(1, at="2024-03-15 10:00")
    shop.at("2024-03-15 10:00")
    assert shop.row("inventory_status")["status"] == "rented"
    shop.bring_back(2, at="2024-03-16 10:00")
    shop.at("2024-03-16 10:00")
    assert shop.row("inventory_status")["status"] == "available"


def test_every_transition_of_an_item_is_kept(shop: LiveShop) -> None:
    """The audit has each transition once: its business time, from, to and the change that caused it."""
    first = shop.at("2024-03-01 09:00")
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    rented = shop.at("2024-03-01 10:00")
    shop.put("inventory", inventory_id=1, store_id=2)  # no transition
    shop.at("2024-03-01 11:00")
    shop.item(1, status="damaged")
    damaged = shop.at("2024-03-02 10:00")
    shop.bring_back(1, at="2024-03-03 10:00")  # no transition: damaged wins
    shop.at("2024-03-03 10:00")
    shop.item(1, status="available")
    repaired = shop.at("2024-03-04 10:00")
    shop.remove("rental", 1)
    shop.remove("inventory", 1)
    gone = shop.at("2024-03-05 10:00")
    assert shop.audit() == [
        (moment("2024-03-01 09:00"), None, "available", first.cause),
        (moment("2024-03-01 10:00"), "available", "rented", rented.cause),
        (moment("2024-03-02 10:00"), "rented", "damaged", damaged.cause),
        (moment("2024-03-04 10:00"), "damaged", "available", repaired.cause),
        (moment("2024-03-05 10:00"), "available", None, gone.cause),
    ]
    assert rented.cause.startswith("rental@dvdrental/0/")


def test_a_transition_has_the_time_of_its_own_unit(shop: LiveShop) -> None:
    """Applied together with units before it in which nothing changed, a change keeps its own time and cause."""
    shop.at("2024-03-01 09:00")
    made: list[Unit] = []
    shop.take = made.append
    shop.at("2024-03-01 10:00")  # nothing but the time
    shop.rent(1, item=1, customer=1, at="2024-03-01 11:00")
    rented = shop.at("2024-03-01 11:00")
    shop.at("2024-03-01 12:00")
    shop.engine.apply(made)
    assert shop.audit()[-1] == (moment("2024-03-01 11:00"), "available", "rented", rented.cause)


# --- days that are closed ---


def test_a_closed_day_keeps_its_totals(new_shop: Make) -> None:
    """At local midnight the day's totals move to daily_summary; what happens or is corrected later changes nothing."""
    shop = furnished(new_shop(zone="America/New_York"))
    shop.item(3, status="damaged")
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.pay(1, 1, "3.99", "2024-03-01 10:00")
    shop.at("2024-03-01 10:00-05:00")
    shop.rent(2, item=2, customer=2, at="2024-02-01 10:00", back="2024-02-06 10:00")
    shop.at("2024-03-05 20:00-05:00")  # the day's last state
    shop.reach("2024-03-06 05:00")
    days = shop.all("daily_summary", "day")
    assert days.keys() == {date(2024, 3, n) for n in (1, 2, 3, 4, 5)}
    day = {name: value for name, value in days[date(2024, 3, 5)].items() if name != "next_midnight"}
    assert day == {
        "day": date(2024, 3, 5), "open_rentals": 1, "overdue_rentals": 1, "fees_accrued": Decimal("4.50"),
        "fees_collected": Decimal("1.00"), "receivable": Decimal("3.50"), "aging_current": Decimal("0.50"),
        "aging_1_30": Decimal("3.00"), "aging_31_60": 0, "aging_61_90": 0, "aging_over_90": 0, "items_available": 1,
        "items_rented": 1, "items_damaged": 1, "items_missing": 0,
    }  # fmt: skip
    shop.film(1, days=30)
    shop.remove("payment", 1)
    shop.parameters(rate=Decimal(9), zone="America/New_York")
    shop.at("2024-03-06 12:00-05:00")
    shop.reach("2024-03-07 05:00")
    later = shop.all("daily_summary", "day")
    assert {d: later[d] for d in days} == days
    assert later[date(2024, 3, 6)]["fees_accrued"] == 0
    running = shop.all("daily", "day")
    assert running.keys() == later.keys() | {date(2024, 3, 7)}


def test_a_day_closed_by_a_change_of_the_zone_stays_closed(shop: LiveShop) -> None:
    """When the shop's zone moves to the day before and back, a day is shown once, with its first totals."""
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.at("2024-03-05 03:00")
    shop.parameters(zone="America/New_York")  # the 4th again
    shop.commit(None)
    shop.parameters(rate=Decimal(5))
    shop.commit(None)
    with shop.connection.transaction():
        days = [day for (day,) in shop.connection.execute("SELECT day FROM daily ORDER BY day")]
    assert days == sorted(set(days))
    kept = shop.all("daily_summary", "day")[date(2024, 3, 5)]
    shop.reach("2024-03-06 12:00")
    assert shop.all("daily_summary", "day")[date(2024, 3, 5)] == kept
    assert kept["fees_accrued"] == Decimal("1.50")


# --- rows whose parents are not there (yet) ---


def test_rows_without_their_parents_are_kept(new_shop: Make) -> None:
    """A rental before its item, film or customer is a row without a due time, never lost, and complete once they come."""
    shop = new_shop()
    shop.rent(1, item=1, customer=1, at="2024-03-01 10:00")
    shop.at("2024-03-09 10:00")
    row = shop.row("rental_status")
    assert (row["status"], row["due_at"], row["days_overdue"], row["last_name"]) == ("active", None, 0, None)
    shop.assert_as_computed()
    shop.item(1)
    shop.at("2024-03-09 10:01")
    assert shop.row("inventory_status")["status"] == "rented"
    shop.film(1)
    shop.customer(1)
    shop.at("2024-03-09 10:02")
    row = shop.row("rental_status")
    assert (row["status"], row["due_at"], row["days_overdue"], row["last_name"]) == (
        "overdue", local("2024-03-04 10:00"), 5, "L1"
    )  # fmt: skip
    assert shop.row("customer_account")["balance"] == Decimal("7.50")


def test_the_shops_day_is_pythons_day() -> None:
    """The oracle's own idea of a day: 23:30 in UTC is the next day in Berlin and the same in New York."""
    late = datetime(2024, 3, 4, 23, 30, tzinfo=UTC)
    assert [local_day(late, z).day for z in ("Europe/Berlin", "America/New_York")] == [5, 4]
