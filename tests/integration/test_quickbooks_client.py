"""The client against the simulator over HTTP: what is sent, what each answer becomes, what is told of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from connected_company import JumpingClock
from quickbooks_books import Books, books

from connectors.quickbooks import realm
from connectors.quickbooks.client import BatchOperation, quoted
from connectors.quickbooks.errors import (
    AddressRefusedError,
    NotConnectedError,
    OtherCompanyError,
    QuickBooksBlockedError,
    QuickBooksRefusedError,
    QuickBooksUnavailableError,
)
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.oauth import OAuth
from connectors.quickbooks.options import Options
from connectors.quickbooks.simulator import Company, CustomField, Fault, OAuthRules, Simulator, serve
from connectors.quickbooks.simulator.limits import Limits as Permitted
from connectors.quickbooks.status import status

FREE = Permitted(None, None, None, None)


@pytest.fixture
def company(books_dsn: str, tmp_path: Path) -> Iterator[Books]:
    clock = JumpingClock()
    held = Company(
        enhanced_fields=True, custom_fields={"3": CustomField("Campus")}, customer_types=("Applicant", "Student")
    )
    with books(
        books_dsn, tmp_path, Simulator(held, clock, limits=FREE, oauth=OAuthRules(rotate_after=0)), clock
    ) as opened:
        yield opened


def test_a_customer_is_created_changed_and_read(company: Books) -> None:
    """Exactly the attributes given are sent, each mutating request with its requestid, all at minor version 75."""
    client = company.client()
    made = client.create({"DisplayName": "Åsa O'Neil"}, requestid="r-1", record="student:1")
    assert made.done
    assert made.entity is not None
    body = {"Id": made.entity["Id"], "SyncToken": made.entity["SyncToken"], "sparse": True, "GivenName": "Åsa"}
    changed = client.update(body, requestid="r-2", record="student:1")
    found = client.read(made.entity["Id"])
    assert changed.entity is not None
    assert found.entity is not None
    assert (found.entity["DisplayName"], found.entity["GivenName"]) == ("Åsa O'Neil", "Åsa")
    assert found.entity["SyncToken"] == changed.entity["SyncToken"] != made.entity["SyncToken"]
    sent = company.sent("create", "update", "read")
    assert [seen.requestid for seen in sent] == ["r-1", "r-2", ""]
    assert [seen.json for seen in sent] == [
        {"DisplayName": "Åsa O'Neil"},
        body,
        None,
    ]
    assert {seen.query["minorversion"] for seen in sent} == {"75"}
    assert company.audit("instance, record, operation, requestid, http_status, fault_code, outcome") == [
        ("school", "student:1", "create", "r-1", 200, None, "done"),
        ("school", "student:1", "update", "r-2", 200, None, "done"),
        ("school", None, "read", None, 200, None, "done"),
    ]
    assert company.rows("SELECT count(*) FROM rowtide.quickbooks_audit WHERE duration_ms > 0 AND intuit_tid <> ''") == [
        (3,)
    ]


@pytest.mark.parametrize(
    "body", [{"Id": "1", "SyncToken": "0"}, {"Id": "1", "sparse": True}, {"SyncToken": "0", "sparse": True}]
)
def test_an_update_that_would_empty_attributes_is_not_sent(company: Books, body: dict[str, object]) -> None:
    """A full update nulls what is left out, so there is none."""
    client = company.client()
    with pytest.raises(ValueError, match="emptied"):
        client.update(body, requestid="r", record="student:1")
    with pytest.raises(ValueError, match="emptied"):
        client.batch([BatchOperation("1", "update", body, "student:1")], requestid="r")
    assert company.sent("update", "batch") == []


@pytest.mark.parametrize(
    ("fault", "verdict", "status_", "code", "made"),
    [
        ("6240", Verdict.NAME_TAKEN, 400, "6240", 0),
        ("5010", Verdict.STALE, 400, "5010", 0),
        ("610", Verdict.GONE, 400, "610", 0),
        ("2040", Verdict.DATA, 400, "2040", 0),
        ("500", Verdict.UNSUPPORTED, 400, "500", 0),
        ("6000", Verdict.FEW_RETRIES, 400, "6000", 0),
        ("10000", Verdict.UNKNOWN, 500, "10000", 0),
        ("html_502", Verdict.UNKNOWN, 502, None, 0),
        ("html_503", Verdict.UNKNOWN, 503, None, 0),
        ("html_504", Verdict.UNKNOWN, 504, None, 0),
        ("fault_200", Verdict.FEW_RETRIES, 200, "6000", 0),
        ("empty_200", Verdict.UNKNOWN, 200, None, 1),
        ("lost_before", Verdict.UNKNOWN, None, None, 0),
        ("lost_after", Verdict.UNKNOWN, None, None, 1),
        ("throttle", Verdict.THROTTLED, 429, "3001", 0),
        ("throttle_403", Verdict.THROTTLED, 403, "3001", 0),
        ("throttle_json", Verdict.THROTTLED, 429, "3001", 0),
        ("3100", Verdict.BLOCKED, 403, "3100", 0),
        ("6190", Verdict.BLOCKED, 400, "6190", 0),
        ("120", Verdict.BLOCKED, 401, "120", 0),
    ],
)
def test_each_way_to_fail_is_told_apart(
    company: Books, fault: str, verdict: Verdict, status_: int | None, code: str | None, made: int
) -> None:
    """The library makes one exception of most of these; the status, the code and what they mean are kept."""
    company.simulator.fault(Fault(fault, operation="create", times=1))
    answer = company.client().create({"DisplayName": "Mary Poppins"}, requestid="r-1", record="student:1")
    assert (answer.verdict, answer.http_status, answer.code, answer.entity) == (verdict, status_, code, None)
    assert answer.sent
    assert "Poppins" not in answer.reason
    assert len(company.simulator.customers()) == made
    assert company.audit("http_status, fault_code, outcome") == [(status_, code, str(verdict))]


def test_an_unknown_outcome_is_learnt_by_the_same_requestid(company: Books) -> None:
    """Applied and lost: the same requestid brings the customer, and makes no second."""
    company.simulator.fault(Fault("lost_after", operation="create", times=1))
    client = company.client()
    first, second = (client.create({"DisplayName": "Mary"}, requestid="r-1", record="student:1") for _ in range(2))
    assert (first.verdict, second.verdict) == (Verdict.UNKNOWN, Verdict.DONE)
    assert len(company.simulator.customers()) == 1


def test_an_expired_token_is_renewed_and_the_request_sent_again(company: Books) -> None:
    """Once, under the same requestid, with the new token; nobody else notices."""
    company.simulator.fault(Fault("expire", operation="create", times=1))
    answer = company.client().create({"DisplayName": "Mary"}, requestid="r-1", record="student:1")
    assert answer.done
    sent = company.sent("create")
    assert [seen.requestid for seen in sent] == ["r-1", "r-1"]
    assert len(company.tokens()) == 2
    assert company.simulator.oauth.refreshes == 1
    assert company.audit("http_status, outcome") == [(401, "expired"), (200, "done")]


def test_a_token_that_is_never_accepted_rests_the_company(company: Books) -> None:
    """No loop: two requests, then a minute's rest, told as such and without an attempt spent."""
    company.simulator.fault(Fault("gateway_401", operation="create"))
    client = company.client()
    answer = client.create({"DisplayName": "Mary"}, requestid="r-1", record="student:1")
    assert (answer.verdict, answer.sent, answer.wait) == (Verdict.BLOCKED, False, 60)
    again = client.create({"DisplayName": "Mary"}, requestid="r-1", record="student:1")
    assert (again.verdict, again.sent) == (Verdict.THROTTLED, False)
    assert len(company.sent("create")) == 2
    assert company.current().state == realm.CONNECTED


