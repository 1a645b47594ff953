"""A process that is killed between any two steps of a push leaves nothing lost, and nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from customer_club import Club, club

from connectors.quickbooks.clock import SystemClock
from consumers.customer_session import CLAIM_SPACE

HERE = Path(__file__).parent
FAILPOINTS = (
    "customer_request_stored",
    "customer_answer_received",
    "customer_answer_recorded",
    "customer_told",
)


def killed(room: Club, folder: Path, address: str, failpoint: str) -> int:
    environment = {**os.environ, "ROWTIDE_FAILPOINT": failpoint, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"}
    command = [sys.executable, str(HERE / "customer_child.py"), room.dsn, str(folder), address, "2"]
    return subprocess.run(command, env=environment, timeout=60, check=False, capture_output=True).returncode


def assert_nobody_claims(room: Club) -> None:
    """The server ends the sessions of the dead, and their claims with them."""
    pause = threading.Event()
    for _ in range(200):
        row = room.connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = %s AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())",
            [CLAIM_SPACE],
        ).fetchone()
        if row == (0,):
            return
        pause.wait(0.05)
    pytest.fail("somebody dead holds a claim")


@pytest.mark.parametrize("size", [3, 40])
def test_killed_at_every_step_each_customer_is_made_once(database: str, tmp_path: Path, size: int) -> None:
    """One by one and in batches: whoever comes next settles what the dead had sent, and tells what was not told."""
    with club(database, tmp_path) as room:
        room.app.outside = room.simulator.clock = SystemClock()
        address = str(room.settings.quickbooks.api_url)
        for number, failpoint in enumerate(FAILPOINTS):
            first = number * size
            room.put(*({"id": n, "last": f"Lee{n % 30}", "phone": "1"} for n in range(first, first + size)))
            assert killed(room, tmp_path, address, failpoint) == -signal.SIGKILL
            assert_nobody_claims(room)
        room.anew()
        room.rounds()
        total = len(FAILPOINTS) * size
        assert len(set(room.names())) == room.simulator.company.created == total
        assert set(room.states().values()) == {"synced"}
        assert (room.pending(), room.unsettled()) == ([], 0)
        assert not room.simulator.summary()["requestids_with_other_bodies"]
        room.put(*({"id": n, "last": f"Lee{n % 30}", "phone": "2"} for n in range(3)))
        assert killed(room, tmp_path, address, "customer_answer_received:2") == -signal.SIGKILL
        room.rounds()
        phones = sorted(entry["PrimaryPhone"]["FreeFormNumber"] for entry in room.simulator.customers())
        assert phones == ["1"] * (total - 3) + ["2"] * 3
