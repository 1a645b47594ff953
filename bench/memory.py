"""Memory: the most that our process ever has resident while a million rows come at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from bench.daemons import Ended, command, create_source, settings
from bench.report import Goal, Outcome
from bench.run import Run
from bench.shop import Scale, Shop
from connectors.state import migrate

GOAL_MB = 300.0
ROWS = 1_000_000
_SCALE = Scale(rentals=1_000)
_RUN = ["run", "--until-idle", "--json"]
_MANY = """
INSERT INTO rental
SELECT n, now()::timestamp(0) - n %% 90 * interval '1 day', n %% %(items)s::integer + 1,
       n %% %(customers)s::integer + 1,
       CASE WHEN n %% 1000 > 0 THEN now()::timestamp(0) - n %% 90 * interval '1 day' + n %% 9 * interval '1 day' END, 1
  FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
"""


def run(run: Run) -> Outcome:
    """A snapshot of so many rentals, and one transaction of so many; capture, log and models in one process each."""
    rows = max(2_000, round(ROWS * run.scale))
    outcome = Outcome({"rows": rows})
    with run.task(f"memory: {rows:,} rows at once, twice", 4) as step:
        for kind in ("snapshot", "transaction"):
            with run.databases("shop", "state") as (source, state):
                ended = _one(run, kind, source, state, rows, step)
            step()
            peak = round(ended.peak / 1e6, 1)
            outcome.figures |= {
                f"{kind}_peak_mb": peak,
                f"{kind}_rows_per_second": round(rows / ended.result["seconds"]),
            }
            outcome.goals.append(Goal(f"resident memory of a {kind} of {rows:,} rows, MB", peak, GOAL_MB, "under"))
    return outcome


def _one(run: Run, kind: str, source: str, state: str, rows: int, step: Callable[[], None]) -> Ended:
    migrate(state)
    environment = settings(state, source)
    with psycopg.connect(source, autocommit=True) as connection:
        create_source(connection, Shop(_SCALE, seed=run.seed))
        if kind == "transaction":
            command(_RUN, environment, seconds=run.left)
        values: dict[str, Any] = {"items": _SCALE.items, "customers": _SCALE.customers}
        connection.execute(_MANY, values | {"first": _SCALE.rentals + 1, "last": _SCALE.rentals + rows})
    step()
    ended = command(_RUN, environment, seconds=run.left)
    with psycopg.connect(state) as connection:
        found = connection.execute("SELECT count(*) FROM rental.rental_status").fetchone()
    if found != (_SCALE.rentals + rows,):
        raise RuntimeError(f"{_SCALE.rentals + rows} rentals went in, the model has {found}")
    return ended
