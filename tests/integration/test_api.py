"""The API on a school of the domain mis and a company of the simulator: what it answers, and what then is in QuickBooks."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from api_school import CANARIES, Office, office
from daemons import until

from connectors.embedded import EmbeddedPostgres
from connectors.quickbooks import realm
from connectors.quickbooks.simulator import Fault
from connectors.state import connect, migrate
from daemon import audit, customers
from daemon.api.desk import AT_ONCE

KINDS = ("applicants", "students")
WRITES = ("create", "update", "batch")


@pytest.fixture(scope="module")
def desk(server: EmbeddedPostgres) -> Iterator[Office]:
    """As the test before left it: for what changes nothing."""
    dsn = server.ensure_database("api_school")
    migrate(dsn)
    with office(dsn) as opened:
        yield opened


@pytest.fixture
def school(desk: Office) -> Iterator[Office]:
    """Nothing pending; afterwards no fault is asked for, and the company is connected."""
    if data(desk.get("analyze"))["overall"]["total_not_synced"]:
        assert data(desk.post("all"))["applicants"]["failed"] == 0
    yield desk
    with desk.simulator.lock:
        desk.simulator.faults.clear()
    desk.realm("state = 'connected', paused = false, paused_until = NULL, reason = NULL")
    with connect(desk.app.dsn) as connection:
        connection.execute("UPDATE rowtide.customer SET state = 'available', due_at = NULL WHERE state <> 'synced'")


def data(response: Any) -> dict[str, Any]:
    """The data of an answer that has some."""
    body = response.json()
    assert (response.status_code, body["success"]) == (200, True), body
    assert body.keys() == {"success", "message", "timestamp", "data"}
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() is not None
    found: dict[str, Any] = body["data"]
    return found


def refusal(response: Any) -> tuple[int, str, str]:
    """Status, code and message of an answer that has no data."""
    body = response.json()
    assert body.keys() == {"success", "message", "timestamp", "error", "details"}
    assert body["success"] is False
    return response.status_code, body["error"], body["message"]


def ids(previews: dict[str, Any]) -> list[int]:
    return [entry["applicant_id"] for entry in previews["customers"]]


def writes(school: Office) -> int:
    """How often something was asked to be changed in QuickBooks."""
    return sum(school.simulator.requests.operations[operation] for operation in WRITES)


# --- asking ---


def test_customers_are_counted_by_kind_and_state(school: Office) -> None:
    """Every customer is in one state; the totals are those of both kinds."""
    before = data(school.get("analyze"))
    school.admit(3)
    school.enrol(2)
    after = data(school.get("analyze"))
    assert after["applicants"]["not_synced"] - before["applicants"]["not_synced"] == 3
    assert after["students"]["not_synced"] - before["students"]["not_synced"] == 2
    for kind in KINDS:
        states = ("not_synced", "synced", "failed", "in_progress")
        assert after[kind]["total"] == sum(after[kind][state] for state in states)
    for name, state in (("customers", "total"), ("not_synced",) * 2, ("synced",) * 2, ("failed",) * 2):
        assert after["overall"][f"total_{name}"] == sum(after[kind][state] for kind in KINDS)


def test_a_preview_pages_over_all_and_changes_nothing(school: Office) -> None:
    """Pages of a preview hold each pending customer once, the same ones when asked again, and nothing is sent."""
    school.admit(7, first_name="Preview#")
    before = writes(school)
    pages = [data(school.get(f"preview/applicants?limit=3&offset={offset}")) for offset in (0, 3, 6)]
    assert [len(page["customers"]) for page in pages] == [3, 3, 1]
    shown = [number for page in pages for number in ids(page)]
    assert len(set(shown)) == 7
    assert shown == ids(data(school.get("preview/applicants?limit=100")))
    entry = pages[0]["customers"][0]
    assert entry["operation"] == "create"
    assert entry["customer"]["DisplayName"] == f"Preview{entry['applicant_id']} Nabirye"
    assert data(school.get("preview/applicants?offset=7")) == {"limit": 10, "offset": 7, "customers": []}
    assert writes(school) == before


def test_what_is_previewed_is_what_is_sent(school: Office) -> None:
    """The body of a preview is the body of the request that follows."""
    (number,) = school.admit(1, first_name="Exact#", phone1="+256700123456", email1="exact@school.example")
    (entry,) = data(school.get("preview/applicants"))["customers"]
    mark = list(school.simulator.requests)[-1].number
    assert data(school.post("applicants"))["successful"] == 1
    sent = school.simulator.requests.since(mark, operation="create")
    assert [seen.json for seen in sent] == [entry["customer"]]
    assert entry["applicant_id"] == number


def test_the_status_tells_how_far_everything_is(school: Office) -> None:
    """Per cent synced, never 100 before all are; whether QuickBooks is connected; when a state last changed."""
    school.post("all")
    done = data(school.get("status"))
    assert done["progress"]["overall"] == 100.0
    assert done["statistics"] == data(school.get("analyze"))
    assert done["quickbooks_connected"] is True
    school.admit(1)
    begun = data(school.get("status"))
    assert begun["progress"]["applicants"] < 100.0
    assert begun["last_updated"] == done["last_updated"]
    school.post("applicants")
    assert data(school.get("status"))["last_updated"] > done["last_updated"]


# --- pushing ---


def test_a_push_takes_as_many_as_it_is_told(school: Office) -> None:
    """Batch after batch of a shrinking set, no customer is passed over, and each is told with its id in QuickBooks."""
    admitted = school.admit(5, first_name="Batch#")
    told: dict[int, str] = {}
    for expected in (2, 2, 1, 0):
        pushed = data(school.post("applicants", {"batch_size": 2.0}))  # which JSON does not tell from 2
        assert (pushed["total_processed"], pushed["successful"], pushed["failed"]) == (expected, expected, 0)
        told.update({entry["applicant_id"]: entry["quickbooks_id"] for entry in pushed["success_details"]})
    assert sorted(told) == admitted
    for number, quickbooks_id in told.items():
        found = school.simulator.company.find("Customer", quickbooks_id)
        assert found is not None
        assert found.name == f"Batch{number} Nabirye"


def test_students_are_pushed_apart(school: Office) -> None:
    """Students' push takes students alone, and names them so."""
    school.admit(1)
    (number,) = school.enrol(1)
    pushed = data(school.post("students", {"batch_size": 10}))
    assert [entry["student_id"] for entry in pushed["success_details"]] == [number]
    assert data(school.get("preview/applicants"))["customers"] != []


