"""Rebuild: the whole log into fresh tables beside the live ones, against the same log worked off live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.daemons import command, settings
from bench.report import Goal, Outcome
from bench.rounds import about, quietest
from bench.run import Run
from bench.shop import Scale, Shop
from bench.stage import Stage

GOAL = 1.0
_ROUNDS = (2, 4)  # that count, and at most
_COMMANDS = {"live": ["run", "--until-idle", "--json"], "rebuild": ["rebuild", "--json"]}


def run(run: Run) -> Outcome:
    """Live, rebuild, live, rebuild: each on the same records, in a process of its own, as the commands do it."""
    scale = Scale.of(max(100, round(run.rentals * min(1.0, run.scale) / 4)))
    events = max(500, round(40_000 * run.scale))
    wanted, most = _ROUNDS if run.scale >= 0.1 else (1, 1)
    names = [f"rebuild_{number}" for number in range(most)]
    with run.databases(*names) as dsns, run.task("rebuild: live and rebuild in turn", 2 * most) as step:
        remaining = iter(dsns)

        def pair() -> dict[str, Mapping[str, Any]]:
            dsn = next(remaining)
            stage = Stage(dsn)
            shop = Shop(scale, seed=run.seed, pace=events)
            stage.append_history(shop)
            stage.append_traffic(shop, events)
            stage.close()
            found = {}
            for kind, arguments in _COMMANDS.items():
                found[kind] = command(arguments, settings(dsn), seconds=run.left).result
                step()
            return found

        chosen, rounds = quietest(pair, wanted=wanted, most=most)
    events_of, seconds_of = (
        {kind: sum(each.found[kind][name] for each in chosen) for kind in _COMMANDS} for name in ("events", "seconds")
    )
    live, rebuild = (events_of[kind] / seconds_of[kind] for kind in _COMMANDS)
    figures = {
        "events": events_of["rebuild"],
        "live_events_per_second": round(live),
        "rebuild_events_per_second": round(rebuild),
        "ratio": round(rebuild / live, 3),
        **about(chosen, rounds),
    }
    return Outcome(figures, [Goal("events/s of a rebuild as a multiple of live", figures["ratio"], GOAL, "at least")])
