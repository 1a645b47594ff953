"""A school as a new user has it: MariaDB, a daemon, a simulated QuickBooks, each a process of its own; what goes wrong in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pymysql
import pytest
import requests
from daemons import Daemon, Daemons, daemons, until
from mis_school import APPLICATION, PERSON, load_mariadb

from connectors.quickbooks.simulator.simulator import CLIENT_ID, CLIENT_SECRET
from deploy.stack.mariadb import MariaDB

START = datetime(2026, 3, 2, 8)  # noqa: DTZ001 - wall time
APPLICANTS, STUDENTS = 60, 90
PEOPLE = APPLICANTS + STUDENTS
DATABASE, USER, OWNER, PASSWORD = "school_acceptance", "rowtide_school", "owner_school", "geheim/1"
SOON = 2.0  # seconds in which an edit is in QuickBooks, where the machine has nothing else to do
OUTAGE = 8.0  # seconds
FLAG = "quickbk_status"


class Mis:
    """The school's database, as its administrator sees it."""

    def __init__(self, server: MariaDB) -> None:
        self._server = server
        load_mariadb(server, DATABASE, START, seed=5, tracking=False, applicants=APPLICANTS, students=STUDENTS)
        server.execute(
            f"CREATE USER '{OWNER}'@'%' IDENTIFIED BY '{PASSWORD}'", f"GRANT ALL ON `{DATABASE}`.* TO '{OWNER}'@'%'"
        )
        self.dsn = server.dsn(DATABASE, user=USER, password=PASSWORD)
        self.owner = server.dsn(DATABASE, user=OWNER, password=PASSWORD)

    def do(self, *statements: str) -> None:
        self._server.execute(*statements, database=DATABASE)

    def rows(self, table: str) -> list[dict[str, Any]]:
        connection = self._server.connect(DATABASE)
        try:
            with connection.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute(f"SELECT * FROM {table}")
                return [{name.lower(): value for name, value in row.items()} for row in cursor.fetchall()]
        finally:
            connection.close()

    def apply(self, count: int) -> None:
        """So many new applicants, all of one name."""
        for number in range(count):
            self.do(
                f"INSERT INTO {APPLICATION} (tracking_id, first_name, family_name, phone1, camp_id, appl_date) "
                f"VALUES ('NEW/{number}', 'Otto', 'Neu', '+256700000{number:03}', '2', '2026-03-03')"
            )

    def close(self) -> None:
        users = ", ".join(f"'{user}'@'%'" for user in (USER, OWNER))
        self._server.execute(f"DROP DATABASE `{DATABASE}`", f"DROP USER IF EXISTS {users}")


class Company:
    """The simulated company in its process, as its controls and its page show it."""

    def __init__(self, process: Daemon) -> None:
        assert process.process.stdout is not None
        told = json.loads(process.process.stdout.readline())
        self.url: str = told["url"]

    def ask(self, path: str) -> Any:
        return requests.get(f"{self.url}/control/{path}", timeout=30).json()

    def customers(self) -> dict[str, Mapping[str, Any]]:
        """The live customers by id."""
        return {found["Id"]: found for found in self.ask("customers")}

    def away(self, seconds: float) -> None:
        """Every connection breaks for so long."""
        requests.post(f"{self.url}/control/outage", json={"seconds": seconds}, timeout=30).raise_for_status()

    def consent(self) -> str:
        """What a person does in a browser: the address at which it ends."""
        query = {
            "client_id": CLIENT_ID, "response_type": "code", "scope": "com.intuit.quickbooks.accounting",
            "redirect_uri": "http://localhost:8472/callback", "state": "a-person",
        }  # fmt: skip
        page = requests.get(f"{self.url}/connect/oauth2", params=query, timeout=30)
        assert "Rowtide School" in page.text
        form = {**dict(parse_qsl(urlsplit(page.url).query)), "answer": "yes"}
        answer = requests.post(f"{self.url}/connect/oauth2/consent", data=form, allow_redirects=False, timeout=30)
        return answer.headers["location"]


@pytest.fixture
def mis(mariadb: MariaDB) -> Iterator[Mis]:
    made = Mis(mariadb)
    yield made
    made.close()


@pytest.fixture
def starting(database: str, mis: Mis, tmp_path: Path) -> Iterator[Daemons]:
    environment = {
        "ROWTIDE_STATE__DSN": database,
        "ROWTIDE_DOMAIN": "mis",
        "ROWTIDE_SOURCE__DSN": mis.dsn,
        "ROWTIDE_SOURCE__WRITE_BACK": "true",
        "ROWTIDE_QUICKBOOKS__ENABLED": "true",
        "ROWTIDE_QUICKBOOKS__ENVIRONMENT": "simulator",
        "ROWTIDE_QUICKBOOKS__CLIENT_ID": CLIENT_ID,
        "ROWTIDE_QUICKBOOKS__CLIENT_SECRET": CLIENT_SECRET,
        "ROWTIDE_QUICKBOOKS__KEY_FILE": str(tmp_path / "quickbooks.key"),
    }
    with daemons(environment, tmp_path) as found:
        yield found


def flags(mis: Mis) -> list[tuple[Any, Any, Any]]:
    """(status, QuickBooks id, sync token) of everybody, as the MIS has them."""
    applicants = [(row[FLAG], row["quickbooks_id"], row["sync_token"]) for row in mis.rows(APPLICATION)]
    return applicants + [(row[FLAG], row["qk_id"], row["sync_token"]) for row in mis.rows(PERSON)]


def is_settled(mis: Mis, company: Company, database: str) -> bool:
    """Whether nothing is pending and each person's flags name a live customer in the version that it has."""
    with psycopg.connect(database) as connection:
        if connection.execute("SELECT 1 FROM mis.pending_customer LIMIT 1").fetchone():
            return False
    live = company.customers()
    versions = {number: found["SyncToken"] for number, found in live.items()}
    return all(status == 1 and versions.get(number) == token for status, number, token in flags(mis))