def test_a_refusal_for_the_rate_rests_every_process(company: Books) -> None:
    """After a 429 no process sends for a minute; then all do."""
    company.simulator.fault(Fault("throttle", times=1))
    one, other = company.client(), company.client()
    assert one.read("1").verdict is Verdict.THROTTLED
    held = other.create({"DisplayName": "Mary"}, requestid="r", record="student:1")
    assert (held.verdict, held.sent, round(held.wait)) == (Verdict.THROTTLED, False, 60)
    with pytest.raises(QuickBooksBlockedError) as blocked:
        other.query("SELECT Id FROM Customer")
    assert blocked.value.wait > 0
    assert len(company.sent("read", "create", "query")) == 1
    company.clock.advance(held.wait)
    assert other.create({"DisplayName": "Mary"}, requestid="r", record="student:1").done


def test_a_refusal_of_the_app_stops_the_company_until_a_person_resumes(company: Books) -> None:
    """6190: the subscription has ended. Nothing more is sent, and status tells why."""
    company.simulator.fault(Fault("6190", times=1))
    client = company.client()
    assert client.create({"DisplayName": "Mary"}, requestid="r-1", record="student:1").verdict is Verdict.BLOCKED
    held = client.create({"DisplayName": "Mary"}, requestid="r-1", record="student:1")
    assert (held.verdict, held.sent) == (Verdict.BLOCKED, False)
    found = company.current()
    assert found.state == realm.STOPPED
    assert "6190" in str(found.waits(company.clock.now()))
    realm.resume(company.state, company.realm, company.clock.now())
    assert client.create({"DisplayName": "Mary"}, requestid="r-1", record="student:1").done


