"""The limits of the simulator, in every window that slides."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from connectors.quickbooks.simulator import Company, Limits, SimClock, Simulator
from connectors.quickbooks.simulator.replies import Call, Reply


class Api:
    """One app of a company; its requests go in without a library, for there are many."""

    def __init__(self, simulator: Simulator, app: str = "one") -> None:
        self.simulator = simulator
        self.headers = {
            "authorization": f"Bearer {simulator.connect(app)['access_token']}",
            "accept": "application/json",
        }
        self.base = f"/v3/company/{simulator.company.realm}"

    def send(self, call: Call) -> Reply:
        answer = self.simulator.handle(call)
        assert isinstance(answer, Reply)
        self.simulator.clock.sleep(answer.delay)
        self.simulator.done()
        return answer

    def read(self) -> int:
        return self.send(Call("GET", f"{self.base}/companyinfo/1", headers=self.headers)).status

    def batch(self) -> int:
        body = b'{"BatchItemRequest": [{"bId": "1", "Query": "SELECT Id FROM Customer"}]}'
        return self.send(Call("POST", f"{self.base}/batch", headers=self.headers, body=body)).status


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


def simulated(clock: SimClock, **limits: float | None) -> Simulator:
    return Simulator(Company(), clock, limits=Limits(**limits), apps={"one": "", "two": "", "three": "", "four": ""})  # type: ignore[arg-type]


def test_ten_a_second_for_an_app(clock: SimClock) -> None:
    """In any second, not in one by the clock: the eleventh passes a second after the first."""
    simulator = simulated(clock)
    api, other = Api(simulator), Api(simulator, "two")
    clock.sleep(0.6)
    assert [api.read() for _ in range(10)] == [200] * 10
    clock.sleep(0.6)
    assert api.read() == 429
    assert other.read() == 200
    clock.sleep(0.4)
    assert [api.read() for _ in range(11)] == [200] * 10 + [429]
    assert (simulator.throttle.worst("second"), simulator.throttle.refused) == (10, 2)


def test_five_hundred_a_minute_for_a_company(clock: SimClock) -> None:
    """All apps together; a request that is refused does not count."""
    simulator = simulated(clock, requests_per_second=None)
    one, two = Api(simulator), Api(simulator, "two")
    assert [one.read() for _ in range(250)] + [two.read() for _ in range(251)] == [200] * 500 + [429]
    clock.sleep(59.9)
    assert one.read() == 429
    clock.sleep(0.1)
    assert [one.read() for _ in range(501)] == [200] * 500 + [429]
    summary = simulator.summary()["limits"]
    assert (summary["worst"]["minute"], summary["asked"]["minute"], summary["refused"]) == (500, 502, 3)


def test_forty_batches_a_minute_for_an_app_and_three_times_that_for_all(clock: SimClock) -> None:
    simulator = simulated(clock, requests_per_second=None)
    apps = [Api(simulator, name) for name in ("one", "two", "three", "four")]
    for api in apps[:3]:
        assert [api.batch() for _ in range(41)] == [200] * 40 + [429]
    assert apps[3].batch() == 429
    assert apps[3].read() == 200
    assert (simulator.throttle.worst("batches"), simulator.throttle.worst("batches of all")) == (40, 120)


def test_the_refusal_is_xml_whatever_was_asked_for(clock: SimClock) -> None:
    api = Api(simulated(clock, requests_per_second=0))
    answer = api.send(Call("GET", f"{api.base}/companyinfo/1", headers=api.headers))
    assert (answer.status, answer.content_type) == (429, "application/xml")
    assert answer.headers["intuit_tid"]
    schema = "{http://schema.intuit.com/finance/v3}"
    error = ET.fromstring(answer.body).find(f"{schema}Fault/{schema}Error")
    assert error is not None
    assert error.attrib["code"] == "3001"
    assert "ThrottleExceeded" in str(error.findtext(f"{schema}Message"))


def test_a_refusal_may_last(clock: SimClock) -> None:
    api = Api(simulated(clock, requests_per_second=1, penalty_seconds=60))
    assert [api.read(), api.read()] == [200, 429]
    clock.sleep(59)
    assert api.read() == 429
    clock.sleep(60)
    assert api.read() == 200


def test_so_many_at_once(clock: SimClock) -> None:
    simulator = simulated(clock, concurrent=2, requests_per_second=None)
    simulator.latency = 5.0
    api = Api(simulator)
    found: list[int] = []
    with clock.participant():
        threads = [clock.thread(lambda: found.append(api.read())) for _ in range(3)]
    for thread in threads:
        thread.join(20)
    assert sorted(found) == [200, 200, 429]
    assert simulator.throttle.most_running == 3
    assert api.read() == 200


def test_a_wrong_token_counts_too(clock: SimClock) -> None:
    simulator = simulated(clock, requests_per_second=1)
    api = Api(simulator)
    api.headers["authorization"] = "Bearer nobody's"
    assert [api.read(), api.read()] == [401, 429]