def test_all_goes_on_until_nothing_is_pending(school: Office) -> None:
    """`all` pushes batch after batch: every customer once, a batch of less than there are notwithstanding."""
    admitted, enrolled = school.admit(5, first_name="All#"), school.enrol(3, fname="All#")
    pushed = data(school.post("all", {"batch_size": 2}))
    assert sorted(entry["applicant_id"] for entry in pushed["applicants"]["success_details"]) == admitted
    assert sorted(entry["student_id"] for entry in pushed["students"]["success_details"]) == enrolled
    assert datetime.fromisoformat(pushed["start_time"]) <= datetime.fromisoformat(pushed["end_time"])
    names = Counter(school.live())
    assert [names[f"All{number} Nabirye"] for number in admitted] == [1] * 5
    assert [names[f"All{number} Okot"] for number in enrolled] == [1] * 3
    assert data(school.get("analyze"))["overall"]["total_not_synced"] == 0
    assert data(school.post("all"))["applicants"]["total_processed"] == 0


def test_all_takes_more_than_a_batch_of_quickbooks(school: Office) -> None:
    """A batch_size over QuickBooks' limit of 30 operations is no batch of that size: none has more than 30."""
    admitted = school.admit(40, first_name="Many#")
    mark = list(school.simulator.requests)[-1].number
    pushed = data(school.post("all", {"batch_size": 40, "sync_students": False}))
    assert sorted(entry["applicant_id"] for entry in pushed["applicants"]["success_details"]) == admitted
    batches = school.simulator.requests.since(mark, operation="batch")
    assert [len(seen.json["BatchItemRequest"]) for seen in batches] == [30]


def test_all_can_leave_a_kind_out(school: Office) -> None:
    """What is not to be synced is not."""
    school.admit(1)
    school.enrol(1)
    pushed = data(school.post("all", {"sync_applicants": False}))
    assert (pushed["applicants"]["total_processed"], pushed["students"]["successful"]) == (0, 1)