def test_a_person_can_pause(company: Books) -> None:
    """Nothing is sent until it is resumed; the reason is shown."""
    client = company.client()
    realm.pause(company.state, company.realm, "audit of the books", company.clock.now())
    held = client.read("1")
    assert (held.verdict, held.sent, held.reason) == (Verdict.BLOCKED, False, "paused: audit of the books")
    realm.resume(company.state, company.realm, company.clock.now())
    assert client.read("1").sent


def test_a_server_that_is_away_got_nothing(company: Books) -> None:
    """Known not to have been sent: it is no unknown outcome."""
    client = company.client(api_url="http://127.0.0.1:1", oauth_url=company.options.discovery)
    answer = client.create({"DisplayName": "Mary"}, requestid="r-1", record="student:1")
    assert (answer.verdict, answer.sent) == (Verdict.RETRY, False)


# --- batches ---


def operations(*names: str) -> list[BatchOperation]:
    return [BatchOperation(f"b{n}", "create", {"DisplayName": name}, f"student:{n}") for n, name in enumerate(names)]


def test_each_operation_of_a_batch_has_its_own_answer(company: Books) -> None:
    """One requestid, own bIds of ten characters at most, faults told apart, one audit row with all records."""
    company.simulator.add("Vendor", "Taken")
    answers = company.client().batch(operations("A", "Taken", "B:colon", "C"), requestid="batch-1")
    assert [answer.verdict for answer in answers] == [Verdict.DONE, Verdict.NAME_TAKEN, Verdict.DATA, Verdict.DONE]
    assert [answer.entity["DisplayName"] for answer in answers if answer.entity] == ["A", "C"]
    [seen] = company.sent("batch")
    assert (seen.requestid, [item["bId"] for item in seen.json["BatchItemRequest"]]) == (
        "batch-1",
        ["b0", "b1", "b2", "b3"],
    )
    [(request, response)] = company.audit("request, response")
    assert [item["record"] for item in request["items"]] == [f"student:{n}" for n in range(4)]
    assert [item.get("codes") for item in response["items"]] == [None, ["6240"], response["items"][2]["codes"], None]
    assert "Taken" not in json.dumps([request, response])


@pytest.mark.parametrize(("fault", "made"), [("lost_after", 2), ("lost_before", 0), ("html_504", 0), ("empty_200", 2)])
def test_a_batch_without_an_answer_is_unknown_as_a_whole(company: Books, fault: str, made: int) -> None:
    """Every operation is UNKNOWN; the same batch brings the truth and no doubles."""
    company.simulator.fault(Fault(fault, operation="batch", times=1))
    client = company.client()
    assert {answer.verdict for answer in client.batch(operations("A", "B"), requestid="batch-1")} == {Verdict.UNKNOWN}
    assert len(company.simulator.customers()) == made
    assert {answer.verdict for answer in client.batch(operations("A", "B"), requestid="batch-1")} == {Verdict.DONE}
    assert len(company.simulator.customers()) == 2


