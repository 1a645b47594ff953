"""The simulator behind HTTP: real sockets, the real libraries, its page and its control API."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from intuitlib.client import AuthClient
from intuitlib.exceptions import AuthClientError
from quickbooks import QuickBooks
from quickbooks.batch import batch_create
from quickbooks.cdc import change_data_capture
from quickbooks.exceptions import (
    AuthorizationException,
    ObjectNotFoundException,
    QuickbooksException,
    ValidationException,
)
from quickbooks.objects.customer import Customer

from connectors.quickbooks.simulator import Company, Limits, Simulator, create_app, serve
from connectors.quickbooks.simulator.serving import SimulatorPortError
from connectors.quickbooks.simulator.simulator import CLIENT_ID, CLIENT_SECRET


@pytest.fixture
def simulator() -> Simulator:
    """Without limits: these tests are faster than an app may be."""
    return Simulator(Company(customer_types=("Applicant",)), limits=Limits(None, None, None, None))


@pytest.fixture
def url(simulator: Simulator) -> Iterator[str]:
    with serve(simulator) as url:
        yield url


@pytest.fixture
def session(simulator: Simulator) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {simulator.connect()['access_token']}"
        yield session


def company(simulator: Simulator, url: str) -> str:
    return f"{url}/v3/company/{simulator.company.realm}"


def create(session: requests.Session, base: str, name: str, **options: Any) -> requests.Response:
    return session.post(f"{base}/customer", json={"DisplayName": name}, timeout=10, **options)


# --- sockets ---


@pytest.mark.parametrize(("kind", "made"), [("lost_before", []), ("lost_after", ["Ada"])])
def test_a_connection_breaks(
    simulator: Simulator, url: str, session: requests.Session, kind: str, made: list[str]
) -> None:
    """Not with an answer cut short, but with none; and the next request finds the server well."""
    simulator.fault(f"{kind}:nth=1")
    with pytest.raises(requests.ConnectionError):
        create(session, company(simulator, url), "Ada")
    assert [told["DisplayName"] for told in simulator.customers()] == made
    assert create(session, company(simulator, url), "Grace").status_code == 200


def test_a_slow_answer_is_not_ended_by_a_time_out_between_bytes(
    simulator: Simulator, url: str, session: requests.Session
) -> None:
    """A read time-out is about each read: bytes that trickle keep the client for as long as they like."""
    simulator.fault("slow:seconds=0.02,nth=1")
    begun = time.monotonic()
    with session.get(f"{company(simulator, url)}/companyinfo/1", timeout=0.5, stream=True) as answer:
        assert answer.status_code == 200
        length = int(answer.headers["content-length"])
        read = answer.raw.read(40)
    assert len(read) == 40 < length
    assert time.monotonic() - begun > 0.5


def test_a_late_answer_meets_a_client_that_gave_up(simulator: Simulator, url: str, session: requests.Session) -> None:
    simulator.fault("delay:seconds=30,nth=1")
    with pytest.raises(requests.ReadTimeout):
        session.post(f"{company(simulator, url)}/customer", json={"DisplayName": "Ada"}, timeout=0.2)
    assert simulator.company.created == 1


def test_an_outage_and_a_page_of_the_gateway(simulator: Simulator, url: str, session: requests.Session) -> None:
    simulator.outage(60)
    with pytest.raises(requests.ConnectionError):
        create(session, company(simulator, url), "Ada")
    assert requests.get(f"{url}/control/health", timeout=10).json() == {"status": "ok"}
    simulator.outage(0)
    simulator.fault("html_502:nth=1")
    answer = create(session, company(simulator, url), "Ada")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")


def test_it_listens_on_loopback_only() -> None:
    with pytest.raises(SimulatorPortError) as refused, serve(Simulator(), host="0.0.0.0"):
        pass
    assert "--allow-remote" in refused.value.hint
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SimulatorPortError), serve(Simulator(), port=taken.getsockname()[1]):
            pass


def test_it_ends_though_somebody_waits() -> None:
    """A request that is kept waiting does not keep the simulator."""
    simulator = Simulator()
    simulator.fault("delay:seconds=100")
    errors: list[Exception] = []

    def ask(url: str) -> None:
        try:
            requests.get(f"{url}/.well-known/openid_configuration", timeout=30)
        except requests.RequestException as error:
            errors.append(error)

    begun = time.monotonic()
    with serve(simulator) as url:
        thread = threading.Thread(target=ask, args=(url,))
        thread.start()
        while not simulator.throttle.running and time.monotonic() < begun + 10:
            threading.Event().wait(0.005)
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - begun < 10


# --- the page and the control API ---


def test_its_page_shows_customers_and_requests(simulator: Simulator, url: str, session: requests.Session) -> None:
    """It loads nothing from elsewhere, and text from outside stays text."""
    simulator.add("Customer", "<script>alert(1)</script>", Notes="a & b")
    simulator.fault("6000:nth=1")
    create(session, company(simulator, url), "Ada")
    page = requests.get(url, timeout=10).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "6000" in page
    assert page.count("http") == 0
    assert "/control/faults" in requests.get(f"{url}/control/openapi.json", timeout=10).json()["paths"]
    assert "Ada" not in requests.get(f"{url}/view", timeout=10).text
    create(session, company(simulator, url), "Ada")
    assert "Ada" in requests.get(f"{url}/view", timeout=10).text


def test_its_controls(simulator: Simulator, url: str, session: requests.Session) -> None:
    """Faults, outages and a person's acts by HTTP, and what was seen."""

    def control(method: str, path: str, body: Any = None, status: int = 204) -> Any:
        answer = requests.request(method, f"{url}/control/{path}", json=body, timeout=10)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    base = company(simulator, url)
    number = control("POST", "people", {"name": "Ada", "fields": {"Notes": "n"}}, 201)["id"]
    other = control("POST", "people", {"kind": "Vendor", "name": "Paper"}, 201)["id"]
    control("POST", "people", {"kind": "Employee", "name": "paper"}, 400)
    control("PATCH", f"people/{number}", {"Notes": "m"})
    assert control("GET", "customers", status=200)[0]["Notes"] == "m"
    control("POST", f"people/{number}/deactivate")
    assert control("GET", "customers", status=200) == []
    assert control("GET", "customers?inactive=true", status=200)[0]["DisplayName"] == "Ada (deleted)"
    control("POST", f"people/{number}/activate")
    second = control("POST", "people", {"name": "Ada L."}, 201)["id"]
    control("POST", f"people/{second}/merge/{number}")
    control("POST", f"people/{other}/delete")
    control("POST", "people/99/delete", status=400)

    asked = control("POST", "faults", {"fault": "6000:nth=1"}, 201)["number"]
    control("POST", "faults", {"fault": "nonsense"}, 400)
    assert create(session, base, "Grace", params={"requestid": "g1"}).status_code == 400
    assert control("GET", "faults", status=200)[0]["fired"] == 1
    control("DELETE", f"faults/{asked}")
    control("DELETE", f"faults/{asked}", status=404)
    control("DELETE", "faults")
    seen = control("GET", "requests?operation=create", status=200)
    assert [(one["requestid"], one["code"], one["body"]) for one in seen] == [("g1", "6000", {"DisplayName": "Grace"})]
    assert control("GET", f"requests?since={seen[0]['number']}", status=200) == []
    control("DELETE", "requests")
    assert "lost_after" in control("GET", "faults/kinds", status=200)

    create(session, base, "Grace", params={"requestid": "g2"})
    assert control("POST", "requestids/forget", {"requestid": "g2"}, 200) == {"forgotten": 1}
    control("POST", "faults", {"fault": "late:nth=1,requests=9"}, 201)
    with pytest.raises(requests.ConnectionError):
        create(session, base, "Zoe")
    assert control("POST", "late", status=200) == {"carried_out": 1}
    control("POST", "outage", {"seconds": 60})
    assert control("GET", "state", status=200)["down_for"] > 50
    control("POST", "outage", {"seconds": 0})
    for act in ("expire_access", "expire_refresh", "revoke"):
        control("POST", "tokens", {"act": act})
    assert create(session, base, "Mary").status_code == 401
    assert control("GET", "state", status=200)["customers"] == 3


