"""The query language of the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.quickbooks.simulator import Company, SimClock, Simulator
from connectors.quickbooks.simulator.query import answer
from connectors.quickbooks.simulator.replies import FaultError


@pytest.fixture
def simulator() -> Simulator:
    clock = SimClock(1_767_225_600.0)  # 2026-01-01T00:00:00Z
    simulator = Simulator(Company(customer_types=("Applicant", "Student")), clock)
    for name, email in (("Ada Lovelace", "ada@x.example"), ("Grace Hopper", ""), ("O'Hara \\ Sons", ""), ("Zoë", "")):
        simulator.add("Customer", name, PrimaryEmailAddr={"Address": email})
        clock.advance(60)
    simulator.add("Vendor", "Paper Ltd")
    simulator.deactivate("4")
    return simulator


def ids(simulator: Simulator, where: str) -> list[str]:
    found = answer(simulator.company, f"SELECT * FROM Customer {where}")
    return [row["Id"] for row in found.get("Customer", [])]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("", ["1", "2", "3"]),
        ("WHERE Active = true", ["1", "2", "3"]),
        ("where active in (true, false)", ["1", "2", "3", "4"]),
        ("WHERE Active = false", ["4"]),
        ("WHERE DisplayName = 'Ada Lovelace'", ["1"]),
        ("WHERE DisplayName = 'ADA LOVELACE'", ["1"]),
        (r"WHERE DisplayName = 'O\'Hara \\ Sons'", ["3"]),
        ("WHERE DisplayName IN ('Ada Lovelace', 'Grace Hopper', 'Nobody')", ["1", "2"]),
        ("WHERE DisplayName = 'Zoë (deleted)'", []),
        ("WHERE DisplayName = 'Zoë (deleted)' AND Active IN (true, false)", ["4"]),
        ("WHERE DisplayName LIKE '%o%'", ["1", "2", "3"]),
        ("WHERE DisplayName LIKE 'Gr%'", ["2"]),
        ("WHERE DisplayName LIKE '_da%'", []),
        ("WHERE Id = '2'", ["2"]),
        ("WHERE Id IN ('3', '1')", ["1", "3"]),
        ("WHERE Id > '1'", ["2", "3"]),
        ("WHERE PrimaryEmailAddr = 'ada@x.example'", ["1"]),
        ("WHERE DisplayName LIKE '%a%' AND Id >= '2'", ["2", "3"]),
        ("WHERE MetaData.CreateTime > '2026-01-01T00:00:30Z'", ["2", "3"]),
        ("WHERE Metadata.LastUpdatedTime <= '2025-12-31T17:01:00-07:00'", ["1", "2"]),
        ("ORDERBY DisplayName DESC", ["3", "2", "1"]),
        ("ORDER BY Id DESC, DisplayName", ["3", "2", "1"]),
        ("STARTPOSITION 2", ["2", "3"]),
        ("STARTPOSITION 2 MAXRESULTS 1", ["2"]),
        ("STARTPOSITION 9", []),
    ],
)
def test_what_is_found(simulator: Simulator, where: str, wanted: list[str]) -> None:
    assert ids(simulator, where) == wanted


def test_an_empty_result_has_nothing_in_it(simulator: Simulator) -> None:
    assert answer(simulator.company, "SELECT * FROM Customer WHERE Id = '99'") == {}


def test_a_count(simulator: Simulator) -> None:
    assert answer(simulator.company, "select count(*) from Customer") == {"totalCount": 3}
    every = "SELECT COUNT(*) FROM Customer WHERE Active IN (true, false) MAXRESULTS 1"
    assert answer(simulator.company, every) == {"totalCount": 4}


def test_chosen_columns(simulator: Simulator) -> None:
    found = answer(simulator.company, "SELECT Id, DisplayName FROM Customer WHERE Id = '1'")
    row = {"Id": "1", "DisplayName": "Ada Lovelace", "domain": "QBO", "sparse": True}
    assert found == {"Customer": [row], "startPosition": 1, "maxResults": 1}


def test_a_page_has_a_hundred_rows_unless_told_and_a_thousand_at_most() -> None:
    simulator = Simulator(Company(), SimClock())
    for number in range(1005):
        simulator.add("Customer", f"C{number}")
    assert len(ids(simulator, "")) == 100
    assert len(ids(simulator, "MAXRESULTS 1000")) == 1000
    assert ids(simulator, "STARTPOSITION 1001 MAXRESULTS 1000") == ["1001", "1002", "1003", "1004", "1005"]
    with pytest.raises(FaultError) as refused:
        ids(simulator, "MAXRESULTS 1001")
    assert refused.value.code == "4001"


def test_other_entities(simulator: Simulator) -> None:
    def names(statement: str, entity: str, attribute: str) -> list[Any]:
        return [row[attribute] for row in answer(simulator.company, statement)[entity]]

    assert names("SELECT * FROM Vendor WHERE DisplayName = 'Paper Ltd'", "Vendor", "DisplayName") == ["Paper Ltd"]
    assert answer(simulator.company, "SELECT * FROM Employee") == {}
    assert names("SELECT * FROM CustomerType", "CustomerType", "Name") == ["Applicant", "Student"]
    assert names("SELECT * FROM CustomerType WHERE Name = 'Student'", "CustomerType", "Id") == ["100002"]
    assert names("SELECT * FROM CompanyInfo", "CompanyInfo", "CompanyName") == ["Rowtide School"]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("", "4000"),
        ("SELECT *", "4000"),
        ("SELECT * FROM Customer WHERE", "4000"),
        ("SELECT * FROM Customer WHERE DisplayName = 'O'Hara'", "4000"),
        ("SELECT * FROM Customer WHERE DisplayName = 'half", "4000"),
        ("SELECT * FROM Customer WHERE DisplayName = 'ends with a backslash\\'", "4000"),
        ("SELECT * FROM Customer WHERE Id = '1' OR Id = '2'", "4000"),
        ("SELECT * FROM Customer WHERE Id <> '1'", "4000"),
        ("SELECT * FROM Customer WHERE Id IN ()", "4000"),
        ("SELECT * FROM Customer MAXRESULTS", "4000"),
        ("DELETE FROM Customer", "4000"),
        ("SELECT * FROM Nothing", "4001"),
        ("SELECT * FROM Customer WHERE Nothing = 'x'", "4001"),
        ("SELECT * FROM Customer WHERE Notes LIKE '%x%'", "4001"),
        ("SELECT * FROM Customer WHERE MetaData.CreateTime > 'yesterday'", "4001"),
    ],
)
def test_what_is_refused(simulator: Simulator, statement: str, code: str) -> None:
    """AND is all there is; notes cannot be asked for; a quote or a backslash that is not escaped breaks a statement."""
    with pytest.raises(FaultError) as refused:
        answer(simulator.company, statement)
    assert refused.value.code == code


def test_case_may_be_made_to_count() -> None:
    simulator = Simulator(Company(ignore_case=False), SimClock())
    simulator.add("Customer", "Ada")
    simulator.add("Customer", "ADA")
    assert ids(simulator, "WHERE DisplayName = 'Ada'") == ["1"]