def test_a_batch_refused_as_a_whole_parks_nobody(company: Books) -> None:
    """A fault of the batch says nothing about any customer in it."""
    company.simulator.fault(Fault("2020", operation="batch", times=1))
    assert {answer.verdict for answer in company.client().batch(operations("A", "B"), requestid="b")} == {
        Verdict.FEW_RETRIES
    }


def test_a_batch_has_its_limits(company: Books) -> None:
    """Thirty operations, ten characters, thirty-six characters: more is not sent."""
    client = company.client()
    for given, requestid in [
        (operations(*[f"N{n}" for n in range(31)]), "b"),
        ([], "b"),
        ([BatchOperation("12345678901", "create", {}, "s:1")], "b"),
        (operations("A")[:1] * 2, "b"),
        (operations("A"), "x" * 37),
    ]:
        with pytest.raises(ValueError, match=r"has 1 to|bId"):
            client.batch(given, requestid=requestid)
    assert company.sent("batch") == []
    assert len(client.batch(operations(*[f"N{n}" for n in range(30)]), requestid="x" * 36)) == 30


# --- questions ---


@pytest.mark.parametrize("name", ["O'Neil", "back\\slash", "Żółć 木", "a\\'b", '"quoted"', "50%"])
def test_any_name_can_be_looked_up(company: Books, name: str) -> None:
    """Quotes and backslashes are escaped (the library leaves the backslash), and the encoding survives."""
    made = company.simulator.add("Customer", name)
    rows = company.client().query(f"SELECT Id, DisplayName FROM Customer WHERE DisplayName = {quoted(name)}")
    assert [(row["Id"], row["DisplayName"]) for row in rows] == [(made, name)]
    assert name not in json.dumps(company.audit("request, response"), ensure_ascii=False)


def test_the_company_is_asked_about_itself(company: Books) -> None:
    """CompanyInfo, the customer types by name, what changed since a moment."""
    client = company.client()
    assert client.company()["CompanyName"] == company.simulator.company.name
    assert set(client.customer_types()) == {"Applicant", "Student"}
    since = company.clock.now()
    company.clock.advance(2)
    made = company.simulator.add("Customer", "New")
    changes = client.changes_since(since)
    assert ([row["Id"] for row in changes.customers], changes.complete) == ([made], True)
    with pytest.raises(ValueError, match="30 days"):
        client.changes_since(company.clock.now() - 31 * 86400)
    assert client.query("SELECT Id FROM Customer WHERE DisplayName = 'Nobody'") == []


def test_a_question_that_fails_says_how(company: Books) -> None:
    """Worth asking again or not: told by the class, without a word of the question."""
    client = company.client()
    company.simulator.fault(Fault("html_503", operation="query", times=1))
    with pytest.raises(QuickBooksUnavailableError):
        client.query("SELECT Id FROM Customer WHERE DisplayName = 'Canary'")
    with pytest.raises(QuickBooksRefusedError) as refused:
        client.query("SELECT Id FROM Customer WHERE Canary = 'Canary'")
    assert "Canary" not in str(refused.value)


def test_enhanced_fields_are_asked_for(company: Books) -> None:
    """They are written and read with their own parameter only."""
    client = company.client()
    made = client.create({"DisplayName": "Mary"}, requestid="r-1", record="student:1")
    assert made.entity is not None
    fields = [{"DefinitionId": "3", "Type": "StringType", "StringValue": "Main"}]
    body = {"Id": made.entity["Id"], "SyncToken": made.entity["SyncToken"], "sparse": True, "CustomField": fields}
    assert client.update(body, requestid="r-2", record="student:1", enhanced_fields=True).done
    found = client.read(made.entity["Id"], enhanced_fields=True)
    assert found.entity is not None
    assert [field["StringValue"] for field in found.entity["CustomField"]] == ["Main"]


# --- secrets ---


