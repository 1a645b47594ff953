"""What goes wrong on the way to QuickBooks: at the end one customer for each record, with the last values."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from connected_company import JumpingClock
from customer_club import Club, club

from connectors.quickbooks.simulator import Company, CustomField, Fault, Simulator
from connectors.state import connect
from daemon import customers

LOST = (
    "lost_before", "lost_after", "late:requests=1", "late:requests=3", "html_502", "html_502:applied=true", "html_503",
    "html_504:applied=true", "empty_200", "10000", "10000:applied=true", "throttle", "throttle_403", "throttle_json",
    "gateway_401", "3200", "100", "6000", "fault_200", "expire", "5010:operation=update", "forget",
)  # fmt: skip


@pytest.fixture
def room(database: str, tmp_path: Path) -> Iterator[Club]:
    with club(database, tmp_path) as made:
        yield made


def fault(room: Club, text: str, *, match: str, operation: str = "write") -> None:
    kind, _, rest = text.partition(":")
    parts = [part for part in rest.split(",") if part]
    if not any(part.startswith("operation=") for part in parts):
        parts.append(f"operation={operation}")
    room.simulator.fault(Fault.parse(f"{kind}:{','.join([*parts, f'match={match}', 'times=1'])}"))


def phones(room: Club) -> dict[str, str]:
    return {
        entry["DisplayName"]: entry.get("PrimaryPhone", {}).get("FreeFormNumber", "")
        for entry in room.simulator.customers()
    }


def assert_each_once(room: Club, count: int, phone: str) -> None:
    found = phones(room)
    assert len(found) == count
    assert set(found.values()) == {phone}
    assert room.simulator.company.created == count
    assert (room.pending(), room.unsettled()) == ([], 0)
    assert set(room.states().values()) == {"synced"}
    assert not room.simulator.summary()["requestids_with_other_bodies"]


def test_whatever_becomes_of_a_request_its_customer_is_there_once(room: Club) -> None:
    """Each way to fail, once on the way of a create and once on that of an update, sent one by one."""
    members = [{"id": n, "first": "Ann", "last": f"Lee{n:02}x"} for n in range(1, len(LOST) + 1)]
    for member, text in zip(members, LOST, strict=True):
        fault(room, text, match=str(member["last"]))
    room.put(*({**member, "phone": "1"} for member in members))
    room.rounds()
    assert_each_once(room, len(LOST), "1")
    for member, text in zip(members, LOST, strict=True):
        fault(room, text, match=f"07-{member['id']:02}", operation="update")
    room.put(*({**member, "phone": f"07-{member['id']:02}"} for member in members))
    room.rounds()
    assert sorted(phones(room).values()) == sorted(f"07-{member['id']:02}" for member in members)
    assert room.simulator.company.created == len(LOST)
    assert (room.pending(), room.unsettled()) == ([], 0)


@pytest.mark.parametrize("replay", ["original", "6000", "6000_items"])
def test_whatever_becomes_of_a_batch_its_customers_are_there_once(database: str, tmp_path: Path, replay: str) -> None:
    """Each way to fail, once on the way of a batch; whatever a repeated batch is answered."""
    with club(database, tmp_path, Simulator(batch_replay=replay)) as room:  # type: ignore[arg-type]
        room.anew(threads=1)
        for number, text in enumerate(
            ["lost_after", "partial", "late:requests=1", "html_502:applied=true", "throttle", "lost_before", "6000"]
        ):
            kind, _, rest = text.partition(":")
            more = f"{rest}," if rest else ""
            room.simulator.fault(Fault.parse(f"{kind}:{more}operation=batch,match=Lee{number}x,times=1"))
        room.simulator.fault(Fault.parse("6000:operation=create,item=true,match=Lee3x 107,times=1"))
        room.simulator.fault(Fault.parse("10000:operation=create,item=true,match=Lee4x 131,times=1"))
        room.put(
            *({"id": n, "first": "Ann", "last": f"Lee{(n - 100) // 30}x {n}", "phone": "1"} for n in range(100, 310))
        )
        room.rounds()
        assert_each_once(room, 210, "1")


def test_what_quickbooks_has_forgotten_is_looked_up_before_it_is_sent_again(database: str, tmp_path: Path) -> None:
    """A create carried out without an answer, then an outage that outlasts the memory of requestids, and a rename by hand."""
    with club(database, tmp_path, Simulator(retention=60)) as room:
        for number, text in enumerate(("lost_after", "lost_after", "lost_before", "lost_after"), 1):
            fault(room, text, match=f"Lee{number}x")
            room.put({"id": number, "first": "Ann", "last": f"Lee{number}x", "phone": "1", "email": f"a{number}@b.org"})
        room.round()
        assert room.unsettled() == 4
        made = {entry["DisplayName"]: entry["Id"] for entry in room.simulator.customers()}
        room.simulator.edit(made["Ann Lee2x"], DisplayName="Annie Lee")
        room.put({"id": 4, "first": "Ann", "last": "Lee4x", "phone": "2", "email": "a4@b.org"})
        room.clock.advance(3600)
        room.rounds()
        assert phones(room) == {"Ann Lee1x": "1", "Annie Lee": "1", "Ann Lee3x": "1", "Ann Lee4x": "2"}
        assert room.simulator.company.created == 4
        assert room.pushed()["member:2"][1] == made["Ann Lee2x"]


def test_forgotten_batches_of_updates_take_one_question_each(database: str, tmp_path: Path) -> None:
    """What was carried out is seen in the customers; the rest goes in batches again, none by itself."""
    with club(database, tmp_path, Simulator(retention=60)) as room:
        people = [{"id": n, "first": "Ann", "last": f"Lee{n // 30}x {n}", "phone": "1"} for n in range(60)]
        room.put(*people)
        room.rounds()
        fault(room, "lost_after", match='"2-0"', operation="batch")
        fault(room, "lost_before", match='"2-1"', operation="batch")
        room.put(*({**one, "phone": f"2-{int(one['id']) // 30}"} for one in people))
        room.round()
        assert room.unsettled() == 60
        room.clock.advance(3600)
        before = room.simulator.requests.operations.copy()
        room.rounds()
        assert sorted(phones(room).values()) == ["2-0"] * 30 + ["2-1"] * 30
        assert room.simulator.company.created == 60
        assert room.unsettled() == 0
        since = room.simulator.requests.operations - before
        # A third question is for the customer types, once an hour.
        assert (since["query"], since["batch"], since["create"], since["update"]) == (3, 1, 0, 0)


def test_a_customer_made_by_hand_is_never_taken_for_ours(room: Club) -> None:
    """Who has the name since before, or with other values, keeps their customer; the record takes the next name."""
    fault(room, "lost_before", match="Lee1x")
    fault(room, "lost_before", match="Lee2x")
    room.put({"id": 1, "last": "Lee1x", "phone": "1"}, {"id": 2, "last": "Lee2x", "phone": "1"})
    room.round()
    assert room.unsettled() == 2
    by_hand = room.simulator.add("Customer", "Ann Lee1x", PrimaryPhone={"FreeFormNumber": "hers"})
    room.simulator.add("Employee", "Ann Lee2x")
    room.rounds()
    assert phones(room) == {"Ann Lee1x": "hers", "Ann Lee1x (No 1)": "1", "Ann Lee2x (No 2)": "1"}
    assert by_hand not in [row[1] for row in room.pushed().values()]


def test_a_rename_without_an_answer_ends_with_one_name(room: Club) -> None:
    """The same update again; where it was carried out the name is found to be its own, else the next one is taken."""
    room.put({"id": 1, "last": "Lee1x"}, {"id": 2, "last": "Lee2x"})
    room.rounds()
    room.simulator.add("Vendor", "Ann Lee4x")
    fault(room, "lost_after", match="Lee3x")
    fault(room, "lost_before", match="Lee4x")
    room.put({"id": 1, "last": "Lee3x"}, {"id": 2, "last": "Lee4x"})
    room.rounds()
    assert room.names() == ["Ann Lee3x", "Ann Lee4x (No 2)"]
    assert room.pushed()["member:2"][2] == "Ann Lee4x (No 2)"


def test_data_that_quickbooks_refuses_is_left_out_or_shown_to_a_person(room: Club) -> None:
    """What is unfit is left out and noted; what is refused is tried with less; then the record is parked with the reason."""
    refused = Fault.parse("2010:operation=create,match=odd@b.org")
    room.simulator.fault(refused)
    room.simulator.fault(Fault.parse("2020:operation=create,match=Never"))
    room.put(
        {"id": 1, "last": "Lee:\t1", "email": "nonsense", "phone": "0" * 31},
        {"id": 2, "last": "Lee2", "email": "odd@b.org", "phone": "2"},
        {"id": 3, "last": "Never", "phone": "3"},
    )
    room.rounds(3)
    assert phones(room) == {"Ann Lee- 1": "", "Ann Lee2": "2"}
    assert room.states() == {"member:1": "synced", "member:2": "synced", "member:3": "parked"}
    assert "PrimaryEmailAddr was left out: not an e-mail address" in room.row("member:1")["remarks"]
    assert "PrimaryPhone was left out: longer than 30 characters" in room.row("member:1")["remarks"]
    assert "QuickBooks refuses it" in room.row("member:2")["remarks"]
    assert room.pushed()["member:3"][0] == 2
    assert "2020" in room.row("member:3")["reason"]
    before = room.writes()
    room.clock.advance(86400)
    room.rounds(2)
    assert room.writes() == before
    room.simulator.faults.clear()
    assert customers.retry(room.app, ["member:3", "member:1"]) == ["member:3"]
    room.put({"id": 2, "last": "Lee2", "email": "even@b.org", "phone": "2"})
    room.rounds()
    assert set(room.states().values()) == {"synced"}
    assert room.simulator.company.created == 3


def test_a_customer_that_a_person_took_away_is_not_made_again(room: Club) -> None:
    """Deactivated, merged or deleted in QuickBooks: parked with the reason, never created blindly."""
    room.put(*({"id": n, "last": f"Lee{n}"} for n in (1, 2, 3)))
    room.rounds()
    made = {entry["DisplayName"]: entry["Id"] for entry in room.simulator.customers()}
    room.simulator.deactivate(made["Ann Lee1"])
    room.simulator.merge(made["Ann Lee2"], made["Ann Lee3"])
    room.put(*({"id": n, "last": f"Lee{n}", "phone": "2"} for n in (1, 2, 3)))
    room.rounds(3)
    assert room.states() == {"member:1": "parked", "member:2": "parked", "member:3": "synced"}
    assert "deactivated" in room.row("member:1")["reason"]
    assert "merged" in room.row("member:2")["reason"]
    assert room.simulator.company.created == 3


def test_an_outage_spends_attempts_and_throttling_does_not(room: Club) -> None:
    """What fails for long counts as failed and is tried by rule all the same; what is throttled just waits.

    The source is told 3 once a first attempt came to nothing, 2 when it failed, 1 at the end; who gets through at once is told 1.
    """
    room.put({"id": 2, "last": "Lo"})
    room.rounds()
    room.simulator.fault(Fault.parse("throttle:operation=create,times=4"))
    room.put({"id": 1, "last": "Lee"})
    for _ in range(4):
        room.round()
        room.clock.advance(90)
    assert room.row("member:1")["attempts"] == 0
    assert [told["state"] for told in room.told()] == [1]
    room.simulator.faults.clear()
    room.simulator.fault(Fault.parse("html_503:operation=create"))
    states = []
    while "failed" not in states and len(states) < 12:
        room.clock.advance(320)
        room.round()
        states.append(room.states()["member:1"])
    assert states[:2] == ["retryable", "retryable"]
    assert room.pushed()["member:1"][0] == 2
    assert [told["state"] for told in room.told()] == [1, 3, 2]
    room.simulator.faults.clear()
    room.clock.advance(3700)
    room.rounds()
    assert room.pushed()["member:1"][0] == 1
    assert [told["state"] for told in room.told()] == [1, 3, 2, 1]
    assert room.names() == ["Ann Lee", "Ann Lo"]


def test_a_person_pauses_and_others_go_on(room: Club) -> None:
    """A paused company is written nothing, what was known is told, and it goes on where it was."""
    room.connection.execute("UPDATE rowtide.quickbooks_realm SET paused = true")
    room.put({"id": 1, "last": "Lee"})
    room.round()
    assert (room.names(), room.lane.waits) == ([], "Customers wait: paused.")
    room.connection.execute("UPDATE rowtide.quickbooks_realm SET paused = false")
    room.rounds()
    assert (room.names(), room.lane.waits) == (["Ann Lee"], None)


def test_custom_fields_come_to_stay_or_go_to_notes(database: str, tmp_path: Path) -> None:
    """Definitions get their values in a request of their own; what is dropped in silence ends in Notes."""
    company = Company(
        enhanced_fields=True, custom_fields={"3": CustomField("Team"), "4": CustomField("No", "NumberType")}
    )
    with club(database, tmp_path, Simulator(company)) as room:
        room.settings_with(fields={"Team": "definition:3", "Number": "definition:4", "CustomerType": "nothing"})
        room.put({"id": 1, "last": "Lee", "team": "Red"})
        room.rounds()
        (customer,) = room.simulator.customers()
        assert [(one["DefinitionId"], one["StringValue"]) for one in customer["CustomField"]] == [("3", "Red")]
        assert customer["Notes"] == "[Rowtide]\nNumber: 1\n[/Rowtide]"
        room.put({"id": 1, "last": "Lee", "team": "Blue"})
        room.rounds()
        assert room.simulator.customers()[0]["CustomField"][0]["StringValue"] == "Blue"


def test_a_company_without_custom_fields_is_asked_once(room: Club) -> None:
    """Where none of them comes to stay, all customers have their fields in Notes, and nobody asks again for a day."""
    room.settings_with(fields={"Team": "definition:3"})
    room.anew(threads=1)
    room.put(*({"id": n, "last": f"Lee{n}", "team": "Red"} for n in (1, 2, 3)))
    room.rounds()
    assert all("Team: Red" in customer["Notes"] for customer in room.simulator.customers())
    with connect(room.dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM rowtide.quickbooks_request WHERE operation = 'fields'"
        ).fetchone()
    assert row == (1,)


def test_types_of_customers_are_used_where_the_company_has_them(database: str, tmp_path: Path) -> None:
    """The type's name is looked up once; its reference is sent."""
    with club(database, tmp_path, Simulator(Company(customer_types=("Member", "Guest")))) as room:
        room.put({"id": 1, "last": "Lee"})
        room.rounds()
        (customer,) = room.simulator.customers()
        assert customer["CustomerTypeRef"]["value"] == "100001"
        assert "CustomerType" not in customer["Notes"]


