"""Random histories of a source, random faults of QuickBooks, and deaths at every place of the way between them.

At the end each record has exactly one live customer with its last values, none is nobody's, every change that QuickBooks
was asked for had been stored before with its requestid, and QuickBooks had nothing to refuse for the rate.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import count, product
from pathlib import Path

import pytest
from connected_company import JumpingClock
from push_room import POINTS, TOKEN_POINTS, Room, room

from connectors.embedded import EmbeddedPostgres
from connectors.quickbooks.simulator import Fault, Simulator
from connectors.quickbooks.simulator.replies import FAULTS, FaultError
from connectors.quickbooks.simulator.rules import KINDS

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # threads of the dead
FIRST, LAST = ("Ann", "Bob", "Čeněk", "O'Neil"), ("Lee", "Ray", "Müller", "No:ne", "a\\b")
# Never answered to what changes customers; `revoke` and `invalid_grant` need a person, so they come less often.
SELDOM = {"revoke", "invalid_grant", "120", "3100", "6190"}
OFTEN = ("lost_before", "lost_after", "late", "forget", "5010", "empty_200", "10000", "html_502", "6000", "partial")
SECONDS = 10.0  # with the usual 100 kills; `make kills` gives it ten times as many


class Events:
    """What happens to a club: a step is one of these."""

    def __init__(self, club: Room, rng: random.Random) -> None:
        self.club, self.rng = club, rng
        self.numbers = count(1)
        self.others: list[str] = []
        self.companies: dict[str, str] = {}
        self.met: Counter[str] = Counter()

    def step(self) -> None:
        acts = [
            (self._admit, 4), (self._edit, 5), (self._rename, 3), (self._back_and_forth, 1), (self._rename_team, 2),
            (self._delete, 1), (self._return, 1), (self._flag, 2), (self._by_hand, 2), (self._other, 1),
            (self._many, 0.4), (self._fault, 5), (self._die, 3), (self._wait, 1),
        ]  # fmt: skip
        act = self.rng.choices([one for one, _ in acts], [weight for _, weight in acts])[0]
        act()

    def _some(self) -> int | None:
        return self.rng.choice(sorted(self.club.members)) if self.club.members else None

    def _name(self) -> dict[str, str]:
        last = (
            self.rng.choice(LAST).replace(":", "-") if self.rng.random() < 0.6 else f"Lone{self.rng.randrange(10**6)}"
        )
        return {"first": self.rng.choice(FIRST), "last": last}

    def _values(self) -> dict[str, object]:
        digits = self.rng.randrange(10**7)
        return {"phone": f"07 {digits}", "email": f"m{digits}@club.org", "team_id": self.rng.choice([None, 1, 2, 3])}

    def _admit(self) -> None:
        self.club.change({"id": next(self.numbers), **self._name(), **self._values()})

    def _many(self) -> None:
        self.club.change(*({"id": next(self.numbers), **self._name(), **self._values()} for _ in range(34)))

    def _edit(self) -> None:
        if (number := self._some()) is not None:
            values = self._values()
            name = self.rng.choice(sorted(values))
            self.club.change({"id": number, name: values[name]})

    def _rename(self) -> None:
        if (number := self._some()) is not None:
            self.club.change({"id": number, **self._name()})

    def _back_and_forth(self) -> None:
        """A, B, A: pushed or not in between."""
        if (number := self._some()) is not None:
            before = self.club.members[number].get("phone")
            self.club.change({"id": number, "phone": "07 1"})
            if self.rng.random() < 0.5:
                self.club.take_in()
                self.club.step()
            self.club.change({"id": number, "phone": before})

    def _rename_team(self) -> None:
        self.club.change({"id": self.rng.randint(1, 3), "name": f"Team {self.rng.randrange(99)}"}, team=True)

    def _delete(self) -> None:
        if (number := self._some()) is not None:
            self.club.remove(number)

    def _return(self) -> None:
        """A row of a key that was there before."""
        gone = sorted(self.club.names_ever.keys() - self.club.members.keys())
        if gone:
            self.club.change({"id": self.rng.choice(gone), **self._name(), **self._values()})

    def _flag(self) -> None:
        """People write to the columns of flags."""
        if (number := self._some()) is not None:
            self.club.change({"id": number, "status": self.rng.choice([None, 0, 1, 2, 3])})

    def _by_hand(self) -> None:
        """A person edits a customer in QuickBooks: the SyncToken moves on."""
        customers = self.club.simulator.customers()
        if customers:
            number = self.rng.choice(customers)["Id"]
            self.companies[number] = f"Firm {self.rng.randrange(99)}"
            self.club.simulator.edit(number, CompanyName=self.companies[number])

    def _other(self) -> None:
        """A vendor or employee has a name that a member may have."""
        name = " ".join(self._name().values())
        try:
            self.club.simulator.add(self.rng.choice(["Vendor", "Employee"]), name)
        except FaultError:
            return
        self.others.append(name)

    def _fault(self) -> None:
        kind = self.rng.choice(OFTEN if self.rng.random() < 0.5 else [k for k in KINDS if k not in SELDOM])
        if self.rng.random() < 0.03:
            kind = self.rng.choice(sorted(SELDOM))
        operation = self.rng.choice(["write", "write", "any", "query", "token" if kind in SELDOM else "create"])
        fault = Fault(
            kind,
            operation,
            times=self.rng.randint(1, 4),
            requests=self.rng.choice([None, 1, 3, 9]),
            seconds={"late": self.rng.choice([0.0, 100.0, 4000.0]), "slow": 9.0, "delay": 70.0}.get(kind, 0.0),
            item=kind in FAULTS and operation != "token" and self.rng.random() < 0.3,
            applied=self.rng.choice([True, False]) if kind in ("html_502", "html_503", "html_504", "10000") else None,
        )
        self.club.simulator.fault(fault)

    def _die(self) -> None:
        if self.rng.random() < 0.1:
            self.club.simulator.fault(Fault("expire", times=1))
            self.club.death.arm(self.rng.choice(TOKEN_POINTS), 1)
        else:
            self.club.death.arm(self.rng.choice(POINTS), self.rng.randint(1, 6))

    def correct(self) -> None:
        """What was left out because QuickBooks refused it is corrected in the source."""
        rows = self.club.connection.execute("SELECT record FROM rowtide.customer WHERE remarks LIKE '%refuses it%'")
        numbers = {int(record.partition(":")[2]) for (record,) in rows} & self.club.members.keys()
        if numbers:
            self.club.change(*({"id": n, "phone": f"08 {n}", "email": f"new{n}@club.org"} for n in sorted(numbers)))
            self.club.take_in()

    def _wait(self) -> None:
        self.club.clock.advance(self.rng.choice([5, 70, 700, 4000]))


def play(club: Room, rng: random.Random, steps: int) -> Events:
    """A history, and what comes after it: faults end, what was late comes, a person mends what needs one."""
    events = Events(club, rng)
    club.change(*({"id": n, "name": f"Team {n}"} for n in (1, 2, 3)), team=True)
    for _ in range(3):
        events._admit()
    for _ in range(steps):
        for _ in range(rng.randint(1, 3)):
            events.step()
        if rng.random() < 0.6:
            club.take_in()
        if rng.random() < 0.6:
            club.clock.advance(min(club.step(), 30.0))
        if rng.random() < 0.1:
            club.mend()
    for rule in club.simulator.faults.all():
        events.met[rule.fault.kind] += rule.fired
    club.simulator.faults.clear()
    club.death.revive()
    club.take_in()
    club.mend()
    club.settle()
    club.simulator.carry_out_late()
    club.settle()
    events.correct()
    club.settle()
    return events


def made_twice(simulator: Simulator) -> set[str]:
    """Names in creates that QuickBooks carried out a second time: late, and when it had forgotten the requestid of the first.

    Where the record was renamed in between, the old name is free and nothing that we send can prevent it.
    """
    seen = [one for one in simulator.requests.since(0) if one.applied and one.operation in ("create", "batch")]
    first = {one.requestid: one.at for one in seen if one.late is None}
    again = [one for one in seen if one.late is not None and first.get(one.requestid, one.late) < one.late]
    bodies = [one.json for one in again]
    items = [item.get("Customer", item) for body in bodies for item in body.get("BatchItemRequest", [body])]
    return {item["DisplayName"] for item in items if "DisplayName" in item}


def test_whatever_happens_each_record_has_its_one_customer(
    server: EmbeddedPostgres, tmp_path: Path, seed: int, kills: int
) -> None:
    """Histories x faults x deaths, requests alone and in batches; as many histories as time allows (--kills: more time)."""
    print(f"seed {seed}")
    deadline, number, deaths, met, changes = (
        time.monotonic() + SECONDS * kills / 100,
        0,
        Counter(),
        Counter(),
        0,
    )
    while time.monotonic() < deadline or number < 2:
        number += 1
        note = f"ROWTIDE_SEED={seed}, history {number}"
        rng = random.Random(f"{seed}/{number}")
        simulator = Simulator(
            retention=rng.choice([None, 300, 3000]), batch_replay=rng.choice(["original", "6000", "6000_items"])
        )
        folder = tmp_path / str(number)
        folder.mkdir()
        with room(server.ensure_database(f"history_{number}"), folder, simulator, JumpingClock()) as club:
            try:
                events = play(club, rng, 60)
            except AssertionError as error:
                raise AssertionError(f"{note}: {error}") from error
            beyond = {f"{name!r} is nobody's" for name in made_twice(simulator)}
            found = club.problems(events.others, names_lied=events.met["6240"] > 0)
            assert [one for one in found if not one.endswith(tuple(beyond))] == [], note
            held = {entry["Id"]: entry.get("CompanyName") for entry in simulator.customers()}
            assert {n: held.get(n) for n in events.companies} == events.companies, note
            deaths += club.death.deaths
            met += events.met
            changes += club.witness.seen
    print(f"{number} histories, {changes} changes sent, deaths {dict(deaths)}, faults met {dict(met)}")
    assert sum(deaths.values()) > number
    assert len(met) > 10


def test_a_death_at_each_place_loses_nothing_and_doubles_nothing(database: str, tmp_path: Path) -> None:
    """Alone and in batches (a batch and four left over), at the first and the second pass of the place."""
    with room(database, tmp_path) as club:
        for turn, (point, size) in enumerate(product(POINTS, (5, 34))):
            for passes in (1, 2):
                numbers = [100 * (turn % 2) + n for n in range(size)]
                club.change(*({"id": n, "phone": f"07{turn}{passes}{n}"} for n in numbers))
                club.take_in()
                club.death.arm(point, passes)
                for _ in range(2):
                    club.step()
                club.death.revive()
            assert club.death.deaths[point] >= 1, f"{point} is not reached with {size} records"
            club.settle()
        assert club.problems() == []
        assert club.simulator.company.created == len(club.members)
        assert min(club.death.deaths[point] for point in POINTS) >= 2