def test_no_secret_and_no_personal_value_is_told_anywhere(company: Books, caplog: pytest.LogCaptureFixture) -> None:
    """Canaries in names, e-mails, phones and tokens: not in logs at DEBUG, reasons, audit or the state database's rows."""
    caplog.set_level(logging.DEBUG)
    client = company.client()
    canaries = ["Canaria", "canary@example.org", "0700-CANARY", "CanaryNote"]
    body = {
        "DisplayName": canaries[0],
        "PrimaryEmailAddr": {"Address": canaries[1]},
        "PrimaryPhone": {"FreeFormNumber": canaries[2]},
        "Notes": canaries[3],
        canaries[0]: "x",
    }
    said = []
    with structlog.testing.capture_logs() as lines:
        for fault in ("2040", "gateway_401", "6240", "fault_200", "html_502", "expire"):
            company.simulator.fault(Fault(fault, operation="write", times=1))
            said.append(repr(client.create(body, requestid=f"r-{fault}", record="student:1").reason))
            client.batch([BatchOperation("1", "create", body, "student:1")], requestid=f"b-{fault}")
    audit = company.rows("SELECT to_jsonb(a)::text FROM rowtide.quickbooks_audit AS a")
    everything = "\n".join([caplog.text, *map(str, lines), *said, *[row[0] for row in audit]])
    tokens = company.tokens()
    grants = [token for grant in company.simulator.oauth.grants for token in (grant.refresh_token, *grant.previous)]
    assert len(tokens) >= 3
    assert len(grants) > 1
    assert [
        canary for canary in [*canaries, *tokens, *grants, company.options.client_secret] if canary in everything
    ] == []
    sealed = bytes(company.rows("SELECT sealed FROM rowtide.quickbooks_token")[0][0])
    assert [token for token in [*tokens, *grants] if token.encode() in sealed] == []
    assert canaries[0] not in repr(company.options)
    assert company.options.client_secret not in repr(company.options)


# --- which company ---


def test_without_a_company_there_is_no_client(company: Books) -> None:
    """The words that the API gives back are these."""
    realm.set_state(company.state, company.realm, realm.DISCONNECTED, None, company.clock.now())
    with pytest.raises(NotConnectedError, match="QuickBooks not connected"):
        company.client()


def test_another_environment_is_refused(company: Books) -> None:
    """Tokens of one are never sent to another."""
    with pytest.raises(OtherCompanyError, match=r"simulator.*sandbox"):
        company.client(environment="sandbox", api_url=None)


def test_status_tells_of_the_limits_and_the_tokens(company: Books) -> None:
    """From the state database alone."""
    client = company.client()
    client.create({"DisplayName": "A"}, requestid="r", record="s:1")
    client.batch(operations("B"), requestid="b")
    told = status(company.state, company.current(), company.clock.now())
    assert told["last_minute"] == {
        "requests": 2,
        "requests_permitted": 500,
        "batches": 1,
        "batches_permitted": 40,
        "under_way": 0,
    }
    assert (told["state"], told["waits"], told["unresolved"], told["warnings"]) == ("connected", None, 0, [])
    company.clock.advance(90 * 86400)
    assert status(company.state, company.current(), company.clock.now())["warnings"] != []


def test_a_simulator_on_a_host_that_is_named_is_talked_to(company: Books) -> None:
    """Consent's address, tokens and customers: all of it on the named host, and none of it where it is not named."""
    with serve(company.simulator, host="127.0.0.2", allow_remote=True) as url:
        options = Options(**{**vars(company.options), "api_url": url, "simulator_host": "127.0.0.2"})
        assert OAuth(options, realm.open_wire(options, 5)).address("word").startswith(f"{url}/connect/oauth2?")
        client = company.client(api_url=url, simulator_host="127.0.0.2")
        company.simulator.oauth.expire_access(company.clock.now())
        assert client.create({"DisplayName": "Ann"}, requestid="r-1", record="student:1").done
        with pytest.raises(AddressRefusedError):
            company.client(api_url=url).create({"DisplayName": "Bea"}, requestid="r-2", record="student:2")
    assert [entry["DisplayName"] for entry in company.simulator.customers()] == ["Ann"]
