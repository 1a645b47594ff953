"""The worker is killed at named places and at random: nothing is lost, nothing applied twice, and it gets on."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest
from domains import History, domain_named
from instances import Bench, rng_for
from killing import wait_or_kill

from consumers.engine.verify import verify

FAILPOINTS = ["batch_read", "mirror_written", "models_refreshed", "before_commit", "after_commit"]


@pytest.mark.parametrize("name", ["clocked", "shapes"])
def test_kills_lose_nothing_and_repeat_nothing(database: str, tmp_path: Path, name: str, kills: int, seed: int) -> None:
    """After many kills the tables, histories and kept rows are those of a worker that was never killed."""
    print(f"seed {seed}")
    domain = domain_named(name)
    bench = Bench(database, domain, tmp_path)
    bench.create("killed")
    rng = rng_for(name, seed)
    history = History(domain, rng)
    bench.append(history, 20)
    began = time.monotonic()
    bench.work("killed")
    usual = max(time.monotonic() - began, 0.05)  # what a worker takes here: the kills are to hit it at work
    advanced = 0
    for number in range(kills // 2):
        bench.append(history, rng.randint(1, 40))
        before = bench.position("killed")
        failpoint = f"{rng.choice(FAILPOINTS)}:{rng.randint(1, 3)}" if rng.random() < 0.7 else None
        child = bench.fork("killed", failpoint, limit=rng.choice([3, 20, 200]))
        wait_or_kill(child, usual * (rng.uniform(0.2, 3) if failpoint is None else 8))
        advanced += bench.position("killed") > before
        assert bench.position("killed") >= before, f"seed {seed}, kill {number}"
    assert advanced > kills // 8, "the worker gets on between kills"
    bench.work("killed")
    bench.create("whole")
    bench.work("whole", limit=5000)
    with psycopg.connect(database) as connection:
        assert [c for c in verify(connection, bench.analysis, "killed") if not c.clean] == [], f"seed {seed}"
    assert bench.contents("killed") == bench.contents("whole"), f"seed {seed}"


def test_a_transaction_larger_than_memory_allows_survives_kills(database: str, tmp_path: Path, seed: int) -> None:
    """A unit that comes in pieces is applied whole or not at all, though the worker dies between pieces."""
    domain = domain_named("joins")
    bench = Bench(database, domain, tmp_path)
    bench.create("killed")
    history = History(domain, rng_for("joins", seed))
    bench.append(history, 5)
    bench.work("killed")
    small = bench.position("killed")
    units = [history.unit() for _ in range(300)]
    inner = [m for unit in units for m in bench.messages(unit)[1:-1]]
    begin, end = bench.messages(units[0])[0], bench.messages(units[0])[-1]
    bench.log.append("t", [begin, *inner, end])
    for place in ["piece_written:1", "piece_written:3", "piece_written:7"]:
        wait_or_kill(bench.fork("killed", place, limit=20), 10)
        assert bench.position("killed") == small
    bench.work("killed", limit=20)
    assert bench.position("killed") > small
    bench.create("whole")
    bench.work("whole", limit=5000)
    assert bench.contents("killed") == bench.contents("whole")