@pytest.mark.parametrize("value", [0, -1, 101, "5", 2.5, True, None, [1], 10**30])
@pytest.mark.parametrize("path", ["applicants", "students", "all"])
def test_a_batch_size_out_of_range_is_refused(desk: Office, path: str, value: object) -> None:
    """400 naming the field, and nothing is sent: 0 does not mean everything."""
    before = writes(desk)
    response = desk.post(path, {"batch_size": value})
    status, code, message = refusal(response)
    assert (status, code) == (400, "invalid_request")
    assert message.startswith("batch_size must be ")
    assert [problem["field"] for problem in response.json()["details"]["fields"]] == ["batch_size"]
    assert writes(desk) == before


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", ["limit"]),
        ("limit=101", ["limit"]),
        ("limit=1.0", ["limit"]),
        ("limit=", ["limit"]),
        ("limit=ten", ["limit"]),
        ("offset=-1", ["offset"]),
        (f"offset={2**31}", ["offset"]),
        (f"offset={'9' * 40}", ["offset"]),
        ("limit=0&offset=-1", ["limit", "offset"]),
        ("limt=5", ["limt"]),
    ],
)
def test_a_page_out_of_range_is_refused(desk: Office, query: str, fields: list[str]) -> None:
    """400 naming the fields."""
    for kind in KINDS:
        response = desk.get(f"preview/{kind}?{query}")
        assert refusal(response)[:2] == (400, "invalid_request")
        assert [problem["field"] for problem in response.json()["details"]["fields"]] == fields


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 5000, b'{"batch_size": NaN}', b'"text"', b"[]"])
def test_a_body_that_is_no_object_is_refused(desk: Office, body: bytes) -> None:
    """400, whatever was sent, and the answer repeats nothing of it."""
    response = desk.ask("POST", "applicants", data=body, headers={"Content-Type": "application/json"})
    assert refusal(response)[:2] == (400, "invalid_request")


def test_other_addresses_and_methods_are_told_apart(desk: Office) -> None:
    """404 and 405 in the envelope, 405 with the methods there are; a large body is 413."""
    assert refusal(desk.get("nothing"))[:2] == (404, "not_found")
    assert refusal(desk.get("analyze/"))[:2] == (404, "not_found")
    response = desk.get("all")
    assert refusal(response)[:2] == (405, "method_not_allowed")
    assert response.headers["Allow"] == "POST"
    large = desk.ask("POST", "all", data=b" " * 20_000, headers={"Content-Type": "application/json"})
    assert refusal(large)[:2] == (413, "too_large")


# --- who may ask ---


def test_nothing_is_told_without_a_token(desk: Office) -> None:
    """401 for every address of the OpenAPI document, valid or not, before what is asked is looked at; nothing is sent."""
    before = writes(desk)
    document = desk.get("/api/openapi.json", token="none").json()
    asked = [(path, method) for path, methods in document["paths"].items() for method in methods]
    assert len(asked) == 7
    for path, method in asked:
        for token in ("wrong", "Bearer", f"{desk.token}x"):
            response = desk.ask(method.upper(), f"/api{path}?limit=-1", token=token, data=b"{")
            assert refusal(response)[:2] == (401, "unauthorized")
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert refusal(desk.get("nothing", token="wrong"))[0] == 401
    assert writes(desk) == before


def test_what_the_page_shows_is_about_nobody(school: Office) -> None:
    """The page has no login: it shows how customers stand and no value of a person; reports and queries, which have some, need the token."""
    school.admit(1, first_name=CANARIES[0], family_name=CANARIES[1], email1=CANARIES[2], phone1=CANARIES[3],
                 nation_id_passport_no=CANARIES[4])  # fmt: skip
    none: dict[str, Any] = {"headers": {"Authorization": ""}}
    shown = [school.get(path, **none) for path in ("/", "/status", "/ready", "/metrics", "/health")]
    assert [response.status_code for response in shown] == [200] * 5
    assert "Customers in QuickBooks" in shown[0].text
    closed = [school.get(path, **none) for path in ("/queries/pending", "/reports/customers", "/reports/customers.csv")]
    assert [response.status_code for response in closed] == [401] * 3
    assert [school.get(path).status_code for path in ("/queries/pending", "/reports/customers")] == [200] * 2
    assert CANARIES[0] in school.get("/queries/pending").text
    for response in [*shown, *closed]:
        assert not any(canary in response.text for canary in CANARIES)
        assert "/queries/" not in response.text


