"""Processes are killed while they renew the tokens of a company, which rotate at each renewal: nobody ever has to reconnect."""

from __future__ import annotations

import os
import random
from pathlib import Path

import psycopg
import pytest
from connected_company import connect_company
from killing import wait_or_kill

from connectors.quickbooks import realm
from connectors.quickbooks.clock import SystemClock
from connectors.quickbooks.keys import make_key
from connectors.quickbooks.options import Limits, Options
from connectors.quickbooks.simulator import Fault, OAuthRules, Simulator, serve
from connectors.quickbooks.simulator.simulator import CLIENT_ID, CLIENT_SECRET
from connectors.state import migrate

FAILPOINTS = ["token_refreshed", "token_stored"]


def renew_for_ever(dsn: str, options: Options) -> None:
    client = realm.open_client(dsn, options, SystemClock(), "school")
    while True:
        client._tokens.renewed(client._tokens.current())


def fork(dsn: str, options: Options, failpoint: str | None) -> int:
    """A process that renews and renews, until it dies at the failpoint or is killed."""
    child = os.fork()
    if child:
        return child
    try:
        if failpoint is not None:
            os.environ["ROWTIDE_FAILPOINT"] = failpoint
        renew_for_ever(dsn, options)
    finally:
        os._exit(1)


@pytest.mark.parametrize("previous", ["until_used", "grace"])
def test_kills_around_rotation_need_no_reconnect(
    database: str, tmp_path: Path, kills: int, seed: int, previous: str
) -> None:
    """After each kill the stored tokens are good: between Intuit's answer and our commit, after it, and anywhere.

    Another process renews meanwhile, and an answer of Intuit is lost on the way. Fifty kills for the two by default;
    five hundred with --kills 1000, as `make kills` asks for.
    """
    print(f"seed {seed}")
    rng = random.Random(seed)
    migrate(database)
    key, clock = make_key(tmp_path / "key"), SystemClock()
    simulator = Simulator(oauth=OAuthRules(rotate_after=0, previous=previous))
    with serve(simulator) as url, psycopg.connect(database, autocommit=True) as state:
        options = Options(
            environment="simulator",
            api_url=url,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            key_file=tmp_path / "key",
            limits=Limits(10_000, 10_000, 10_000, 100),
            timeout_seconds=10,
        )
        connect_company(state, key, simulator, clock.now())
        beside = fork(database, options, None)
        for number in range(kills // 4):
            failpoint = f"{rng.choice(FAILPOINTS)}:{rng.randint(1, 3)}" if rng.random() < 0.6 else None
            child = fork(database, options, failpoint)
            wait_or_kill(child, rng.uniform(0.02, 0.4) if failpoint is None else 20)
            found = realm.current_realm(state)
            assert found is not None
            assert found.state == realm.CONNECTED, f"seed {seed}, kill {number}"
        wait_or_kill(beside, 0)
        assert simulator.oauth.rotations > kills // 4
        assert state.execute("SELECT generation FROM rowtide.quickbooks_token").fetchone() > (kills // 8,)
        simulator.fault(Fault("lost_after", operation="token", times=1))
        client = realm.open_client(database, options, clock, "school")
        simulator.oauth.expire_access(clock.now())
        assert not client.read("1").sent  # its renewal was lost too
        assert client.read("1").code == "610"
        client.close()
    refusals = [seen for seen in simulator.requests if seen.operation == "token" and seen.status == 400]
    print(f"{simulator.oauth.rotations} rotations, {len(refusals)} refusals")


def test_what_was_not_committed_was_not_used(database: str, tmp_path: Path) -> None:
    """The rule can fail: a process that dies with the new pair in hand leaves the old one stored, and that is tried."""
    migrate(database)
    key, clock = make_key(tmp_path / "key"), SystemClock()
    simulator = Simulator(oauth=OAuthRules(rotate_after=0, previous="never"))
    with serve(simulator) as url, psycopg.connect(database, autocommit=True) as state:
        options = Options("simulator", url, None, CLIENT_ID, CLIENT_SECRET, tmp_path / "key", timeout_seconds=10)
        connect_company(state, key, simulator, clock.now())
        wait_or_kill(fork(database, options, "token_refreshed:1"), 20)
        assert state.execute("SELECT generation FROM rowtide.quickbooks_token").fetchone() == (1,)
        # With a server that forgets the token before at once, nothing could help: a person is asked, once.
        simulator.oauth.expire_access(clock.now())
        client = realm.open_client(database, options, clock, "school")
        assert not client.read("1").sent
        found = realm.current_realm(state)
        assert found is not None
        assert found.state == realm.RECONNECT_NEEDED
        client.close()
