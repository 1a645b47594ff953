"""Customers pushed to the simulator of QuickBooks from a real state database, round by round of the lane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from customer_club import Club, club


@pytest.fixture
def room(database: str, tmp_path: Path) -> Iterator[Club]:
    with club(database, tmp_path) as made:
        yield made


def test_a_member_becomes_a_customer_once(room: Club) -> None:
    """A new record is created, what came of it is told, and another round asks QuickBooks for nothing."""
    room.put({"id": 1, "first": "Ann", "last": "Lee", "phone": "0700 1", "email": "ann@lee.org", "team": "Red"})
    room.round()
    (customer,) = room.simulator.customers()
    assert customer["DisplayName"] == "Ann Lee"
    assert (customer["GivenName"], customer["FamilyName"]) == ("Ann", "Lee")
    assert customer["PrimaryPhone"] == {"FreeFormNumber": "0700 1"}
    assert customer["PrimaryEmailAddr"] == {"Address": "ann@lee.org"}
    assert customer["Notes"] == "[Rowtide]\nCustomerType: Member\nTeam: Red\nNumber: 1\n[/Rowtide]"
    assert room.pushed() == {"member:1": (1, customer["Id"], "Ann Lee")}
    assert (room.pending(), room.states()) == ([], {"member:1": "synced"})
    before = room.writes()
    room.round()
    assert room.writes() == before


def test_only_what_differs_is_sent(room: Club) -> None:
    """A change of the source is a sparse update of what changed: what a person did in QuickBooks stays."""
    room.put({"id": 1, "first": "Ann", "last": "Lee", "phone": "0700 1", "email": "ann@lee.org"})
    room.round()
    number = room.simulator.customers()[0]["Id"]
    room.simulator.edit(
        number, CompanyName="Lee & Sons", PrimaryPhone={"FreeFormNumber": "by hand"}, Notes="Pays late."
    )
    room.put({"id": 1, "first": "Ann", "last": "Lee", "phone": "0700 1", "email": "new@lee.org", "team": "Blue"})
    room.rounds()
    (customer,) = room.simulator.customers()
    assert customer["CompanyName"] == "Lee & Sons"
    assert customer["PrimaryPhone"] == {"FreeFormNumber": "by hand"}
    assert customer["PrimaryEmailAddr"] == {"Address": "new@lee.org"}
    assert customer["Notes"].startswith("Pays late.\n[Rowtide]\n")
    assert "Team: Blue" in customer["Notes"]
    room.put({"id": 1, "first": "Ann", "last": "Lee", "phone": None, "email": "new@lee.org", "team": "Blue"})
    room.rounds()
    assert "PrimaryPhone" not in room.simulator.customers()[0]


def test_namesakes_get_names_of_their_own_and_keep_them(room: Club) -> None:
    """The real name where it is free, else with the suffix; inside the club, and beside vendors and employees."""
    room.simulator.add("Vendor", "Bob Ray")
    room.adopted()
    for member in ({"first": "Ann", "last": "Lee"}, {"first": "Ann", "last": "Lee"}, {"first": "bob", "last": "ray"}):
        room.put({"id": len(room.states()) + 1, **member})
        room.rounds()
    assert room.names() == ["Ann Lee", "Ann Lee (No 2)", "bob ray (No 3)"]
    room.leave(1)
    room.put({"id": 2, "first": "Ann", "last": "Lee", "team": "Red"}, {"id": 3, "first": "Bob", "last": "Rayner"})
    room.rounds()
    assert room.names() == ["Ann Lee", "Ann Lee (No 2)", "Bob Rayner"]


def test_many_go_in_batches(room: Club) -> None:
    """A first load goes by thirties; namesakes among them are told apart."""
    room.put(*({"id": n, "first": "Ann", "last": f"Lee {n % 50}"} for n in range(1, 76)))
    room.rounds()
    assert len(room.names()) == len(set(room.names())) == 75
    assert room.simulator.requests.operations["batch"] >= 2
    assert room.simulator.company.created == 75
    assert set(room.states().values()) == {"synced"}
