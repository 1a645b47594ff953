"""OAuth of the simulator: consent, tokens that roll, and their ends."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from connectors.quickbooks.simulator import Company, InProcess, OAuthRules, SimClock, Simulator
from connectors.quickbooks.simulator.oauth import DAY
from connectors.quickbooks.simulator.simulator import CLIENT_ID, CLIENT_SECRET

BACK = "http://localhost:8472/callback"


class App:
    """An app that connects, with nothing but HTTP."""

    def __init__(self, **rules: Any) -> None:
        self.clock = SimClock()
        self.simulator = Simulator(Company(), self.clock, oauth=OAuthRules(**rules))
        self.session = requests.Session()
        self.session.mount("http://", InProcess(self.simulator))
        self.urls = self.session.get("http://simulator/.well-known/openid_configuration").json()

    def consent(self, answer: str = "yes") -> dict[str, str]:
        """What the browser brings back."""
        given = {"client_id": CLIENT_ID, "response_type": "code", "state": "s&1", "redirect_uri": BACK}
        page = self.session.get(self.urls["authorization_endpoint"], params=given).text
        form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page)) | {"answer": answer, "state": "s&1"}
        action = re.search(r'action="([^"]+)"', page)
        assert action is not None
        sent = self.session.post(f"http://simulator{action[1]}", data=form, allow_redirects=False)
        assert sent.status_code == 302
        assert sent.headers["location"].startswith(f"{BACK}?")
        return {name: values[0] for name, values in parse_qs(urlsplit(sent.headers["location"]).query).items()}

    def token(self, secret: str = CLIENT_SECRET, **form: str) -> requests.Response:
        return self.session.post(self.urls["token_endpoint"], data=form, auth=(CLIENT_ID, secret))

    def refresh(self, token: str) -> requests.Response:
        return self.token(grant_type="refresh_token", refresh_token=token)

    def connect(self) -> dict[str, Any]:
        code = self.consent()["code"]
        found: dict[str, Any] = self.token(grant_type="authorization_code", code=code, redirect_uri=BACK).json()
        return found

    def works(self, access: str) -> bool:
        self.clock.sleep(1)
        address = f"http://simulator/v3/company/{self.simulator.company.realm}/companyinfo/1"
        return self.session.get(address, headers={"Authorization": f"Bearer {access}"}).status_code == 200


def test_a_person_consents() -> None:
    app = App()
    back = app.consent()
    assert (back["state"], back["realmId"]) == ("s&1", app.simulator.company.realm)
    form = {"grant_type": "authorization_code", "code": back["code"], "redirect_uri": BACK}
    tokens = app.token(**form).json()
    assert (tokens["token_type"], tokens["expires_in"], tokens["x_refresh_token_expires_in"]) == (
        "bearer",
        3600,
        8726400,
    )
    assert app.works(tokens["access_token"])
    assert app.token(**form).json()["error"] == "invalid_grant"  # a code is good once


def test_a_person_declines() -> None:
    assert App().consent("no") == {"error": "access_denied", "state": "s&1"}


def test_a_code_is_good_for_its_redirect_and_for_minutes() -> None:
    app = App()
    wrong = app.token(grant_type="authorization_code", code=app.consent()["code"], redirect_uri=f"{BACK}2")
    assert wrong.json()["error"] == "invalid_grant"
    code = app.consent()["code"]
    app.clock.sleep(601)
    assert app.token(grant_type="authorization_code", code=code, redirect_uri=BACK).status_code == 400


def test_the_app_is_known_by_its_secret() -> None:
    answer = App().token("wrong", grant_type="refresh_token", refresh_token="x")
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})


def test_a_redirect_elsewhere_is_not_followed() -> None:
    app = App()
    given = {"client_id": CLIENT_ID, "response_type": "code", "state": "s", "redirect_uri": "https://evil.example/"}
    page = app.session.get(app.urls["authorization_endpoint"], params=given).text
    assert "not on this machine" in page
    assert "<form" not in page


def test_an_access_token_lives_an_hour() -> None:
    app = App()
    tokens = app.connect()
    app.clock.sleep(3590)
    assert app.works(tokens["access_token"])
    app.clock.sleep(10)
    assert not app.works(tokens["access_token"])
    assert app.works(app.refresh(tokens["refresh_token"]).json()["access_token"])


def test_a_refresh_token_changes_about_every_day() -> None:
    app = App()
    first = app.connect()["refresh_token"]
    app.clock.sleep(3600)
    assert app.refresh(first).json()["refresh_token"] == first
    app.clock.sleep(DAY)
    second = app.refresh(first).json()["refresh_token"]
    assert second != first
    assert app.simulator.oauth.rotations == 1


def test_the_one_before_works_until_the_new_one_was_used() -> None:
    """So a client that lost the answer to a rotation is not cut off."""
    app = App(rotate_after=0)
    first = app.connect()["refresh_token"]
    lost = app.refresh(first).json()["refresh_token"]
    again = app.refresh(first).json()["refresh_token"]
    assert again == lost != first
    third = app.refresh(lost).json()["refresh_token"]
    assert app.refresh(first).json()["error"] == "invalid_grant"
    assert app.refresh(lost).json()["refresh_token"] == third


@pytest.mark.parametrize(("previous", "at_once", "after_a_day"), [("never", 400, 400), ("grace", 200, 400)])
def test_other_lives_of_the_one_before(previous: str, at_once: int, after_a_day: int) -> None:
    app = App(rotate_after=0, previous=previous)
    first = app.connect()["refresh_token"]
    second = app.refresh(first).json()["refresh_token"]
    app.refresh(second)
    assert app.refresh(first).status_code == at_once
    app.clock.sleep(DAY)
    assert app.refresh(first).status_code == after_a_day


def test_a_refresh_token_ends_unused_and_in_any_case_after_five_years() -> None:
    app = App()
    token = app.connect()["refresh_token"]
    for _ in range(5 * 365 // 100):
        app.clock.sleep(100 * DAY)
        token = app.refresh(token).json()["refresh_token"]
    app.clock.sleep(30 * DAY)
    answer = app.refresh(token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    other = App()
    token = other.connect()["refresh_token"]
    other.clock.sleep(102 * DAY)
    assert other.refresh(token).status_code == 400


@pytest.mark.parametrize("describe", [True, False])
def test_a_refusal_may_come_without_a_description(describe: bool) -> None:
    body = App(describe=describe).refresh("nonsense").json()
    assert ("error_description" in body, body["error"]) == (describe, "invalid_grant")


def test_revoking_ends_the_connection() -> None:
    app = App()
    tokens = app.connect()
    answer = app.session.post(
        app.urls["revocation_endpoint"], json={"token": tokens["refresh_token"]}, auth=(CLIENT_ID, CLIENT_SECRET)
    )
    assert answer.status_code == 200
    assert not app.works(tokens["access_token"])
    assert app.refresh(tokens["refresh_token"]).status_code == 400


def test_an_answer_lost_after_the_rotation() -> None:
    """On demand the token changes though its answer never comes."""
    app = App(rotate_after=0)
    first = app.connect()["refresh_token"]
    app.simulator.fault("lost_after:operation=token,nth=1")
    with pytest.raises(requests.ConnectionError):
        app.refresh(first)
    assert app.simulator.oauth.rotations == 1
    assert app.refresh(first).status_code == 200
    app.simulator.fault("invalid_grant:times=1")
    assert app.refresh(first).json()["error"] == "invalid_grant"


def test_another_company_is_not_the_apps() -> None:
    app = App()
    access = app.connect()["access_token"]
    address = "http://simulator/v3/company/1/companyinfo/1"
    answer = app.session.get(address, headers={"Authorization": f"Bearer {access}"})
    assert (answer.status_code, answer.json()["Fault"]["Error"][0]["code"]) == (403, "3100")
