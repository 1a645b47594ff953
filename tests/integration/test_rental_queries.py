"""Every query of the rental domain, run by its name, against an answer that plain Python works out from the rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any

import psycopg
import pytest
from named import answer
from rental_oracle import BUCKETS, Models, Replay, day_totals
from rental_shop import LiveShop, expected, generated, moment

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine.analysis import Analysis
from daemon.app import App
from daemon.settings import Settings
from daemon.times import BusinessTime

NOW = "2024-06-15 21:30"
ZONE = "America/New_York"
TODAY = date(2024, 6, 15)
Rows = list[tuple[Any, ...]]


class Known:
    """What is known of the shop in plain Python: its rows, and what the rules make of them."""

    def __init__(self, shop: LiveShop, replay: Replay) -> None:
        self.shop = shop
        self.replay = replay
        self.rows = shop.rows
        self.models: Models = expected(shop, moment(NOW), zone=ZONE, missing_after=40)
        self.rentals = self.models["rental_status"]
        self.fees = self.models["late_fees"]
        self.items = self.models["inventory_status"]
        self.accounts = self.models["customer_account"]

    def film(self, item: int) -> dict[str, Any]:
        return self.rows["film"].get(self.items[item]["film_id"], {})

    def name(self, customer: int) -> tuple[str, str]:
        return self.accounts[customer]["first_name"], self.accounts[customer]["last_name"]


@pytest.fixture(scope="module")
def running(server: EmbeddedPostgres, rental_analysis: Analysis) -> Iterator[tuple[App, Known]]:
    dsn = server.ensure_database("rental_queries")
    migrate(dsn)
    with psycopg.connect(dsn) as connection:
        shop = LiveShop(connection, rental_analysis, "rental", zone=ZONE, missing_after=40)
        replay = generated(shop, moment(NOW))
        app = App(Settings(), dsn, load_domain("rental"), BusinessTime())
        yield app, Known(shop, replay)
        app.close()


def ordered(rows: Iterable[tuple[Any, ...]], *columns: int) -> Rows:
    """Sorted by columns counted from 1, negative: largest first; NULLs last."""
    result = list(rows)
    for column in reversed(columns):
        place = abs(column) - 1
        there = [row for row in result if row[place] is not None]
        there.sort(key=itemgetter(place), reverse=column < 0)
        result = there + [row for row in result if row[place] is None]
    return result


def grouped(rows: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, value in rows:
        groups[key].append(value)
    return groups


def aging(k: Known) -> Rows:
    parts = [sum(f["balance"] for f in k.fees.values() if f["aging"] == bucket) for bucket in BUCKETS]
    return [(*parts, sum(parts))]


def aging_by_store(k: Known) -> Rows:
    groups = grouped(((f["store_id"], f["aging"]), f["balance"]) for f in k.fees.values() if f["balance"] > 0)
    return ordered([(*key, len(found), sum(found)) for key, found in groups.items()], 1, 2)


def busiest_days(k: Known) -> Rows:
    groups = grouped((r["rental_date"].date(), 1) for r in k.rentals.values())
    return ordered([(day, len(found)) for day, found in groups.items()], -2, 1)[:20]


def busiest_weekdays(k: Known) -> Rows:
    groups = grouped((r["rental_date"].isoweekday(), 1) for r in k.rentals.values())
    return ordered([(day, len(found)) for day, found in groups.items()], 1)


def customer_history(k: Known) -> Rows:
    rows = []
    for number, r in k.rentals.items():
        if r["customer_id"] == 1:
            fee = k.fees.get(number, {})
            told = [fee.get(name) for name in ("fee_amount", "fee_paid", "fee_status")]
            rows.append((number, r["title"], r["rental_date"], r["due_at"], r["return_date"], r["status"], *told))
    return ordered(rows, -3, 1)


def customers_by_standing(k: Known) -> Rows:
    groups = grouped((a["status"], a["balance"]) for a in k.accounts.values())
    return ordered([(status, len(found), sum(found)) for status, found in groups.items()], 1)


def days(k: Known) -> Rows:
    wanted = ("open_rentals", "overdue_rentals", "fees_accrued", "fees_collected", "receivable")
    totals = {**k.replay.days, TODAY: day_totals(k.models)}
    return [(day, *(totals[day][name] for name in wanted)) for day in sorted(totals, reverse=True)]


def due_today(k: Known) -> Rows:
    rows = [
        (n, r["customer_id"], r["last_name"], r["title"], r["due_at"])
        for n, r in k.rentals.items()
        if r["return_date"] is None and r["due_at"] and r["due_at"].date() == TODAY
    ]
    return ordered(rows, 5, 1)


def fee_revenue(k: Known) -> Rows:
    groups = grouped(
        ((f["return_date"].date().replace(day=1), f["store_id"]), (f["fee_amount"], f["fee_paid"]))
        for f in k.fees.values()
        if f["return_date"]
    )
    rows = [(*key, sum(a for a, _ in found), sum(p for _, p in found)) for key, found in groups.items()]
    return ordered(rows, 1, 2)


def fees_by_status(k: Known) -> Rows:
    groups = grouped((f["fee_status"], f) for f in k.fees.values())
    rows = [
        (status, len(found), *(sum(f[name] for f in found) for name in ("fee_amount", "fee_paid", "balance")))
        for status, found in groups.items()
    ]
    return ordered(rows, 1)


def growing_fees(k: Known) -> Rows:
    rows = [
        (n, f["customer_id"], f["due_at"], f["days_overdue"], f["fee_amount"])
        for n, f in k.fees.items()
        if f["return_date"] is None
    ]
    return ordered(rows, -5, 1)


def inactive_with_debt(k: Known) -> Rows:
    rows = [
        (n, a["first_name"], a["last_name"], a["balance"], a["unreturned_rentals"])
        for n, a in k.accounts.items()
        if not a["active"] and (a["balance"] > 0 or a["unreturned_rentals"])
    ]
    return ordered(rows, -4, 1)


def inventory_by_status(k: Known) -> Rows:
    groups = grouped(((i["store_id"], i["status"]), 1) for i in k.items.values())
    return ordered([(*key, len(found)) for key, found in groups.items()], 1, 2)


def item_transitions(k: Known) -> Rows:
    return [tuple(transition) for transition in k.replay.audit[1]]


def longest_rentals(k: Known) -> Rows:
    rows = [
        (n, r["customer_id"], r["title"], r["rental_date"], r["return_date"], r["return_date"] - r["rental_date"])
        for n, r in k.rentals.items()
        if r["return_date"]
    ]
    return ordered(rows, -6, 1)[:20]


def never_late(k: Known) -> Rows:
    late = {f["customer_id"] for f in k.fees.values()}
    rows = [(n, *k.name(n), a["total_rentals"]) for n, a in k.accounts.items() if a["total_rentals"] and n not in late]
    return ordered(rows, -4, 1)


def never_rented(k: Known) -> Rows:
    rented = {r["inventory_id"] for r in k.rows["rental"].values()}
    return [(n, k.film(n).get("title"), i["store_id"]) for n, i in sorted(k.items.items()) if n not in rented]


def open_rentals(k: Known) -> Rows:
    rows = [
        (n, r["customer_id"], r["last_name"], r["title"], r["rental_date"], r["due_at"], r["status"])
        for n, r in k.rentals.items()
        if r["return_date"] is None
    ]
    return ordered(rows, 6, 1)


def overdue(k: Known) -> Rows:
    rows = [
        (n, r["customer_id"], r["first_name"], r["last_name"], r["title"], r["due_at"], r["days_overdue"])
        for n, r in k.rentals.items()
        if r["status"] == "overdue"
    ]
    return ordered(rows, -7, 1)


def payments_by_month(k: Known) -> Rows:
    groups = grouped(
        (
            (p["payment_date"].date().replace(day=1), k.rows["customer"].get(p["customer_id"], {}).get("store_id")),
            p["amount"],
        )
        for p in k.rows["payment"].values()
    )
    return ordered([(*key, len(found), sum(found)) for key, found in groups.items()], 1, 2)


def popular_titles(k: Known) -> Rows:
    groups = grouped(((r["film_id"], r["title"]), 1) for r in k.rentals.values() if r["title"])
    return ordered([(*key, len(found)) for key, found in groups.items()], -3, 1)[:20]


def rentals_by_category(k: Known) -> Rows:
    names = grouped((film, k.rows["category"][c]["name"]) for film, c in k.rows["film_category"])
    rows = defaultdict(lambda: [0, 0, Decimal(0)])
    for number, rental in k.rentals.items():
        for name in names.get(rental["film_id"], ["(none)"]):
            row = rows[name]
            row[0] += 1
            if number in k.fees:
                row[1] += 1
                row[2] += k.fees[number]["fee_amount"]
    return ordered([(name, *row) for name, row in rows.items()], -2, 1)


def shrinkage(k: Known) -> Rows:
    groups = grouped(
        ((i["store_id"], i["status"]), k.film(n).get("replacement_cost", 0))
        for n, i in k.items.items()
        if i["status"] in ("damaged", "missing")
    )
    return ordered([(*key, len(found), sum(found)) for key, found in groups.items()], 1, 2)


def suspended_customers(k: Known) -> Rows:
    rows = [
        (n, *k.name(n), a["overdue_rentals"], a["balance"]) for n, a in k.accounts.items() if a["status"] == "suspended"
    ]
    return ordered(rows, -4, 1)


def title_availability(k: Known) -> Rows:
    groups = grouped(
        ((i["film_id"], k.film(n)["title"], i["store_id"]), i["status"] == "available")
        for n, i in k.items.items()
        if k.film(n).get("title", "").startswith("A")
    )
    return ordered([(*key, len(found), sum(found)) for key, found in groups.items()], 1, 3)


def titles_out(k: Known) -> Rows:
    groups = grouped(((i["film_id"], k.film(n)["title"]), i["status"]) for n, i in k.items.items() if k.film(n))
    return ordered([(*key, len(found)) for key, found in groups.items() if "available" not in found], -3, 1)


def worst_customers(k: Known) -> Rows:
    rows = [
        (n, *k.name(n), a["balance"], a["overdue_rentals"], a["status"])
        for n, a in k.accounts.items()
        if a["balance"] > 0
    ]
    return ordered(rows, -4, 1)[:20]


def written_off(k: Known) -> Rows:
    rows = [
        (n, k.fees[n]["customer_id"], k.fees[n]["fee_amount"], k.fees[n]["fee_paid"], w["reason"], w["written_off_at"])
        for n, w in k.rows["write_off"].items()
        if n in k.fees
    ]
    return ordered(rows, 6, 1)


ANSWERS: dict[str, Callable[[Known], Rows]] = {
    function.__name__: function
    for function in (
        aging, aging_by_store, busiest_days, busiest_weekdays, customer_history, customers_by_standing, days, due_today,
        fee_revenue, fees_by_status, growing_fees, inactive_with_debt, inventory_by_status, item_transitions,
        longest_rentals, never_late, never_rented, open_rentals, overdue, payments_by_month, popular_titles,
        rentals_by_category, shrinkage, suspended_customers, title_availability, titles_out, worst_customers,
        written_off,
    )
}  # fmt: skip


def test_there_are_enough_queries_with_titles() -> None:
    """An operator finds at least 25 queries, each with a title of its own, each with an answer worked out below."""
    queries = load_domain("rental").queries
    titles = [file.header.get("title") for file in queries.values()]
    assert len(queries) >= 25
    assert None not in titles
    assert len(set(titles)) == len(titles)
    assert queries.keys() == ANSWERS.keys()


@pytest.mark.parametrize("name", ANSWERS)
def test_a_query_answers_as_python_does(running: tuple[App, Known], name: str) -> None:
    """Run by name with its default parameters, a query has Python's rows in Python's order, and some."""
    app, known = running
    expected = ANSWERS[name](known)
    assert expected != []
    assert expected == answer(app, name)


def test_a_query_takes_parameters(running: tuple[App, Known]) -> None:
    """A value given for a parameter takes its default's place, as a value and never as SQL."""
    app, known = running
    file = app.named("queries", "customer_history")
    rows = app.query(file.title, file.sql, {"customer": "3"}).rows
    assert {row[0] for row in rows} == {n for n, r in known.rentals.items() if r["customer_id"] == 3} != set()
    file = app.named("queries", "title_availability")
    assert app.query(file.title, file.sql, {"title": "' OR true --"}).rows == []


