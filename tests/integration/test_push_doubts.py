"""Creates in doubt that QuickBooks refuses later, or that the source overtakes: the customer is found, and not made twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from push_room import Room, room

from connectors.quickbooks.simulator import Fault


@pytest.fixture
def club(database: str, tmp_path: Path) -> Iterator[Room]:
    with room(database, tmp_path) as made:
        yield made


@pytest.mark.parametrize("code", ["2020", "2040", "2500", "500", "5010", "610"])
def test_a_refusal_says_nothing_of_what_was_sent_before(club: Room, code: str) -> None:
    """Carried out without an answer, then refused for its data: it is there, and it is ours."""
    club.simulator.fault(Fault("lost_after", "create", times=1))
    club.simulator.fault(Fault(code, "create", times=1))
    club.change({"id": 1, "last": "Lee", "phone": "07 1", "email": "a@b.org"})
    club.take_in()
    for _ in range(2):
        club.clock.advance(max(club.step(), 30))
    assert all(rule.fired == 1 for rule in club.simulator.faults.all())
    club.settle()
    assert club.problems() == []
    assert club.simulator.company.created == 1


@pytest.mark.parametrize("code", ["500", "2020"])
def test_what_comes_late_after_a_refusal_is_found(club: Room, code: str) -> None:
    """It comes through after the record was parked and changed in the source: adopted with its old values, then updated."""
    club.simulator.fault(Fault("late", "create", times=1, requests=99))
    club.simulator.fault(Fault(code, "create"))
    club.change({"id": 1, "last": "Lee", "phone": "07 1"})
    club.take_in()
    for _ in range(6):
        club.clock.advance(max(club.step(), 30))
    assert club.states() == {"member:1": "parked"}
    club.simulator.faults.clear()
    assert club.simulator.carry_out_late() == 1
    club.change({"id": 1, "phone": "07 2", "email": "new@b.org"})
    club.take_in()
    club.settle()
    assert club.problems() == []
    assert club.simulator.company.created == 1
