"""Rebuild: the whole log into fresh tables beside the live ones, against the same log worked off live."""

from __future__ import annotations

from bench.daemons import Ended, command, settings
from bench.report import Goal, Outcome
from bench.rounds import about, quietest
from bench.run import Run
from bench.shop import Scale, Shop
from bench.stage import Stage

GOAL = 1.0
_ROUNDS = (2, 4)  # that count, and at most
_COMMANDS = {"live": ["run", "--until-idle", "--json"], "rebuild": ["rebuild", "--json"]}


def run(run: Run) -> Outcome:
    """Live, rebuild, live, rebuild: each on the same records, from the command's start to its end."""
    scale = Scale.of(max(100, round(run.rentals * min(1.0, run.scale) / 4)))
    count = max(500, round(60_000 * run.scale))
    wanted, most = _ROUNDS if run.scale >= 0.1 else (1, 1)
    names = [f"rebuild_{number}" for number in range(most)]
    with run.databases(*names) as dsns, run.task("rebuild: live and rebuild in turn", 2 * most) as step:
        remaining = iter(dsns)

        def pair() -> dict[str, Ended]:
            dsn = next(remaining)
            stage = Stage(dsn)
            shop = Shop(scale, seed=run.seed, pace=count)
            stage.append_history(shop)
            stage.append_traffic(shop, count)
            stage.close()
            found = {}
            for kind, arguments in _COMMANDS.items():
                found[kind] = command(arguments, settings(dsn), seconds=run.left)
                step()
            return found

        chosen, rounds = quietest(pair, wanted=wanted, most=most)
    events = {kind: sum(each.found[kind].result["events"] for each in chosen) for kind in _COMMANDS}
    live, rebuild = (events[kind] / sum(each.found[kind].seconds for each in chosen) for kind in _COMMANDS)
    figures = {
        "events": events["rebuild"],
        "live_events_per_second": round(live),
        "rebuild_events_per_second": round(rebuild),
        "ratio": round(rebuild / live, 3),
        **about(chosen, rounds),
    }
    return Outcome(figures, [Goal("events/s of a rebuild as a multiple of live", figures["ratio"], GOAL, "at least")])
