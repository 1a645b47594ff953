"""A company that has customers already, and what people do to ours in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from customer_club import Club, club
from structlog.testing import capture_logs

from connectors.quickbooks.adopt import MappingError, read_mapping
from daemon import customers
from daemon.pushing import NotAdoptedError
from daemon.reconciling import adoption, sweep


@pytest.fixture
def room(database: str, tmp_path: Path) -> Iterator[Club]:
    with club(database, tmp_path) as made:
        yield made


def test_a_company_with_customers_is_looked_through_first(room: Club, tmp_path: Path) -> None:
    """Nothing is written before; then known ids, a mapping and unambiguous names tell, and what is unclear is listed."""
    ids = {
        name: room.simulator.add("Customer", name, **fields)
        for name, fields in {
            "Known Person": {"PrimaryPhone": {"FreeFormNumber": "kept"}},
            "Somebody Else": {"Notes": "Pays late."},
            "Ann Byname": {},
            "Ann Twice": {},
            "Stranger": {},
        }.items()
    }
    room.put(
        {"id": 1, "last": "One", "quickbooks_id": ids["Known Person"]},
        {"id": 2, "last": "Two"},
        {"id": 3, "last": "Byname"},
        {"id": 4, "last": "Twice"},
        {"id": 5, "last": "Twice"},
        {"id": 6, "last": "New"},
    )
    room.round()
    assert room.writes() == 0
    assert "rowtide quickbooks adopt" in NotAdoptedError().hint
    assert str(room.lane.waits) == NotAdoptedError().message
    with pytest.raises(NotAdoptedError):
        customers.push(room.app, ["member"], 10)
    file = tmp_path / "map.csv"
    file.write_text(f"record,quickbooks_id\nmember:2,{ids['Somebody Else']}\n")
    told = adoption(room.app, mapping=read_mapping(file), by_name=True)
    assert told["applied"] is False
    assert [(one["record"], one["how"]) for one in told["adopted"]] == [
        ("member:1", "known id"),
        ("member:2", "mapping"),
        ("member:3", "name"),
    ]
    assert [one["record"] for one in told["unclear"]] == ["member:4", "member:5"]
    assert (told["unmatched_records"], told["other_customers"]) == (1, 2)
    assert room.states() == {}
    adoption(room.app, mapping=read_mapping(file), by_name=True, yes=True)
    room.rounds()
    found = {entry["Id"]: entry for entry in room.simulator.customers()}
    assert found[ids["Known Person"]]["DisplayName"] == "Known Person"
    assert found[ids["Known Person"]]["GivenName"] == "Ann"
    assert found[ids["Known Person"]]["PrimaryPhone"] == {"FreeFormNumber": "kept"}
    assert found[ids["Somebody Else"]]["Notes"].startswith("Pays late.\n[Rowtide]\n")
    assert room.names() == sorted([*ids, "Ann Twice (No 4)", "Ann Twice (No 5)", "Ann New"])
    assert (room.pending(), set(room.states().values())) == ([], {"synced"})


def test_a_person_may_say_that_nothing_is_ours(room: Club) -> None:
    """`--none` leaves every customer alone; an empty company needs no word."""
    room.simulator.add("Customer", "Ann No1")
    room.put({"id": 1})
    adoption(room.app, nothing=True, yes=True)
    room.rounds()
    assert room.names() == ["Ann No1", "Ann No1 (No 1)"]


def test_a_mapping_file_is_read_strictly(tmp_path: Path) -> None:
    """A wrong line is named, and nothing is taken from such a file."""
    file = tmp_path / "map.csv"
    for text, reason in {
        "id,record\n": "does not begin",
        "record,quickbooks_id\na:1,2\na:1,3\n": "line 3",
        "record,quickbooks_id\na:1\n": "line 2",
        "record,quickbooks_id\na:1,2\na:2,2\n": "customer 2",
    }.items():
        file.write_text(text)
        with pytest.raises(MappingError, match=reason):
            read_mapping(file)
    file.write_text("record,quickbooks_id\na:1,2\n\na:2,\n")
    assert read_mapping(file) == {"a:1": "2", "a:2": ""}


def test_the_lane_looks_once_a_day(room: Club) -> None:
    """What people did is said in the log, without a person's asking, and is left as it is."""
    room.put({"id": 1, "last": "Lee", "phone": "01"})
    room.rounds()
    number = room.simulator.customers()[0]["Id"]
    room.simulator.edit(number, PrimaryPhone={"FreeFormNumber": "99"})
    with capture_logs() as logs:
        room.round()
        room.clock.advance(90_000)
        room.round()
        room.round()
    told = [line for line in logs if line["event"] == "customers.reconciled"]
    assert [line["found"] for line in told] == [{"changed": 1}]
    assert room.simulator.customers()[0]["PrimaryPhone"] == {"FreeFormNumber": "99"}


def findings(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["kind"], one["record"]) for one in told["findings"]]


def test_the_sweep_finds_what_people_did_and_repairs_what_may_be(room: Club, tmp_path: Path) -> None:
    """Changed ones are sent again, deactivated ones taken back where asked, nothing is deleted, and doubles are told."""
    room.put(*({"id": n, "last": f"Lee{n}", "phone": f"0{n}"} for n in range(1, 7)))
    room.rounds()
    made = {entry["DisplayName"]: entry["Id"] for entry in room.simulator.customers()}
    room.clock.advance(3600)
    assert findings(sweep(room.app)) == []
    room.clock.advance(3600)
    room.simulator.edit(made["Ann Lee1"], PrimaryPhone={"FreeFormNumber": "99"}, CompanyName="kept")
    room.simulator.edit(made["Ann Lee2"], Notes="")
    room.simulator.deactivate(made["Ann Lee3"])
    room.simulator.delete(made["Ann Lee4"])
    room.simulator.add("Customer", "Ann Lee5 (No 5)")
    room.leave(6)
    expected = [
        ("changed", "member:1"),
        ("changed", "member:2"),
        ("deactivated", "member:3"),
        ("gone", "member:4"),
        ("duplicate", "member:5"),
        ("left", "member:6"),
    ]
    assert findings(sweep(room.app, quick=True)) == expected[:5]
    before = room.writes()
    assert findings(sweep(room.app)) == expected
    assert room.writes() == before
    assert sweep(room.app, yes=True)["repaired"] == ["member:1", "member:2"]
    found = {entry["Id"]: entry for entry in room.simulator.customers(inactive=True)}
    assert found[made["Ann Lee1"]]["PrimaryPhone"] == {"FreeFormNumber": "01"}
    assert found[made["Ann Lee1"]]["CompanyName"] == "kept"
    assert "Number: 2" in found[made["Ann Lee2"]]["Notes"]
    assert found[made["Ann Lee3"]]["Active"] is False
    assert {name: state for name, state in room.states().items() if state != "synced"} == {
        "member:3": "parked",
        "member:4": "parked",
    }
    assert sweep(room.app, yes=True, reactivate=True)["repaired"] == ["member:3"]
    assert "Ann Lee3" in room.names()
    file = tmp_path / "map.csv"
    file.write_text("record,quickbooks_id\nmember:4,\n")
    adoption(room.app, mapping=read_mapping(file), yes=True)
    room.round()
    room.rounds()
    assert "Ann Lee4" in room.names()
    assert findings(sweep(room.app)) == [("duplicate", "member:5"), ("left", "member:6")]
