"""The benchmarks measure what they say: a tiny run of each, and the parts that their figures stand on."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from bench import rounds
from bench.figures import percentile, summary
from bench.report import Goal, Outcome, last_line
from bench.shop import Scale, Shop, Write

ROOT = Path(__file__).resolve().parents[2]
EVERY = {
    "throughput": {"ratio", "events_per_second", "floor_events_per_second", "where_the_time_goes", "cpu_seconds"},
    "single": {"p50_ms", "p99_ms", "count"},
    "end-to-end": {"p50_ms", "p99_ms", "count"},
    "flat": {"ratio", "us_per_event_small", "us_per_event_large"},
    "memory": {"snapshot_peak_mb", "transaction_peak_mb"},
    "rebuild": {"ratio", "live_events_per_second", "rebuild_events_per_second"},
}


def test_a_tiny_run_gives_every_figure() -> None:
    """All that need no broker run on real parts, none fails; the last line is JSON with each figure and each goal."""
    chosen = [part for name in EVERY for part in ("--only", name)]
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *chosen, "--scale", "0.005", "--rentals", "300", "--dense-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 1), ended.stderr[-3000:]
    said = json.loads(ended.stdout)
    assert said["failed"] == []
    assert {name: wanted - figures.keys() for name, wanted in EVERY.items() if (figures := said["figures"][name])} == {
        name: set() for name in EVERY
    }
    assert {goal["benchmark"] for goal in said["goals"]} == EVERY.keys()
    assert said["met"] == all(goal["met"] for goal in said["goals"])
    assert said["machine"].keys() >= {"cores", "memory_gib", "python", "postgresql"}
    parts = said["figures"]["throughput"]["where_the_time_goes"]
    # Every second of the run is in exactly one part; each is rounded to a millisecond.
    assert sum(part["seconds"] for part in parts) == pytest.approx(
        said["figures"]["throughput"]["cpu_seconds"]["wall"], abs=0.001 * len(parts)
    )


def shop(seed: int = 7) -> tuple[list[Write], list[Write]]:
    """A small shop's past and 3,000 transactions of it."""
    generated = Shop(Scale.of(400), seed=seed)
    past = list(generated.history())
    return past, [write for transaction in islice(generated.traffic(), 3_000) for write in transaction.writes]


def test_the_shop_follows_from_its_seed() -> None:
    """The same seed gives the same rows, another one others: runs can be compared."""
    assert shop() == shop()
    assert shop() != shop(8)


def test_the_shop_is_one_that_a_source_could_have() -> None:
    """Keys are inserted once, updated and deleted only while there; an item is out at most once at a time."""
    past, traffic = shop()
    rows: dict[tuple[str, tuple[str, ...]], tuple[str | None, ...]] = {}
    out: dict[str | None, str] = {}
    for write in [*past, *traffic]:
        place = (write.table, write.key)
        assert (place in rows) == (write.op in ("u", "d")), write
        if write.row is None:
            del rows[place]
            continue
        rows[place] = write.row
        if write.table == "rental":
            number, _, item, _, back, _ = write.row
            assert out.setdefault(item, write.key[0]) == number
            if back is not None:
                del out[item]
    kinds = {(write.table, write.op) for write in traffic}
    assert kinds >= {
        ("rental", "c"),
        ("rental", "u"),
        ("payment", "c"),
        ("payment", "d"),
        ("film", "u"),
        ("customer", "u"),
    }


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """The 99th of a hundred values is the 99th; of one value it is that one."""
    assert percentile([float(n) for n in range(100, 0, -1)], 0.99) == 99.0
    assert percentile([3.0], 0.99) == 3.0
    assert summary([1.0, 2.0, 6.0])["p50_ms"] == 2.0


@pytest.mark.parametrize(
    ("stolen", "made", "chosen"),
    [
        ([0, 0, 0, 90], 2, [0, 1]),
        ([90, 5, 90, 0, 0], 4, [3, 1]),
        ([90, 30, 60, 40, 90, 0], 5, [1, 3]),
    ],
    ids=["quiet", "quiet-at-last", "never-quiet"],
)
def test_rounds_count_from_which_least_was_stolen(
    monkeypatch: pytest.MonkeyPatch, stolen: list[int], made: int, chosen: list[int]
) -> None:
    """Rounds end as soon as enough were left alone; which ones count has nothing to do with what they found."""
    total, gone, number = 0, 0, -1

    def measure() -> int:
        nonlocal total, gone, number
        number += 1
        total, gone = total + 1000, gone + stolen[number]
        return number

    monkeypatch.setattr(rounds, "_cpu", lambda: (gone, total))
    counted, every = rounds.quietest(measure, wanted=2, most=5)
    assert [each.found for each in every] == list(range(made))
    assert [each.found for each in counted] == chosen
    assert rounds.about(counted, every) == {
        "rounds": made,
        "rounds_counted": 2,
        "stolen_share": max(stolen[n] for n in chosen) / 1000,
    }


@pytest.mark.parametrize(
    ("value", "sense", "met"),
    [
        (1.0, "at least", True),
        (0.9, "at least", False),
        (1.0, "at most", True),
        (1.0, "under", False),
        (0.9, "under", True),
    ],
)
def test_a_goal_is_met_on_its_own_side_of_the_bound(value: float, sense: str, met: bool) -> None:
    """`under` excludes the bound, the others include it; one goal that is not met makes the run not met."""
    goal = Goal("x", value, 1.0, sense)  # type: ignore[arg-type]
    assert goal.met is met
    assert json.loads(last_line({}, {"b": Outcome({}, [goal])}, []))["met"] is met
    assert json.loads(last_line({}, {"b": Outcome({}, [goal])}, ["b: failed"]))["met"] is False
