"""The rental domain's reports on the terminal, as CSV and as a page; their totals are totals of everything."""

from __future__ import annotations

import csv
import html
import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from rental_oracle import Models, day_totals
from rental_shop import LiveShop, expected, generated, moment

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine.analysis import Analysis
from daemon.app import App
from daemon.cli import main
from daemon.settings import Settings
from daemon.times import BusinessTime
from daemon.web import create_web

NOW = "2024-06-15 12:00"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def dsn(server: EmbeddedPostgres, rental_analysis: Analysis) -> str:
    name = server.ensure_database("rental_reports")
    migrate(name)
    with psycopg.connect(name) as connection:
        generated(LiveShop(connection, rental_analysis, "rental", missing_after=40), moment(NOW))
    return name


@pytest.fixture(scope="module")
def models(rental_analysis: Analysis, rental_database: str) -> Iterator[Models]:
    """What plain Python makes of the same shop."""
    with psycopg.connect(rental_database) as connection:
        shop = LiveShop(connection, rental_analysis, "reported", missing_after=40)
        generated(shop, moment(NOW))
        yield expected(shop, moment(NOW), missing_after=40)
        shop.close()


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    app = App(Settings(), dsn, load_domain("rental"), BusinessTime())
    yield app
    app.close()


@pytest.fixture
def rowtide(dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: its exit code, what it printed and what it complained of."""
    monkeypatch.setenv("ROWTIDE_STATE__DSN", dsn)
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rowtide", "--domain", "rental", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def fees_total(models: Models) -> tuple[Any, ...]:
    fees = models["late_fees"].values()
    return len(fees), *(sum(f[name] for f in fees) for name in ("fee_amount", "fee_paid", "balance"))


def receivables_total(models: Models) -> tuple[Any, ...]:
    owing = [a for a in models["customer_account"].values() if a["balance"] > 0]
    columns = ("balance", "aging_current", "aging_1_30", "aging_31_60", "aging_61_90", "aging_over_90")
    return len(owing), *(sum(a[name] for a in owing) for name in columns)


def test_the_report_of_late_fees_lists_all_of_them(app: App, models: Models) -> None:
    """Every fee by days overdue; the totals are those of every fee, not of a page of them."""
    totals, rows = app.report("late-fees")
    assert totals.rows == [fees_total(models)]
    late = [(f["days_overdue"], number, f["fee_amount"]) for number, f in models["late_fees"].items()]
    assert len(late) > 60
    place = [rows.columns.index(name) for name in ("days_overdue", "rental_id", "fee_amount")]
    assert [tuple(row[p] for p in place) for row in rows.rows] == sorted(late, key=lambda fee: (-fee[0], fee[1]))
    assert sum(row[rows.columns.index("fee_amount")] for row in rows.rows) == totals.rows[0][1]


def test_the_report_of_receivables_lists_all_customers_with_a_balance(app: App, models: Models) -> None:
    """All customers who owe, by balance, more than any first twenty; totals of all of them by age."""
    totals, rows = app.report("receivables")
    assert totals.rows == [receivables_total(models)]
    owing = [(n, a["balance"]) for n, a in models["customer_account"].items() if a["balance"] > 0]
    assert len(owing) > 20
    place = [rows.columns.index(name) for name in ("customer_id", "balance")]
    assert [tuple(row[p] for p in place) for row in rows.rows] == sorted(owing, key=lambda row: (-row[1], row[0]))
    assert totals.rows[0][1] == sum(totals.rows[0][2:])


def test_the_report_of_the_inventory_counts_every_item(app: App, models: Models) -> None:
    """Items by status add up to all items; what was shrunk has its replacement cost, by store and status."""
    totals, by_status, shrinkage = app.report("inventory")
    items = models["inventory_status"].values()
    lost = [i for i in items if i["status"] in ("damaged", "missing")]
    assert totals.rows[0][:2] == (len(items), len(lost))
    assert sum(row[1] for row in by_status.rows) == len(items)
    assert dict(by_status.rows) == {s: sum(i["status"] == s for i in items) for s in {i["status"] for i in items}}
    assert sum(row[2] for row in shrinkage.rows) == len(lost)
    assert sum(row[3] for row in shrinkage.rows) == totals.rows[0][2] > 0


def test_the_report_of_days(app: App, models: Models) -> None:
    """The day that runs has the totals of now; the closed days follow, newest first, all of them."""
    today, closed = app.report("day")
    row = dict(zip(today.columns, today.rows[0], strict=True))
    totals = day_totals(models)
    assert {name: row[name] for name in totals} == totals
    days = [row[0] for row in closed.rows]
    assert (days[0], len(days)) == (date(2024, 6, 14), 170)
    assert days == sorted(set(days), reverse=True)


@pytest.mark.parametrize("name", ["late-fees", "receivables", "inventory", "day"])
def test_a_report_says_the_same_everywhere(app: App, rowtide: Run, name: str, tmp_path: Path) -> None:
    """Terminal, CSV, JSON and page have the same sections with all rows."""
    sections = app.report(name)
    rows = [["" if value is None else str(value) for value in row] for section in sections for row in section.rows]

    code, out, _ = rowtide("report", name, "--csv")
    assert code == 0
    lines = [line for line in csv.reader(io.StringIO(out)) if line]
    assert [line for line in lines if line in rows] == rows
    assert all(section.columns in lines for section in sections)

    code, out, _ = rowtide("report", name, "--json")
    told = json.loads(out)
    assert [[list(map(str, r)) for r in s["rows"]] for s in told["sections"]] == [
        [list(map(str, r)) for r in s.rows] for s in sections
    ]

    code, out, _ = rowtide("report", name)
    assert code == 0
    flat = " ".join(out.replace("│", " ").replace("┃", " ").split())
    assert [section.title for section in sections if section.title not in flat] == []
    assert [row for row in rows if " ".join(filter(None, row)) not in flat] == []

    page = tmp_path / "report.html"
    assert rowtide("report", name, "--html", str(page))[0] == 0
    served = TestClient(create_web(app)).get(f"/reports/{name}")
    assert served.status_code == 200
    assert cells(page.read_text()) == cells(served.text) == rows
    as_csv = TestClient(create_web(app)).get(f"/reports/{name}.csv")
    assert [line for line in csv.reader(io.StringIO(as_csv.text)) if line in rows] == rows


def cells(page: str) -> list[list[str]]:
    """The rows of the tables in a page, heads left out."""

    class Cells(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.rows: list[list[str]] = []
            self.inside = False

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag == "tr":
                self.rows.append([])
            elif tag == "td":
                self.rows[-1].append("")
            self.inside = tag == "td"

        def handle_endtag(self, tag: str) -> None:
            self.inside = self.inside and tag != "td"

        def handle_data(self, data: str) -> None:
            if self.inside:
                self.rows[-1][-1] += data

    parser = Cells()
    parser.feed(page)
    return [row for row in parser.rows if row]


def test_every_query_is_a_page(app: App) -> None:
    """Each named query can be opened in the browser."""
    client = TestClient(create_web(app))
    for name, file in app.domain.queries.items():
        found = client.get(f"/queries/{name}")
        assert (found.status_code, file.title in html.unescape(found.text)) == (200, True), name


def test_errors_end_with_an_exit_code(rowtide: Run) -> None:
    """SQL that fails, names that do not exist and statements that write print an error and exit 1."""
    for arguments in (
        ["query", "--sql", "SELECT nonsense FROM rental"],
        ["query", "--sql", "SELEKT 1"],
        ["query", "--sql", "DELETE FROM rental"],
        ["query", "--sql", "SELECT 1 / 0"],
        ["query", "no_such_query"],
        ["report", "no-such-report"],
        ["query", "customer_history", "--param", "customer=abc"],
    ):
        code, out, error = rowtide(*arguments)
        assert (code, out) == (1, ""), arguments
        assert error.startswith("error: "), arguments
        assert "Traceback" not in error
    assert rowtide("query", "overdue")[0] == 0


def test_check_exits_1_where_something_is_wrong(rowtide: Run) -> None:
    """The generated shop has a rental of nobody: an error, so the command fails; the checks are listed all the same."""
    code, out, _ = rowtide("check", "--json")
    found = {check["name"]: check for check in json.loads(out)}
    assert code == 1
    assert [row[0] for row in found["customer_missing"]["rows"]] == [400]
    assert found["customer_missing"]["severity"] == "error"


def test_an_empty_shop_has_reports_too(server: EmbeddedPostgres, rental_analysis: Analysis) -> None:
    """Before the first event every report has its sections, and totals of zero."""
    name = server.ensure_database("rental_empty")
    migrate(name)
    with psycopg.connect(name) as connection:
        LiveShop(connection, rental_analysis, "rental")
    app = App(Settings(), name, load_domain("rental"), BusinessTime())
    assert app.report("late-fees")[0].rows == [(0, 0, 0, 0)]
    assert app.report("receivables")[0].rows == [(0, 0, 0, 0, 0, 0, 0)]
    assert app.report("inventory")[0].rows == [(0, 0, 0)]
    assert [section.rows for section in app.report("day")] == [[], []]
    assert app.query("", app.named("queries", "aging").sql).rows == [(Decimal(0),) * 6]
    app.close()
