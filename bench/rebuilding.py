"""Rebuild: the whole log into fresh tables beside the live ones, against the same log worked off live."""

from __future__ import annotations

from bench.daemons import command, settings
from bench.report import Goal, Outcome
from bench.run import Run
from bench.shop import Scale, Shop
from bench.stage import Stage

GOAL = 1.0
ROUNDS = 2


def run(run: Run) -> Outcome:
    """Live, rebuild, live, rebuild: each on the same records, in a process of its own, as the commands do it."""
    scale = Scale.of(max(100, round(run.rentals * min(1.0, run.scale) / 4)))
    events = max(500, round(40_000 * run.scale))
    seconds = {"live": 0.0, "rebuild": 0.0}
    counts = {"live": 0, "rebuild": 0}
    rounds = ROUNDS if run.scale >= 0.1 else 1
    names = [f"rebuild_{number}" for number in range(rounds)]
    with run.databases(*names) as dsns, run.task("rebuild: live and rebuild in turn", 2 * rounds) as step:
        for dsn in dsns:
            stage = Stage(dsn)
            shop = Shop(scale, seed=run.seed, pace=events)
            stage.append_history(shop)
            stage.append_traffic(shop, events)
            stage.close()
            for kind, arguments in {
                "live": ["run", "--until-idle", "--json"],
                "rebuild": ["rebuild", "--json"],
            }.items():
                result = command(arguments, settings(dsn), seconds=run.left).result
                seconds[kind] += result["seconds"]
                counts[kind] += result["events"]
                step()
    live, rebuild = (counts[kind] / seconds[kind] for kind in ("live", "rebuild"))
    figures = {
        "events": counts["rebuild"],
        "live_events_per_second": round(live),
        "rebuild_events_per_second": round(rebuild),
        "ratio": round(rebuild / live, 3),
    }
    return Outcome(figures, [Goal("events/s of a rebuild as a multiple of live", figures["ratio"], GOAL, "at least")])
