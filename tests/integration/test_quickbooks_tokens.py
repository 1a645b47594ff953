"""Tokens: stored before they are used, renewed once however many ask, never lost by what fails in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import structlog
from connected_company import JumpingClock
from quickbooks_books import Books, books

from connectors.quickbooks import realm, tokens
from connectors.quickbooks.errors import KeyFileError
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.keys import make_key
from connectors.quickbooks.simulator import Fault, OAuthRules, Simulator
from connectors.quickbooks.simulator.limits import Limits as Permitted

FREE = Permitted(None, None, None, None)


@pytest.fixture
def company(books_dsn: str, tmp_path: Path) -> Iterator[Books]:
    clock = JumpingClock()
    simulator = Simulator(clock=clock, limits=FREE, oauth=OAuthRules(rotate_after=0))
    with books(books_dsn, tmp_path, simulator, clock) as opened:
        yield opened


def generation(company: Books) -> int:
    return company.rows("SELECT generation FROM rowtide.quickbooks_token")[0][0]


def test_tokens_are_renewed_ahead_of_their_end(company: Books) -> None:
    """No request is ever sent with a token that is about to end."""
    client = company.client()
    assert client.read("1").sent
    company.clock.advance(3600 - tokens.AHEAD_SECONDS)
    assert client.read("1").code == "610"
    assert (company.simulator.oauth.refreshes, generation(company)) == (1, 2)
    assert [row[0] for row in company.audit("http_status")] == [400, 400]  # 610, and no 401 in between
    assert company.rows("SELECT outcome FROM rowtide.quickbooks_audit WHERE operation = 'token'") == [("done",)]


def test_a_renewal_ahead_that_fails_costs_nothing_yet(company: Books) -> None:
    """The present token is used to its end; it is asked for again later, not at each request."""
    client = company.client()
    client.read("1")
    company.clock.advance(3600 - tokens.AHEAD_SECONDS)
    company.simulator.fault(Fault("html_502", operation="token"))
    for _ in range(5):
        assert client.read("1").code == "610"
    assert len(company.sent("token")) == 1
    company.clock.advance(tokens.AGAIN_SECONDS + 1)
    assert client.read("1").code == "610"
    assert len(company.sent("token")) == 2
    company.clock.advance(tokens.AHEAD_SECONDS)
    answer = client.read("1")
    assert (answer.verdict, answer.sent) == (Verdict.RETRY, False)


def test_many_that_need_a_new_token_renew_it_once(company: Books) -> None:
    """Threads and processes alike: the lock lets one ask, and the others take what it stored."""
    clients = [company.client() for _ in range(3)]
    for client in clients:
        client.read("1")
    company.simulator.oauth.expire_access(company.clock.now())
    answers = []

    def ask(client) -> None:
        answers.append(client.read("1").code)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["610"] * 9
    assert (company.simulator.oauth.refreshes, generation(company)) == (1, 2)


def test_a_lock_held_by_another_is_not_waited_for_for_ever(company: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs while it renews costs the others no attempt: they come again."""
    monkeypatch.setattr(tokens, "LOCK_SECONDS", 1)
    client = company.client()
    client.read("1")
    company.simulator.oauth.expire_access(company.clock.now())
    with psycopg.connect(company.dsn) as other:
        other.execute("SELECT FROM rowtide.quickbooks_token FOR UPDATE")
        answer = client.read("1")
    assert (answer.verdict, answer.sent, answer.wait) == (Verdict.THROTTLED, False, 5)
    assert client.read("1").code == "610"


@pytest.mark.parametrize("fault", ["lost_after", "empty_200", "html_502"])
def test_a_new_pair_whose_answer_was_lost_is_asked_for_again(company: Books, fault: str) -> None:
    """Intuit has changed the refresh token and we never saw it: the stored one is still good."""
    company.simulator.fault(Fault(fault, operation="token", times=1))
    client = company.client()
    for _ in range(3):
        company.clock.advance(3600)
        for _ in range(2):
            client.read("1")
        assert client.read("1").code == "610"
    assert company.current().state == realm.CONNECTED


def test_the_pair_before_is_tried_once(company: Books) -> None:
    """Where the stored token is refused and the one before is not, nobody has to reconnect."""
    client = company.client()
    client.read("1")
    company.clock.advance(3600)
    client.read("1")
    company.simulator.fault(Fault("invalid_grant", operation="token", times=1))
    company.clock.advance(3600)
    company.simulator.oauth.rules = OAuthRules(rotate_after=0, previous="grace")
    assert client.read("1").code == "610"
    assert [seen.status for seen in company.sent("token")] == [200, 400, 200]
    assert company.current().state == realm.CONNECTED


def test_a_consent_that_is_gone_needs_a_person_and_is_not_asked_for_again(company: Books) -> None:
    """invalid_grant: said once, with what to type; no loop; a new consent goes on."""
    client = company.client()
    client.read("1")
    company.simulator.oauth.revoke_all()
    with structlog.testing.capture_logs() as lines:
        for _ in range(4):
            answer = client.read("1")
            assert (answer.verdict, answer.sent) == (Verdict.BLOCKED, False)
    assert len(company.sent("token")) == 1
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["quickbooks.reconnect_needed"]
    assert company.current().state == realm.RECONNECT_NEEDED
    company.connect()
    assert client.read("1").code == "610"


def test_a_description_is_not_needed_to_understand_a_refusal(company: Books) -> None:
    """`error_description` may be absent."""
    company.simulator.oauth.rules = OAuthRules(describe=False)
    company.simulator.oauth.revoke_all()
    assert company.client().read("1").verdict is Verdict.BLOCKED
    assert company.current().state == realm.RECONNECT_NEEDED


def test_a_wrong_secret_is_no_lost_consent(company: Books) -> None:
    """The settings are wrong; the tokens are as good as before."""
    company.clock.advance(3600)
    answer = company.client(client_secret="another").read("1")
    assert (answer.verdict, answer.sent) == (Verdict.BLOCKED, False)
    assert "id and secret" in answer.reason
    assert company.current().state == realm.CONNECTED
    assert company.client().read("1").code == "610"


def test_a_company_with_nothing_to_push_stays_connected(company: Books) -> None:
    """The consent would end after 100 days without a renewal."""
    client = company.client()
    for _ in range(6):
        company.clock.advance(40 * 86400)
        client.tend()
        client.tend()
    assert company.simulator.oauth.refreshes == 6
    assert client.read("1").code == "610"


def test_the_end_of_a_consent_is_told_ahead(company: Books) -> None:
    """Both ends: 100 days without renewal, five years in any case."""
    now = company.clock.now()
    assert tokens.warnings(now + 90 * 86400, now, now) == []
    assert "in 9 days" in tokens.warnings(now + 9.5 * 86400, now, now)[0]
    late = now + tokens.HARD_LIMIT_SECONDS - 30 * 86400
    assert "rowtide quickbooks connect" in tokens.warnings(late + 90 * 86400, now, late)[0]


def test_tokens_of_another_key_are_not_guessed_at(company: Books, tmp_path: Path) -> None:
    """A key that was replaced is said to be, with what to do."""
    make_key(tmp_path / "other")
    with pytest.raises(KeyFileError, match="another key"):
        company.client(key_file=tmp_path / "other").read("1")