def test_the_application_can_be_made_of_a_company_alone() -> None:
    app = create_app(Company("77"))
    assert app.state.simulator.company.realm == "77"


# --- the libraries that apps use ---


@pytest.fixture
def library(simulator: Simulator, url: str, monkeypatch: pytest.MonkeyPatch) -> QuickBooks:
    """python-quickbooks and intuit-oauth as they are, but for the address and for plain HTTP."""
    monkeypatch.setitem(os.environ, "OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setattr(QuickBooks, "api_url_v3", f"{url}/v3")
    auth = AuthClient(CLIENT_ID, CLIENT_SECRET, "http://localhost:1/", f"{url}/.well-known/openid_configuration")
    auth.get_bearer_token(
        simulator.oauth.authorize(CLIENT_ID, simulator.company.realm, "http://localhost:1/", simulator.clock.now()),
        realm_id=simulator.company.realm,
    )
    return QuickBooks(
        auth_client=auth, refresh_token=auth.refresh_token, company_id=simulator.company.realm, minorversion=75
    )


def test_the_libraries_accept_it(simulator: Simulator, library: QuickBooks) -> None:
    """Create, read, filter, update, batch and change data capture, by the libraries' own objects."""
    since = simulator.clock.now()
    customer = Customer()
    customer.DisplayName = "O'Hara"
    customer.save(qb=library)
    assert customer.Id == "1"
    found = Customer.filter(DisplayName="O'Hara", qb=library)
    assert [one.Id for one in found] == ["1"]
    assert Customer.count(qb=library) == 1
    body = {"Id": "1", "SyncToken": found[0].SyncToken, "sparse": True, "Notes": "n"}
    told = library.update_object("Customer", json.dumps(body), request_id="u1")["Customer"]
    assert (told["Notes"], told["SyncToken"]) == ("n", "1")
    assert Customer.get(1, qb=library).Notes == "n"
    more = []
    for name in ("Ada", "Grace", "O'Hara"):
        one = Customer()
        one.DisplayName = name
        more.append(one)
    made = batch_create(more, qb=library)
    assert ([one.Id for one in made.successes], [fault.Error[0].code for fault in made.faults]) == (
        ["2", "3"],
        ["6240"],
    )
    changed = change_data_capture([Customer], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)), qb=library)
    assert sorted(one.Id for one in changed.Customer._object_list) == ["1", "2", "3"]


def test_the_libraries_understand_its_refusals(simulator: Simulator, library: QuickBooks) -> None:
    with pytest.raises(ObjectNotFoundException):
        Customer.get(99, qb=library)
    simulator.add("Vendor", "Ada")
    with pytest.raises(QuickbooksException) as taken:
        library.create_object("Customer", json.dumps({"DisplayName": "ada"}))
    assert taken.value.error_code == 6240
    simulator.fault("2050:nth=1")
    with pytest.raises(ValidationException):
        Customer.get(1, qb=library)
    simulator.fault("throttle:nth=1")
    with pytest.raises(QuickbooksException) as throttled:
        Customer.get(1, qb=library)
    assert throttled.value.error_code == 10000  # it cannot read XML
    simulator.oauth.expire_access(simulator.clock.now())
    with pytest.raises(AuthorizationException):
        Customer.get(1, qb=library)
    library.auth_client.refresh()
    library.auth_client.revoke(token=library.auth_client.refresh_token)
    with pytest.raises(AuthClientError, match="invalid_grant"):
        library.auth_client.refresh()
