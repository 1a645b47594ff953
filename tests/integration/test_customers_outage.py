"""QuickBooks answers nobody for a while: no customer pays for it, and all of them follow the first answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from customer_club import Club, club
from structlog.testing import capture_logs

from connectors.quickbooks.simulator import Fault
from connectors.quickbooks.status import SILENT
from daemon import customers, outage

OUTAGE = 600.0  # seconds
PEOPLE = 100


@pytest.fixture
def room(database: str, tmp_path: Path) -> Iterator[Club]:
    with club(database, tmp_path) as made:
        made.put({"id": 0, "last": "First"})
        made.rounds()
        yield made


def wait_out(room: Club, seconds: float) -> None:
    """Rounds as the lane makes them, for so long; simulated time passes between them."""
    end = room.clock.now() + seconds
    while room.clock.now() < end:
        room.clock.advance(max(room.round(), 0.1))


@pytest.mark.parametrize("how", ["lost", "html_503"])
def test_ten_minutes_of_silence_spend_no_attempt_beyond_the_first(room: Club, how: str) -> None:
    """A few were under way when it began; the others are not even tried. Nobody failed, and one answer brings all."""
    room.put(*({"id": n, "last": f"Lee{n}"} for n in range(1, PEOPLE)))
    asked = len(room.simulator.requests.since(0))
    room.simulator.outage(OUTAGE, how=how)  # type: ignore[arg-type]
    begun = room.clock.now()
    with capture_logs() as logs:
        wait_out(room, OUTAGE - 31)
        spent = [room.row(record)["attempts"] for record in sorted(room.states()) if record != "member:0"]
        assert max(spent) == 1, "who was under way"
        assert f"{PEOPLE - 1} customers wait: QuickBooks does not answer" in room.app.status()["reason"]
        seen = room.simulator.requests.since(0)[asked:]
        questions = [one.at for one in seen if one.operation == "companyinfo"]
        tried = [one for one in seen if one.operation in ("create", "update", "batch", "query")]
        assert len(tried) < room.lane._threads + SILENT, "two, and what the other threads had under way"
        assert all(one.at - begun < 5 for one in tried)
        distances = [later - earlier for earlier, later in pairwise(questions)]
        assert distances[0] < 5
        assert max(distances) < 35
        assert distances[:4] == sorted(distances[:4]), "they grow"
        assert len(questions) < 30
        wait_out(room, 62)
        room.rounds(8)
    assert room.pending() == []
    assert room.unsettled() == 0
    assert room.clock.now() - begun < OUTAGE + 62 + 60
    assert {told["state"] for told in room.told()} <= {1, 3}
    assert set(room.states().values()) == {"synced"}
    assert len(set(room.names())) == len(room.names()) == room.simulator.company.created == PEOPLE
    assert room.simulator.throttle.refused == 0
    said = [line["event"] for line in logs if line["event"].startswith(("customers.", "quickbooks."))]
    assert [one for one in said if one != "customers.imported"] == [
        "customers.waiting",
        "quickbooks.answers_again",
        "customers.resumed",
    ]


def test_the_first_answer_makes_everybody_due(room: Club) -> None:
    """Who would have waited for a minute, having failed often, is pushed in the round of the first answer."""
    room.simulator.fault(Fault.parse("10000:operation=create"))
    room.put({"id": 1, "last": "Lee"})
    for _ in range(30):
        room.clock.advance(max(room.round(), 1.0))
        if room.row("member:1")["attempts"] == 6:
            break
    room.simulator.faults.clear()
    wait_out(room, room.row("member:1")["due_at"].timestamp() - room.clock.now() - 1)
    room.simulator.outage(20)
    room.clock.advance(1)
    wait_out(room, 10)
    due = room.row("member:1")["due_at"].timestamp()
    assert room.row("member:1")["attempts"] == 7
    assert due - room.clock.now() > 40
    for _ in range(20):
        room.clock.advance(max(room.round(), 0.1))
        if not room.pending():
            break
    assert room.clock.now() < due
    assert room.names() == ["Ann First", "Ann Lee"]


def test_a_customer_that_alone_gets_no_answer_holds_nobody_up(room: Club) -> None:
    """It spends its attempts and is told failed, since QuickBooks answers otherwise; those behind it are pushed."""
    room.simulator.fault(Fault.parse("html_502:operation=create,match=Bad"))
    room.put({"id": 1, "last": "Bad"})
    for number in range(2, 14):
        room.clock.advance(320)
        room.put({"id": number, "last": f"Lee{number}"})
        room.round()
    assert room.pushed()["member:1"][0] == 2
    assert len(room.names()) == 13
    assert room.pending() == ["member:1"]


def test_one_process_asks_at_a_time(room: Club) -> None:
    """While another asks nobody else does, and no customer is tried."""
    room.simulator.outage(OUTAGE)
    room.put({"id": 1, "last": "Lee"}, {"id": 2, "last": "Lo"})
    wait_out(room, 20)
    asked = len(room.simulator.requests.since(0))
    with psycopg.connect(room.dsn, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [outage._ASKERS, room.simulator.company.realm])
        for _ in range(4):
            room.round()
            room.clock.advance(40)
    assert len(room.simulator.requests.since(0)) == asked
    room.round()
    assert len(room.simulator.requests.since(0)) == asked + 1


def test_a_command_asks_at_once_and_spends_no_attempt(room: Club) -> None:
    """A person who pushes during an outage is told so; after it the push goes through."""
    room.simulator.outage(100)
    room.put({"id": 1, "last": "Lee"}, {"id": 2, "last": "Lo"})
    wait_out(room, 10)
    attempts = [room.row(f"member:{n}")["attempts"] for n in (1, 2)]
    with pytest.raises(outage.SilentError, match="does not answer"):
        customers.push(room.app, ["member"], 10)
    assert [room.row(f"member:{n}")["attempts"] for n in (1, 2)] == attempts == [1, 1]
    room.clock.advance(100)
    assert customers.push(room.app, ["member"], 10).successful + room.writes() >= SILENT
    room.rounds()
    assert room.names() == ["Ann First", "Ann Lee", "Ann Lo"]