def set_up(mis: Mis, typed: Callable[..., Any]) -> None:
    """What the MIS' administrator does: rights to read, the columns that are absent, rights to write them."""
    printed = typed("grants", "--user", USER, check=True).stdout.splitlines()
    statements = [line.rstrip(";") for line in printed if not line.startswith(("--", "SET GLOBAL"))]
    writing = [line for line in statements if "UPDATE" in line]
    assert len(writing) == 2
    mis.do(*(line for line in statements if line not in writing))
    mis.do(f"ALTER USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}' ACCOUNT UNLOCK")
    shown = typed("init", check=True).stdout
    assert f"ADD COLUMN `{FLAG}` int NULL" in shown
    assert all(FLAG not in row for row in mis.rows(PERSON)), "nothing is added without consent"
    assert "ran in the source" in typed("init", "--yes", check=True, ROWTIDE_SOURCE__WRITE_BACK_DSN=mis.owner).stdout
    mis.do(*writing)
    assert json.loads(typed("init", "--json", check=True).stdout)["source_lacks"] == []


def comes(daemon: Daemon, condition: Callable[[], Any], every: float = 0.1) -> None:
    """Wait for a condition; where it does not come true, tell what the daemon said last."""
    try:
        until(condition, patience=120, every=every)
    except AssertionError:
        raise AssertionError(f"it did not come true; the daemon:\n{''.join(daemon.lines[-30:])}") from None


def edited(mis: Mis, company: Company, number: int, phone: str) -> float:
    """Seconds until a student's new phone number is the customer's."""
    customer = next(row["qk_id"] for row in mis.rows(PERSON) if row["per_id_ug"] == number)
    began = time.monotonic()
    mis.do(f"UPDATE {PERSON} SET phone1 = '{phone}' WHERE per_id_ug = {number}")

    def there() -> bool:
        return dict(company.customers()[customer].get("PrimaryPhone") or {}).get("FreeFormNumber") == phone

    until(there, every=0.05)
    return time.monotonic() - began


def test_everybody_is_one_customer(
    mis: Mis, starting: Daemons, typed: Callable[..., Any], database: str, tmp_path: Path
) -> None:
    """First load with a kill in its middle, an edit, an outage with a kill: each person stays one customer, as told in the MIS."""
    company = Company(starting("quickbooks", "simulate", "--port", 0, "--latency", 0.4, "--json"))
    starting.environment["ROWTIDE_QUICKBOOKS__API_URL"] = company.url
    settings = {**starting.environment, "ROWTIDE_WEB__ENABLED": "false"}

    def type_(*arguments: object, **more: Any) -> Any:
        return typed(*arguments, **{**settings, **more})

    set_up(mis, type_)
    type_("quickbooks", "connect", "--yes", "--code", company.consent(), check=True)
    assert (tmp_path / "quickbooks.key").stat().st_mode & 0o077 == 0

    # The first load: a kill while QuickBooks has made customers and nobody has heard of it.
    daemon = starting("run")
    comes(daemon, lambda: company.ask("state")["customers"], every=0.01)
    daemon.kill()
    with psycopg.connect(database) as connection:
        unheard = connection.execute("SELECT count(*) FROM rowtide.quickbooks_request WHERE state <> 'settled'")
        assert unheard.fetchone() != (0,), "the kill came after the load"
    daemon = starting("run")
    comes(daemon, lambda: is_settled(mis, company, database))
    assert len(company.customers()) == PEOPLE

    # A registrar's edits. Other tests share the machine: the quickest of some tells what Rowtide itself takes.
    phones = {number: f"+25677700000{number}" for number in (1, 2, 4, 5)}
    assert min(edited(mis, company, number, phone) for number, phone in phones.items()) < SOON

    # An outage, with edits and new applicants in it, and a kill while it lasts.
    company.away(OUTAGE)
    mis.do("UPDATE tbl_campus SET camp_full_name = 'Main Campus, moved' WHERE camp_id = 1")
    mis.apply(20)
    comes(daemon, lambda: any(seen["fault"] == "outage" for seen in company.ask("requests")))
    daemon.kill()
    daemon = starting("run")
    comes(daemon, lambda: "Main Campus, moved" in str(company.customers()) and is_settled(mis, company, database))

    # Exactly one each, with the last values, within the limits, and everything agrees.
    live = company.customers()
    numbers = [number for _, number, _ in flags(mis)]
    assert len(numbers) == len(set(numbers)) == PEOPLE + 20
    assert set(numbers) == set(live)
    names = [found["DisplayName"].casefold() for found in live.values()]
    assert len(names) == len(set(names))
    moved = [row["quickbooks_id"] for row in mis.rows(APPLICATION) if (row["camp_id"] or "").strip() == "1"]
    assert moved
    assert [number for number in moved if "Main Campus, moved" not in live[number]["Notes"]] == []
    state = company.ask("state")
    assert state["limits"]["refused"] == 0
    assert state["requestids_with_other_bodies"] == []
    assert state["replays"] > 0, "what the kill left unheard was asked for again under its requestid"

    assert f"customers: {PEOPLE + 20} synced, 0 pending" in type_("status", check=True).stdout
    counts = json.loads(type_("customers", "analyze", "--json", check=True).stdout)["overall"]
    assert counts["total_customers"] == counts["total_synced"] == PEOPLE + 20
    type_("verify", check=True)
    type_("verify", "--source", check=True)
    found = json.loads(type_("quickbooks", "reconcile", "--json", check=True).stdout)
    assert found["findings"] == []
    assert daemon.stop(within=15) == 0
