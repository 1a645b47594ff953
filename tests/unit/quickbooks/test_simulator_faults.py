"""Faults on demand: each looks as it was recorded, and does with the change what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from simulator_api import SimulatorApi

from connectors.quickbooks.simulator import Company, Fault, FaultRuleError, Limits, SimClock, Simulator
from connectors.quickbooks.simulator.rules import KINDS

ROOT = Path(__file__).resolve().parents[3]


class Api(SimulatorApi):
    """One company without limits, on simulated time."""

    def __init__(self) -> None:
        self.clock = SimClock()
        super().__init__(Simulator(Company(), self.clock, limits=Limits(None, None, None, None)))

    def create(self, name: str, timeout: float | None = None, **query: str) -> requests.Response:
        return self.session.post(f"{self.base}/customer", json={"DisplayName": name}, params=query, timeout=timeout)

    @property
    def names(self) -> list[str]:
        return [told["DisplayName"] for told in self.simulator.customers()]


@pytest.fixture
def api() -> Api:
    return Api()


# kind -> HTTP status, fault code, whether the change was made. None: the connection breaks.
LOOKS: dict[str, tuple[int | None, str, bool]] = {
    "100": (401, "100", False),
    "120": (401, "120", False),
    "500": (400, "500", False),
    "610": (400, "610", False),
    "1040": (400, "1040", False),
    "2000": (400, "2000", False),
    "2010": (400, "2010", False),
    "2020": (400, "2020", False),
    "2030": (400, "2030", False),
    "2040": (400, "2040", False),
    "2050": (400, "2050", False),
    "2130": (400, "2130", False),
    "2190": (400, "2190", False),
    "2210": (400, "2210", False),
    "2500": (400, "2500", False),
    "3001": (429, "3001", False),
    "3100": (403, "3100", False),
    "3200": (401, "3200", False),
    "4000": (400, "4000", False),
    "4001": (400, "4001", False),
    "5010": (400, "5010", False),
    "6000": (400, "6000", False),
    "6080": (400, "6080", False),
    "6190": (400, "6190", False),
    "6240": (400, "6240", False),
    "10000": (500, "10000", False),
    "throttle": (429, "3001", False),
    "throttle_403": (403, "3001", False),
    "throttle_json": (429, "3001", False),
    "gateway_401": (401, "3200", False),
    "html_502": (502, "", False),
    "html_503": (503, "", False),
    "html_504": (504, "", False),
    "fault_200": (200, "6000", False),
    "empty_200": (200, "", True),
    "lost_before": (None, "", False),
    "lost_after": (None, "", True),
    "late": (None, "", False),
    "partial": (None, "", True),
    "slow": (200, "", True),
    "delay": (200, "", True),
    "forget": (200, "", True),
    "expire": (401, "3200", False),
    "revoke": (401, "3200", False),
    "invalid_grant": (200, "", True),  # about refreshes alone
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(api: Api, kind: str) -> None:
    status, code, applied = LOOKS[kind]
    api.simulator.fault(Fault(kind))
    if status is None:
        with pytest.raises(requests.ConnectionError):
            api.create("Ada")
    else:
        assert api.create("Ada").status_code == status
    assert api.names == (["Ada"] if applied else [])
    seen = api.simulator.requests.since()[-1]
    assert (seen.status, seen.code, seen.applied) == (status, code, applied)
    assert seen.fault == ("" if kind == "invalid_grant" else kind)


def test_each_kind_is_documented() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text()
    plain = [kind for kind in KINDS if not kind.isdigit()]
    assert [kind for kind in plain if f"`{kind}`" not in text] == []


def test_the_gateways_refusal_has_lower_case_keys_and_tells_of_the_token(api: Api) -> None:
    api.simulator.fault("gateway_401")
    fault = api.create("Ada").json()["fault"]["error"][0]
    assert fault["code"] == "3200"
    assert api.token[:12] in fault["detail"]


def test_pages_of_the_gateway_are_html(api: Api) -> None:
    api.simulator.fault("html_502")
    answer = api.create("Ada")
    assert answer.headers["content-type"] == "text/html"
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


def test_a_gateway_may_give_up_after_the_change(api: Api) -> None:
    api.simulator.fault("html_504:applied=true,seconds=60,times=1")
    begun = api.clock.now()
    assert api.create("Ada", requestid="r1").status_code == 504
    assert api.clock.now() == begun + 60
    assert api.names == ["Ada"]
    assert api.create("Ada", requestid="r1").json()["Customer"]["Id"] == "1"


def test_a_change_may_come_after_its_retry(api: Api) -> None:
    """The late one finds its requestid used, and does nothing."""
    api.simulator.fault("late:nth=1")
    with pytest.raises(requests.ConnectionError):
        api.create("Ada", requestid="r1")
    assert (api.names, api.simulator.late) == ([], 1)
    assert api.create("Ada", requestid="r1").status_code == 200
    assert (api.names, api.simulator.late) == (["Ada"], 0)
    assert api.simulator.company.created == 1


def test_a_late_change_under_a_name_that_was_given_up_is_a_double(api: Api) -> None:
    """What a client must not do: take the next name while the outcome of the first is unknown."""
    api.simulator.fault("late:nth=1,requests=1")
    with pytest.raises(requests.ConnectionError):
        api.create("Ada", requestid="r1")
    api.create("Ada (7)", requestid="r2")
    assert api.names == ["Ada (7)", "Ada"]


def test_a_late_change_may_come_at_its_time(api: Api) -> None:
    api.simulator.fault("late:nth=1,seconds=300")
    with pytest.raises(requests.ConnectionError):
        api.create("Ada")
    api.clock.sleep(299)
    api.simulator.summary()
    assert api.names == []
    api.clock.sleep(1)
    api.simulator.summary()
    assert api.names == ["Ada"]
    assert api.simulator.requests.since()[0].late == api.clock.now()


def test_a_time_out_of_the_client(api: Api) -> None:
    """It gives up after its own patience, of simulated time, and does not know that the change was made."""
    api.simulator.fault("delay:seconds=90,times=1")
    begun = api.clock.now()
    with pytest.raises(requests.ReadTimeout):
        api.create("Ada", timeout=30)
    assert api.clock.now() == begun + 30
    assert api.names == ["Ada"]


def test_nothing_takes_longer_than_two_minutes(api: Api) -> None:
    api.simulator.fault("delay:seconds=500")
    begun = api.clock.now()
    assert api.create("Ada").status_code == 504
    assert api.clock.now() == begun + 120


def test_a_slow_answer_outlasts_a_time_out_between_bytes(api: Api) -> None:
    api.simulator.fault("slow:seconds=1")
    begun = api.clock.now()
    answer = api.create("Ada", timeout=10)
    assert answer.json()["Customer"]["Id"] == "1"
    assert api.clock.now() - begun >= len(answer.content)


def test_a_pause_between_bytes_may_be_too_long(api: Api) -> None:
    api.simulator.fault("slow:seconds=20")
    begun = api.clock.now()
    with pytest.raises(requests.ConnectionError):
        api.create("Ada", timeout=10)
    assert api.clock.now() == begun + 10
    assert api.names == ["Ada"]


def test_an_outage(api: Api) -> None:
    api.simulator.outage(60)
    with pytest.raises(requests.ConnectionError):
        api.create("Ada")
    api.clock.sleep(60)
    assert api.create("Ada").status_code == 200
    api.simulator.outage(60, how="html_503")
    assert api.create("Grace").status_code == 503
    api.simulator.outage(0)
    assert api.create("Grace").status_code == 200


# --- which requests ---


def failed(api: Api, count: int) -> list[int]:
    return [n for n in range(1, count + 1) if api.create(f"C{n}").status_code == 502]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("nth=3", [3]),
        ("every=4", [4, 8]),
        ("times=2", [1, 2]),
        ("every=2,times=2", [2, 4]),
        ("match=C5", [5]),
        ("operation=create", list(range(1, 11))),
        ("operation=write,nth=2", [2]),
        ("operation=update", []),
        ("requestid=r1", []),
        ("probability=0", []),
    ],
)
def test_a_rule_is_about_some_requests(api: Api, rule: str, wanted: list[int]) -> None:
    api.simulator.fault(f"html_502:{rule}")
    assert failed(api, 10) == wanted


def test_chance_is_the_same_each_time() -> None:
    found = []
    for seed in (1, 1, 2):
        api = Api()
        api.simulator.fault(Fault("html_502", probability=0.3, seed=seed))
        found.append(failed(api, 60))
    assert found[0] == found[1] != found[2]
    assert 5 <= len(found[0]) <= 35


def test_the_first_rule_that_fires_is_the_one(api: Api) -> None:
    number = api.simulator.fault("6000:nth=2")
    api.simulator.fault("html_502")
    assert [api.create("A").status_code for _ in range(3)] == [502, 400, 502]
    rules = {rule.number: rule.fired for rule in api.simulator.faults.all()}
    assert rules[number] == 1
    api.simulator.faults.clear()
    assert api.create("A").status_code == 200


@pytest.mark.parametrize(
    "text",
    ["nonsense", "late:x=1", "late:nth", "late:nth=x", "late:operation=paint", "late:item=true", "late:applied=7",
     "html_502:probability=2", "fault_200:code=7"],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(FaultRuleError) as error:
        Fault.parse(text)
    assert error.value.hint


def test_a_rule_is_read_with_its_types() -> None:
    wanted: dict[str, Any] = {
        "operation": "create", "nth": 2, "probability": 0.5, "applied": False, "item": False, "seconds": 3.0, "match": "x"
    }  # fmt: skip
    text = "10000:operation=create,nth=2,probability=0.5,applied=false,item=false,seconds=3,match=x"
    assert Fault.parse(text) == Fault("10000", **wanted)