# --- QuickBooks is not as it should be ---


@pytest.mark.parametrize("path", ["applicants", "students", "all"])
@pytest.mark.parametrize("state", ["disconnected", "reconnect_needed"])
def test_without_a_company_nothing_is_pushed(school: Office, path: str, state: str) -> None:
    """400 “QuickBooks not connected”, with what to type; figures and previews are told all the same."""
    school.admit(1)
    school.realm("state = %s", state)
    response = school.post(path)
    assert refusal(response) == (400, "not_connected", "QuickBooks not connected")
    assert "rowtide quickbooks connect" in response.json()["details"]["hint"]
    assert data(school.get("status"))["quickbooks_connected"] is False
    assert len(data(school.get("preview/applicants"))["customers"]) == 1


def test_a_paused_company_is_told(school: Office) -> None:
    """409 while a person has paused it; resumed, it goes on."""
    school.admit(1)
    school.realm("paused = true, reason = 'the month is being closed'")
    status, code, message = refusal(school.post("applicants"))
    assert (status, code) == (409, "blocked")
    assert "the month is being closed" in message
    with connect(school.app.dsn) as connection:
        realm.resume(connection, school.simulator.company.realm, time.time())
    assert data(school.post("applicants"))["successful"] == 1


def test_a_failure_is_told_without_values(school: Office) -> None:
    """A customer that QuickBooks refuses is told with its id and the reason, which holds nothing about the person."""
    with school.simulator.lock:
        school.simulator.faults.add(Fault("2020", operation="write", match=CANARIES[0]))
    (number,) = school.admit(1, first_name=CANARIES[0], family_name=CANARIES[1], email1=CANARIES[2])
    (fine,) = school.admit(1)
    response = school.post("applicants", {"batch_size": 10})
    pushed = data(response)
    assert (pushed["total_processed"], pushed["successful"], pushed["failed"]) == (2, 1, 1)
    assert [entry["applicant_id"] for entry in pushed["errors"]] == [number]
    assert [entry["applicant_id"] for entry in pushed["success_details"]] == [fine]
    assert "2020" in pushed["errors"][0]["error"]
    assert not any(canary in response.text for canary in CANARIES)
    assert data(school.get("analyze"))["applicants"]["failed"] == 1


def test_the_audit_is_about_nobody(school: Office) -> None:
    """Every request has a row with its customer and its requestid; no value of a person is in any; filters hold."""
    with school.simulator.lock:
        school.simulator.faults.add(Fault("2020", operation="create", match=CANARIES[0], times=1))
    (number,) = school.admit(1, first_name=CANARIES[0], family_name=CANARIES[1], email1=CANARIES[2],
                             phone1=CANARIES[3], nation_id_passport_no=CANARIES[4])  # fmt: skip
    school.post("applicants")
    with connect(school.app.dsn) as connection:
        connection.execute("UPDATE rowtide.customer SET state = 'available', due_at = NULL WHERE state <> 'synced'")
    school.post("applicants")
    record = f"applicant:{number}"
    mine = audit.listed(school.app, audit.Filter(record=record))
    assert [(row["operation"], row["outcome"], row["fault_code"]) for row in reversed(mine)] == [
        ("create", "data", "2020"),
        ("create", "done", None),
    ]
    assert len({row["requestid"] for row in mine}) == 2, "a new requestid after one that was settled"
    everything = audit.listed(school.app, audit.Filter(limit=10_000))
    assert len(everything) == len([seen for seen in school.simulator.requests if "/company/" in seen.path])
    assert everything == sorted(everything, key=lambda row: (row["at"], row["id"]), reverse=True)
    text = json.dumps(everything, default=str)
    assert not any(canary in text for canary in CANARIES)
    assert "\n".join(audit.lines(everything)).count(record) >= 2
    assert [row["record"] for row in audit.listed(school.app, audit.Filter(record=record, failed=True))] == [record]
    last = everything[0]["at"]
    assert all(row["at"] >= last for row in audit.listed(school.app, audit.Filter(since=last)))
    assert len(audit.listed(school.app, audit.Filter(limit=1))) == 1


