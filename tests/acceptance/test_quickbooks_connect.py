"""A company is connected as a person does it: commands, a browser, a simulator over HTTP."""

from __future__ import annotations

import json
import threading
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pytest
import requests

from connectors.quickbooks.simulator import Company, Simulator, serve
from connectors.quickbooks.simulator.simulator import CLIENT_ID, CLIENT_SECRET
from deploy.stack.process import free_port


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Company())


@dataclass
class Person:
    """Who sits at the browser that `connect` opens: agrees or not, and goes where the answer leads."""

    answer: str = "yes"
    leave: bool = False
    ended_at: str = ""
    pages: list[requests.Response] = field(default_factory=list)
    thread: threading.Thread | None = None

    def open(self, url: str) -> bool:
        self.thread = threading.Thread(target=self._act, args=(url,))
        self.thread.start()
        return True

    def _act(self, url: str) -> None:
        back = self.ended_at = consent(url, self.answer)
        if self.leave:
            return
        # What is not the answer to this attempt neither ends nor fools it.
        for target in (back.replace("state=", "state=x"), back.replace("/callback", "/other"), back):
            self.pages.append(requests.get(target, timeout=30))


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    sitting = Person()
    monkeypatch.setattr(webbrowser, "open", sitting.open)
    return sitting


@pytest.fixture
def command(typed: Any, simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Types `rowtide quickbooks …` in this process; returns what it says."""
    (tmp_path / "settings.toml").write_text(f'[quickbooks]\nkey_file = "{tmp_path / "key"}"\n')
    with serve(simulator) as url:
        environment = {
            "ROWTIDE_CONFIG": str(tmp_path / "settings.toml"),
            "ROWTIDE_QUICKBOOKS__ENVIRONMENT": "simulator",
            "ROWTIDE_QUICKBOOKS__API_URL": url,
            "ROWTIDE_QUICKBOOKS__CLIENT_ID": CLIENT_ID,
            "ROWTIDE_QUICKBOOKS__CLIENT_SECRET": CLIENT_SECRET,
            "ROWTIDE_QUICKBOOKS__REDIRECT_PORT": str(free_port()),
        }

        def run(*arguments: object, code: int = 0, **extra: str) -> str:
            done = typed("quickbooks", *arguments, **{**environment, **extra})
            assert done.returncode == code, done.stderr
            return done.stdout if code == 0 else done.stderr

        yield run


def consent(url: str, answer: str = "yes") -> str:
    """What the browser does; returns where it is sent back to."""
    assert "Connect" in requests.get(url, timeout=30).text
    form = {**dict(parse_qsl(urlsplit(url).query)), "answer": answer}
    back = requests.post(f"{url.partition('?')[0]}/consent", data=form, timeout=30, allow_redirects=False)
    assert back.status_code == 302
    return back.headers["location"]


def test_a_company_is_connected_paused_resumed_and_disconnected(
    command: Callable[..., str], person: Person, simulator: Simulator, database: str, tmp_path: Path
) -> None:
    """The browser comes back to this machine; the tokens are sealed; each command tells the state."""
    assert "QuickBooks not connected" in command("pause", code=1)
    told = json.loads(command("connect", "--yes", "--timeout", "60", "--json"))
    assert told == {"realm": simulator.company.realm, "environment": "simulator", "company": simulator.company.name}
    assert person.thread is not None
    person.thread.join(30)
    assert person.ended_at.startswith("http://localhost:")
    assert [page.status_code for page in person.pages] == [400, 404, 200]
    assert "Consent received" in person.pages[-1].text
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    report = json.loads(command("status", "--json"))
    assert (report["state"], report["waits"], report["last_minute"]["requests"]) == ("connected", None, 1)
    assert json.loads(command("pause", "--reason", "holidays", "--json"))["waits"] == "paused: holidays"
    assert "paused: holidays" in command("status")
    assert json.loads(command("resume", "--json"))["waits"] is None
    assert json.loads(command("disconnect", "--yes", "--json")) == {"realm": told["realm"], "revoked": True}
    assert all(grant.revoked for grant in simulator.oauth.grants)
    with psycopg.connect(database) as state:
        assert state.execute("SELECT count(*) FROM rowtide.quickbooks_token").fetchone() == (0,)
    assert "not connected" in command("status")


def test_answers_that_are_none_say_what_to_do(
    command: Callable[..., str], person: Person, simulator: Simulator, database: str
) -> None:
    """No consent, nobody at the browser, a code that was used, another company."""
    person.answer = "no"
    assert "Consent was not given" in command("connect", "--yes", "--timeout", "60", code=1)
    person.answer, person.leave = "yes", True
    assert "--paste" in command("connect", "--timeout", "3", code=1)
    assert simulator.company.realm in command("connect", "--code", person.ended_at)
    assert "good once" in command("connect", "--code", person.ended_at, code=1)
    with psycopg.connect(database) as state:
        state.execute(
            "INSERT INTO rowtide.customer (realm_id, instance, record, quickbooks_id, state, updated_at)"
            " VALUES ('4711', 'mis', 'student:1', '9', 'synced', now())"
        )
    person.leave = False
    assert "1 customers of the company 4711 are known" in command("connect", "--timeout", "60", code=1)


def test_wrong_settings_say_where(command: Callable[..., str], tmp_path: Path) -> None:
    """A host that is not Intuit's, a key that others read, a place that is none: the setting and its place are named."""
    for name, value in [
        ("API_URL", "https://evil.example"),
        ("ENVIRONMENT", "producton"),
        ("REDIRECT_URL", "http://school.example/"),
    ]:
        variable = f"ROWTIDE_QUICKBOOKS__{name}"
        assert variable in command("status", code=1, **{variable: value}), name
    assert "elsewhere" in command("status", code=1, ROWTIDE_QUICKBOOKS__FIELDS__CAMPUS="elsewhere")
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o644)
    assert f"chmod 0600 {tmp_path / 'key'}" in command("connect", code=1)
