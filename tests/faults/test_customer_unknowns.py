"""A thousand requests of which nobody knows what became: at the end one customer for each record, with the last values."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from connected_company import JumpingClock
from push_room import room

from connectors.quickbooks.simulator import Fault, Simulator

# Carried out, not carried out, carried out later, and forgotten when it comes again.
LOST = (
    ("lost_after", 0.12), ("lost_before", 0.1), ("late:requests=1", 0.05), ("late:requests=7", 0.05),
    ("late:seconds=300", 0.05), ("empty_200", 0.05), ("html_502", 0.04), ("html_504:applied=true", 0.06),
    ("10000:applied=true", 0.04), ("10000", 0.03), ("delay:seconds=90", 0.05), ("slow:seconds=9", 0.03), ("forget", 0.4),
)  # fmt: skip


@pytest.mark.parametrize("replay", ["original", "6000", "6000_items"])
def test_a_thousand_unknown_outcomes_make_no_double(
    database: str, tmp_path: Path, seed: int, replay: str, request: pytest.FixtureRequest
) -> None:
    """Requests alone and in batches, whatever QuickBooks remembers of them, and however it answers a batch that comes again.

    A thousand with --kills 1000 (as `make kills` asks for), a third in each way of answering; a tenth of them by default.
    """
    print(f"seed {seed}")
    wanted = 334 * request.config.getoption("--kills") // 1000
    rng = random.Random(f"{seed}{replay}")
    simulator = Simulator(batch_replay=replay, retention=rng.choice([None, 120, 900]))  # type: ignore[arg-type]
    with room(database, tmp_path, simulator, JumpingClock()) as club:
        for kind, probability in LOST:
            mark = "," if ":" in kind else ":"
            simulator.fault(
                Fault.parse(f"{kind}{mark}operation=write,probability={probability},seed={rng.randrange(10**6)}")
            )
        while club.unknown_outcomes() < wanted:
            numbers = rng.sample(range(1, 400), rng.choice([5, 15, 28, 60, 90]))
            club.change(*({"id": n, "phone": f"07{rng.randrange(10**6)}", "email": f"m{n}@club.org"} for n in numbers))
            club.take_in()
            for _ in range(rng.randint(1, 4)):
                club.clock.advance(max(club.step(), rng.choice([0, 5, 60, 1200])))
            club.take_in()
        simulator.faults.clear()
        club.settle()
        simulator.carry_out_late()
        club.settle()
        assert club.problems() == [], f"seed {seed}"
        assert simulator.company.created == len(club.members), f"seed {seed}"
        print(club.unknown_outcomes(), "unknown outcomes,", club.witness.seen, "changes sent")