def test_a_rebuilt_state_database_pushes_nothing(room: Club) -> None:
    """What only the log knows is taken into the map: no write, and the next change is an update of what is there."""
    for number in (1, 2):
        room.put({"id": number, "last": "Lee"})
        room.rounds()
    room.leave(1)
    before = room.writes()
    for table in ("customer", "customer_name", "quickbooks_request"):
        room.connection.execute(f"DELETE FROM rowtide.{table}")
    room.app.rebuild()
    room.anew()
    room.rounds()
    assert room.writes() == before
    number = room.pushed()["member:1"][1]
    room.simulator.edit(str(number), DisplayName="Another")
    room.put({"id": 2, "last": "Lee", "phone": "0711"})
    room.rounds()
    assert phones(room) == {"Another": "", "Ann Lee (No 2)": "0711"}


def test_a_log_of_another_company_pushes_nothing(room: Club) -> None:
    """Where the log tells of customers in another company, none would seem pending here: that is said, not passed over."""
    told = ("member:1", "9999", "1", "7", "0", "Ann Lee", "of another time", None, None, None)
    room.app.append_input("pushed", told, ("member:1",))
    room.put({"id": 2, "last": "Roe"})
    room.round()
    assert "pushed to the company 9999" in (room.lane.waits or "")
    assert room.writes() == 0


def test_several_push_at_once_and_each_customer_is_made_once(room: Club) -> None:
    """The lane and two commands beside each other share the records out; limits hold for all of them together."""
    room.put(*({"id": n, "last": f"Lee{n}", "kind": "member" if n % 2 else "guest"} for n in range(1, 91)))
    stop = threading.Event()
    results: list[customers.PushResult] = []

    def command() -> None:
        for _ in range(3):
            results.append(customers.push(room.app, ["member", "guest"], 100, stop=stop))

    threads = [threading.Thread(target=command) for _ in range(2)]
    for thread in threads:
        thread.start()
    room.round()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    room.rounds()
    assert len(room.names()) == room.simulator.company.created == 90
    assert room.simulator.throttle.summary().get("refused", 0) == 0
    assert sum(result.successful for result in results) <= 90


def test_jumping_clock_is_what_the_simulator_counts_with(room: Club) -> None:
    """The tests' time is one: what waits for a minute finds the simulator a minute later."""
    assert isinstance(room.clock, JumpingClock)
    assert room.simulator.clock is room.clock