def test_no_wall_clock_in_any_file() -> None:
    """Business time is the domain's clock: no view, query, check or report asks PostgreSQL for the time."""
    import sqlglot
    from sqlglot import exp

    domain = load_domain("rental")
    files = [*domain.views.values(), *domain.queries.values(), *domain.checks.values(), *domain.reports.values()]
    asking = (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.CurrentDatetime)
    names = {"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday", "age"}
    for file in files:
        for statement in sqlglot.parse(file.sql, dialect="postgres"):
            if statement is None:
                continue
            assert list(statement.find_all(*asking)) == [], file.path
            called = {call.name.lower() for call in statement.find_all(exp.Anonymous)}
            assert called & names == set(), file.path
            literals = {str(literal.this).lower() for literal in statement.find_all(exp.Literal)}
            assert literals & {"now", "today", "tomorrow", "yesterday"} == set(), file.path


def test_the_clock_decides_and_not_the_day_of_the_test(running: tuple[App, Known]) -> None:
    """The answers are those of the domain's clock, years before the present."""
    app, known = running
    assert known.shop.engine.clock is not None
    assert datetime.now().date() > TODAY  # noqa: DTZ005 - the wall clock, on purpose
    file = app.named("queries", "due_today")
    assert {row[4].date() for row in app.query("", file.sql).rows} == {TODAY}
