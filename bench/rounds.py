"""Rounds: on a machine shared with others a duration tells what the neighbours did, unless those rounds are left out.

What a hypervisor gave to others while we wanted to run, the kernel counts as stolen. It knows nothing of the durations,
so that choosing by it favours no figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bench.figures import summary

QUIET = 0.01  # of the time of all cores: a round from which less was stolen counts as undisturbed
T = TypeVar("T")


@dataclass(frozen=True)
class Round(Generic[T]):
    """What one round found, and the share of the cores' time that others had meanwhile."""

    found: T
    stolen: float


def quietest(measure: Callable[[], T], *, wanted: int, most: int) -> tuple[list[Round[T]], list[Round[T]]]:
    """Measure until so many rounds were undisturbed, or the most were made.

    Returns the wanted rounds from which least was stolen, and all of them.
    """
    rounds: list[Round[T]] = []
    while len(rounds) < most and sum(each.stolen < QUIET for each in rounds) < wanted:
        stolen, total = _cpu()
        found = measure()
        stolen_after, total_after = _cpu()
        rounds.append(Round(found, (stolen_after - stolen) / max(1, total_after - total)))
    return sorted(rounds, key=lambda each: each.stolen)[:wanted], rounds


def durations(measure: Callable[[], list[float]], *, wanted: int = 3, most: int = 9) -> dict[str, Any]:
    """The durations, in ms, of the quietest rounds together; and how much that leaves out."""
    chosen, rounds = quietest(measure, wanted=wanted, most=most)
    everything = summary([each for made in rounds for each in made.found])
    return {
        **summary([each for made in chosen for each in made.found]),
        **about(chosen, rounds),
        "of_all_rounds": {name: everything[name] for name in ("p50_ms", "p99_ms")},
    }


def about(chosen: list[Round[T]], rounds: list[Round[T]]) -> dict[str, Any]:
    """How many rounds were made, how many count, and what was stolen from those."""
    return {
        "rounds": len(rounds),
        "rounds_counted": len(chosen),
        "stolen_share": round(max(each.stolen for each in chosen), 4),
    }


def _cpu() -> tuple[int, int]:
    """Stolen and all time of all cores so far, in ticks (proc(5): user nice system idle iowait irq softirq steal)."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)
