"""A replay from a position in the middle of random histories: the same tables, and histories that lose and invent nothing."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

from contents import rental_contents
from random_batches import assert_clean
from rental_history import RentalHistory
from rental_shop import TOPIC, assert_models, expected, messages, text

from connectors.state import connect, migrate
from consumers.domain import load_domain
from consumers.engine.analysis import analyse
from daemon.app import App
from daemon.replay_request import Request
from daemon.settings import Settings
from daemon.times import BusinessTime

ROUNDS = 3


def test_replays_from_the_middle_leave_the_same(database: str, tmp_path: Path, seed: int) -> None:
    """From any earlier position: no row differs, no transition is added or lost; and the history goes on as in Python.

    Then with a mirror that was changed by hand: what the log tells since the position is put right again.
    """
    print(f"seed {seed}")
    migrate(database)
    rng = random.Random(f"replay{seed}")
    analysis = analyse(load_domain("rental"))
    history = RentalHistory(analysis.domain, rng)

    def opened() -> App:
        """An app with the parameters as they are by now."""
        values = history.values
        given = {
            "late_fee_per_day": str(values["rate"]), "time_zone": values["zone"],
            "fees_from": text(values["fees_from"]), "missing_after_days": values["missing_after"],
        }  # fmt: skip
        settings = Settings.model_validate({"parameters": given, "worker": {"batch_events": 40}})
        return App(settings, database, analysis.domain, BusinessTime())

    file = tmp_path / "positions.json"
    units = [history.first()]
    app = opened()
    app.init()
    with connect(database) as connection:
        for number in range(ROUNDS):
            units += [history.unit() for _ in range(25)]
            for unit in units:
                own = any(placed.event.table == "params" for placed in unit.changes)
                app.log.append(app.domain.own_topic if own else TOPIC, messages(analysis.domain, unit))
            units = []
            app.close()
            app = opened()
            app.run(threading.Event(), until_idle=True)
            before, note = rental_contents(connection), f"seed {seed}, round {number}"
            ends = {f"{p.topic}/{p.partition}": extent.end for p, extent in app.log.extents(app.topics).items()}
            file.write_text(json.dumps({place: rng.randint(0, end) for place, end in ends.items()}))
            told = app.replay(Request(str(file), apply=True, restart=True))
            changed = [table for table in told["tables"] if table["added"] or table["removed"] or table["changed"]]
            assert (changed, told["pushes"]) == ([], 0), note
            assert rental_contents(connection) == before, note
            assert_clean(connection, analysis, "rental", note)
            now = app.clock()
            assert_models(connection, "rental", expected(history.shop, now, **history.values), note)
        connection.execute("UPDATE rental_source.rental SET return_date = NULL, customer_id = customer_id + 1")
        connection.execute("DELETE FROM rental_source.payment")
        file.write_text(json.dumps(dict.fromkeys(ends, 0)))
        told = app.replay(Request(str(file), apply=True, restart=True))
        assert not told["same"]
        assert_clean(connection, analysis, "rental", f"seed {seed}")
        assert_models(connection, "rental", expected(history.shop, app.clock(), **history.values), f"seed {seed}")
        assert rental_contents(connection) == before, f"seed {seed}"
    app.close()
