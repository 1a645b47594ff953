"""Requestids, batches and change data capture in the simulator."""

from __future__ import annotations

import threading
from typing import Any, Literal

import pytest
import requests
from simulator_api import SimulatorApi

from connectors.quickbooks.simulator import Company, Fault, SimClock, Simulator
from connectors.quickbooks.simulator.replies import stamp


class Api(SimulatorApi):
    """Posts, batches and changes."""

    def post(self, body: Any, *, kind: str = "customer", **query: str) -> requests.Response:
        self.simulator.clock.sleep(2)
        return self.session.post(f"{self.base}/{kind}", json=body, params=query)

    def batch(self, *items: dict[str, Any], **query: str) -> list[dict[str, Any]]:
        answer = self.post({"BatchItemRequest": items}, kind="batch", **query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["BatchItemResponse"]
        return found

    def changes(self, since: float, entities: str = "Customer") -> requests.Response:
        return self.session.get(f"{self.base}/cdc", params={"entities": entities, "changedSince": stamp(since)})


@pytest.fixture
def api() -> Api:
    return Api(Simulator(Company(), SimClock()))


def code(answer: requests.Response | dict[str, Any]) -> str:
    body = answer if isinstance(answer, dict) else answer.json()
    return str(body["Fault"]["Error"][0]["code"])


def create(number: str, name: str) -> dict[str, Any]:
    return {"bId": number, "operation": "create", "Customer": {"DisplayName": name}}


# --- requestid ---


def test_a_repeat_is_answered_with_the_original_answer(api: Api) -> None:
    first = api.post({"DisplayName": "Ada"}, requestid="r1")
    again = api.post({"DisplayName": "Ada"}, requestid="r1")
    assert again.content == first.content
    assert (api.simulator.company.created, api.simulator.memory.replays) == (1, 1)
    assert [seen.replayed for seen in api.simulator.requests] == [False, True]


def test_another_body_under_the_same_requestid_is_swallowed(api: Api) -> None:
    """A requestid derived from content alone loses the change A → B → A."""
    api.post({"DisplayName": "Ada"}, requestid="r1")
    for token, (requestid, notes) in enumerate([("a", "A"), ("b", "B"), ("a", "A")]):
        api.post({"Id": "1", "SyncToken": str(token), "sparse": True, "Notes": notes}, requestid=requestid)
    assert api.simulator.customers()[0]["Notes"] == "B"
    assert api.simulator.memory.other_bodies == ["a"]


def test_a_refusal_is_repeated_too(api: Api) -> None:
    api.simulator.add("Vendor", "Ada")
    assert code(api.post({"DisplayName": "Ada"}, requestid="r1")) == "6240"
    api.simulator.delete("1")
    assert code(api.post({"DisplayName": "Ada"}, requestid="r1")) == "6240"
    assert api.post({"DisplayName": "Ada"}, requestid="r2").status_code == 200


def test_refusals_may_be_made_to_be_forgotten() -> None:
    api = Api(Simulator(Company(), SimClock(), replay_faults=False))
    api.simulator.add("Vendor", "Ada")
    api.post({"DisplayName": "Ada"}, requestid="r1")
    api.simulator.delete("1")
    assert api.post({"DisplayName": "Ada"}, requestid="r1").status_code == 200


def test_a_requestid_is_known_only_so_long() -> None:
    api = Api(Simulator(Company(), SimClock(), retention=3600))
    api.post({"DisplayName": "Ada"}, requestid="r1")
    api.simulator.clock.sleep(3000)
    assert api.post({"DisplayName": "Ada"}, requestid="r1").json()["Customer"]["Id"] == "1"
    api.simulator.clock.sleep(600)
    # Without it the unique name is all that stands between a retry and a double.
    api.session.headers["Authorization"] = f"Bearer {api.simulator.connect()['access_token']}"
    assert code(api.post({"DisplayName": "Ada"}, requestid="r1")) == "6240"


def test_a_requestid_has_at_most_fifty_characters(api: Api) -> None:
    assert api.post({"DisplayName": "Ada"}, requestid="r" * 50).status_code == 200
    assert code(api.post({"DisplayName": "Grace"}, requestid="r" * 51)) == "2130"


def test_many_at_once_make_one(api: Api) -> None:
    """The same request from many threads is carried out once; so is a name under many requestids."""
    answers: list[int] = []

    def send(requestid: str) -> None:
        body = {"DisplayName": "Ada"}
        answers.append(api.session.post(f"{api.base}/customer", json=body, params={"requestid": requestid}).status_code)

    threads = [threading.Thread(target=send, args=(requestid,)) for requestid in ["same"] * 4 + ["a", "b", "c"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert api.simulator.company.created == 1
    assert len(answers) == 7
    assert sorted(set(answers)) == [200, 400]


def test_forgotten_on_demand(api: Api) -> None:
    api.post({"DisplayName": "Ada"}, requestid="r1")
    api.simulator.fault("forget:requestid=r1,times=1")
    assert code(api.post({"DisplayName": "Ada"}, requestid="r1")) == "6240"


# --- batch ---


def test_operations_of_a_batch_stand_by_themselves(api: Api) -> None:
    """Each has its own answer or fault, inside an answer of 200."""
    answers = api.batch(
        create("1", "Ada"),
        create("2", "ada"),
        {"bId": "3", "operation": "update", "Customer": {"Id": "9", "SyncToken": "0"}},
        {"bId": "4", "operation": "delete", "Customer": {"Id": "1", "SyncToken": "0"}},
        {"bId": "5", "Query": "SELECT Id FROM Customer"},
        {"bId": "6", "operation": "create", "Invoice": {}},
        {"bId": "7", "operation": "update", "Customer": {"Id": "1", "SyncToken": "0", "sparse": True, "Notes": "n"}},
    )
    assert [answer["bId"] for answer in answers] == [str(n) for n in range(1, 8)]
    assert answers[0]["Customer"]["Id"] == "1"
    assert [code(answers[n]) for n in (1, 2, 3, 5)] == ["6240", "610", "500", "2000"]
    assert [row["Id"] for row in answers[4]["QueryResponse"]["Customer"]] == ["1"]
    assert answers[6]["Customer"]["Notes"] == "n"


def test_a_batch_has_at_most_thirty_operations(api: Api) -> None:
    assert len(api.batch(*[create(str(n), f"C{n}") for n in range(30)])) == 30
    items = [create(str(n), f"D{n}") for n in range(31)]
    assert code(api.post({"BatchItemRequest": items}, kind="batch")) == "1040"
    assert api.simulator.company.created == 30


@pytest.mark.parametrize(
    ("items", "query", "wanted"),
    [
        ([], {}, "2020"),
        ([{"operation": "create", "Customer": {}}], {}, "2020"),
        ([create("1", "A"), create("1", "B")], {}, "2020"),
        ([create("1", "A")], {"requestid": "r" * 37}, "2130"),
        ([create("1" * 11, "A")], {"requestid": "r" * 36}, "2130"),
    ],
)
def test_what_a_batch_must_be(api: Api, items: list[dict[str, Any]], query: dict[str, str], wanted: str) -> None:
    assert code(api.post({"BatchItemRequest": items}, kind="batch", **query)) == wanted
    assert api.simulator.company.created == 0


@pytest.mark.parametrize(("replay", "wanted"), [("original", None), ("6000", "whole"), ("6000_items", "each")])
def test_a_repeated_batch(replay: Literal["original", "6000", "6000_items"], wanted: str | None) -> None:
    api = Api(Simulator(Company(), SimClock(), batch_replay=replay))
    body = {"BatchItemRequest": [create("1", "Ada"), create("2", "Grace")]}
    first = api.post(body, kind="batch", requestid="b1")
    again = api.post(body, kind="batch", requestid="b1")
    assert api.simulator.company.created == 2
    if wanted is None:
        assert again.content == first.content
    elif wanted == "whole":
        assert (again.status_code, code(again)) == (400, "6000")
    else:
        assert [code(answer) for answer in again.json()["BatchItemResponse"]] == ["6000", "6000"]


def test_half_a_batch(api: Api) -> None:
    """The connection breaks when some are made; a repeat makes the others and answers all as at first."""
    api.simulator.fault(Fault("partial", operation="batch", requests=1, times=1))
    items = [create("1", "Ada"), create("2", "Grace")]
    with pytest.raises(requests.ConnectionError):
        api.batch(*items, requestid="b1")
    assert [told["DisplayName"] for told in api.simulator.customers()] == ["Ada"]
    assert [answer["Customer"]["Id"] for answer in api.batch(*items, requestid="b1")] == ["1", "2"]


def test_an_operation_may_fail_on_demand(api: Api) -> None:
    """That is not remembered: the same operation sent again is carried out."""
    api.simulator.fault("6000:operation=create,item=true,match=Grace,times=1")
    answers = api.batch(create("1", "Ada"), create("2", "Grace"))
    assert answers[0]["Customer"]["Id"] == "1"
    assert code(answers[1]) == "6000"
    assert api.batch(create("2", "Grace"))[0]["Customer"]["Id"] == "2"


# --- change data capture ---


def test_changes_are_told_with_what_is_gone(api: Api) -> None:
    for name in ("Ada", "Grace", "Zoe", "Mary"):
        api.post({"DisplayName": name})
    api.simulator.clock.sleep(5)
    since = api.simulator.clock.now()
    api.simulator.edit("1", Notes="changed")
    api.simulator.deactivate("2")
    api.simulator.merge("3", into="1")
    found = api.changes(since, "Customer,Vendor").json()["CDCResponse"][0]["QueryResponse"]
    told = {row["Id"]: row for row in found[0]["Customer"]}
    assert sorted(told) == ["1", "2", "3"]
    assert told["1"]["Notes"] == "changed"
    assert told["2"]["Active"] is False
    assert told["3"]["status"] == "Deleted"
    assert found[1] == {}


def test_changes_are_kept_thirty_days_and_a_thousand_are_told(api: Api) -> None:
    for number in range(1001):
        api.simulator.add("Customer", f"C{number}")
    now = api.simulator.clock.now()
    assert code(api.changes(now - 31 * 86_400)) == "2190"
    found = api.changes(now - 29 * 86_400).json()["CDCResponse"][0]["QueryResponse"][0]
    assert (len(found["Customer"]), found["totalCount"]) == (1000, 1000)