def test_a_batch_is_found_by_each_of_its_customers(school: Office) -> None:
    """A batch has one row, which is about every customer in it; one that failed in it makes it one of the failed."""
    admitted = school.admit(30, first_name="Row", family_name="# Nabirye")
    with school.simulator.lock:
        school.simulator.faults.add(Fault("2020", operation="create", item=True, match=f"Row {admitted[2]} ", times=1))
    school.post("applicants", {"batch_size": 30})
    for number in (admitted[0], admitted[29]):
        rows = audit.listed(school.app, audit.Filter(record=f"applicant:{number}"))
        assert [row["operation"] for row in rows] == ["batch"]
        assert len(rows[0]["records"]) == 30
    failed = audit.listed(school.app, audit.Filter(record=f"applicant:{admitted[0]}", failed=True))
    assert len(failed) == 1


# --- many at once, and clients that leave ---


def test_the_page_answers_while_customers_are_pushed(school: Office) -> None:
    """Pushes wait in threads of their own: as many as may leave page and figures prompt, one more is told to wait."""
    school.admit(AT_ONCE)
    before = writes(school)
    with school.simulator.lock:
        school.simulator.faults.add(Fault("delay", operation="create", seconds=2.0))
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(school.post("applicants", {"batch_size": 1})))
        for _ in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    until(lambda: writes(school) == before + AT_ONCE, every=0.01)
    busy = school.post("students")
    assert refusal(busy)[:2] == (503, "busy")
    assert int(busy.headers["Retry-After"]) > 0
    began = time.monotonic()
    assert school.get("/health").status_code == 200
    assert data(school.get("analyze"))["applicants"]["total"] > 0
    assert time.monotonic() - began < 2.0
    for thread in threads:
        thread.join(20)
    pushed = [entry["applicant_id"] for answer in answers for entry in data(answer)["success_details"]]
    assert len(pushed) == len(set(pushed)) == AT_ONCE, "each customer is pushed by one of them"


def test_a_client_that_leaves_leaves_nothing_half_done(school: Office) -> None:
    """A client closes the connection while its push waits for QuickBooks: the customers are there and noted, once."""
    admitted = school.admit(3, first_name="Left#")
    with school.simulator.lock:
        school.simulator.faults.add(Fault("delay", operation="create", seconds=0.5))
    host, port = school.url.removeprefix("http://").split(":")
    before = writes(school)
    with socket.create_connection((host, int(port)), timeout=10) as client:
        body = b'{"batch_size": 100}'
        head = (
            f"POST /api/v1/sync/customers/all HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {school.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body)
        until(lambda: writes(school) > before, every=0.01)
    until(lambda: data(school.get("preview/applicants"))["customers"] == [], every=0.05)
    names = Counter(school.live())
    assert [names[f"Left{number} Nabirye"] for number in admitted] == [1] * 3
    found = data(school.get("analyze"))["applicants"]
    assert (found["in_progress"], found["failed"], found["not_synced"]) == (0, 0, 0)
    assert data(school.post("all"))["applicants"]["total_processed"] == 0


def test_a_push_that_waits_for_its_turn_ends_with_the_daemon(school: Office) -> None:
    """Where the minute's requests are used up a push waits; told to stop, it ends within seconds, and nothing is lost."""
    (number,) = school.admit(1, first_name="Late#")
    before = writes(school)
    with connect(school.app.dsn) as connection:
        connection.execute(
            "INSERT INTO rowtide.quickbooks_slot (realm_id, kind, holder, taken_at, released_at)"
            " SELECT %s, 'request', 0, now(), now() FROM generate_series(1, 500)",
            [school.simulator.company.realm],
        )
    stop, ended = threading.Event(), threading.Event()

    def push() -> None:
        customers.push(school.app, ["applicant"], 10, stop=stop)
        ended.set()

    threading.Thread(target=push, daemon=True).start()
    sql = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{_database(school)}' AND query LIKE '%quickbooks_slot%'"
    school.wait_for(sql)
    assert not ended.wait(0.5)
    stop.set()
    assert ended.wait(10)
    assert writes(school) == before
    with connect(school.app.dsn) as connection:
        connection.execute("DELETE FROM rowtide.quickbooks_slot")
        connection.execute("UPDATE rowtide.customer SET due_at = NULL WHERE state <> 'synced'")
    school.post("applicants")
    assert school.live().count(f"Late{number} Nabirye") == 1


def _database(school: Office) -> str:
    with connect(school.app.dsn) as connection:
        return connection.info.dbname
