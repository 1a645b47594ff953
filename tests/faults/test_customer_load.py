"""More customers than QuickBooks permits to be pushed: what is permitted is used, and never exceeded. Simulated time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from push_room import Room, room

from connectors.quickbooks.simulator import Fault, Limits, OAuthRules, SimClock, Simulator
from daemon import pushing

BATCH = 30


@contextmanager
def timed(dsn: str, folder: Path, simulator: Simulator) -> Iterator[Room]:
    """A club whose pushing threads take part in simulated time."""
    clock = SimClock(guard=60.0)

    class Participant(threading.Thread):
        """Time stands still while it works, and goes on while somebody waits for its end."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._begun = threading.Event()

        def start(self) -> None:
            super().start()
            self._begun.wait(60)

        def run(self) -> None:
            with clock.participant():
                self._begun.set()
                super().run()

        def join(self, timeout: float | None = None) -> None:
            with clock.joining(self):
                super().join(timeout)

    simulated = SimpleNamespace(**{**vars(threading), "Thread": Participant})
    with (
        room(dsn, folder, simulator, clock) as club,
        patch.object(pushing, "threading", simulated),
        clock.participant(),
    ):
        yield club


def batches(club: Room, first: float, last: float) -> list[int]:
    """The sizes of the batches that came between two moments."""
    return [
        len(seen.json["BatchItemRequest"])
        for seen in club.simulator.requests.since(operation="batch")
        if first <= seen.at < last
    ]


def test_a_first_load_takes_less_than_90_seconds(database: str, tmp_path: Path) -> None:
    """2,050 customers against the documented limits, answers after a second: 69 batches, no window exceeded, none refused."""
    simulator = Simulator(latency=1.0)
    with timed(database, tmp_path, simulator) as club:
        club.change(*({"id": n, "last": f"Lee{n}", "phone": f"07{n}", "email": f"m{n}@club.org"} for n in range(2050)))
        club.take_in()
        begun = club.clock.now()
        club.settle()
        seconds = max(seen.at for seen in simulator.requests) - begun
        print(f"{seconds:.1f} simulated seconds, {simulator.requests.operations}")
        assert club.problems() == []
        assert simulator.company.created == 2050
        assert seconds < 90
        first_minute = batches(club, begun, begun + 60)
        assert sum(first_minute) >= 0.95 * 40 * BATCH
        assert simulator.throttle.worst("batches") <= 40
        assert simulator.requests.operations["batch"] <= 2050 // BATCH + 2
        # Nothing is asked for again: no batch for what is known.
        before = club.writes()
        club.settle()
        assert club.writes() == before


def test_an_hour_at_twice_the_permitted_load(
    database: str, tmp_path: Path, seed: int, request: pytest.FixtureRequest
) -> None:
    """Twice as many changes as may be pushed, some answers lost: at least 90 % of the rate, no refusal, no double.

    The documented limits with --kills 1000 (as `make kills` asks for), a twentieth of them by default.
    """
    print(f"seed {seed}")
    kills = request.config.getoption("--kills")
    part = 1.0 if kills >= 1000 else kills / 2000
    limits = Limits(int(500 * part), 10, int(40 * part))
    rng = random.Random(seed)
    # A token for the whole hour: while one is renewed others wait for a lock, which simulated time cannot see.
    simulator = Simulator(limits=limits, latency=0.8, oauth=OAuthRules(access_life=86_400))
    for kind in ("lost_after", "lost_before", "late:requests=3"):
        mark = "," if ":" in kind else ":"
        simulator.fault(Fault.parse(f"{kind}{mark}operation=write,probability=0.005,seed={rng.randrange(10**6)}"))
    with timed(database, tmp_path, simulator) as club:
        club.settings_with(requests_per_minute=limits.requests_per_minute, batches_per_minute=limits.batches_per_minute)
        people, load = 500 * limits.batches_per_minute, 2 * BATCH * limits.batches_per_minute
        club.change(*({"id": n, "last": f"Lee{n}", "phone": "0"} for n in range(people)))
        club.take_in()
        over, began, begun = threading.Event(), time.monotonic(), club.clock.now()

        def feed() -> None:
            try:
                for minute in range(60):
                    club.clock.sleep(begun + 60 * (minute + 1) - club.clock.now())
                    numbers = rng.sample(range(people), load)
                    club.change(*({"id": n, "phone": f"07{minute}{n}", "email": f"m{n}@club.org"} for n in numbers))
                    club.take_in()
                    fed.append(minute)
            finally:
                over.set()

        fed: list[int] = []
        feeder = club.clock.thread(feed)
        while not over.is_set():
            seconds = club.lane._round_or_pause(over)
            if not over.is_set():
                club.clock.sleep(seconds)
        with club.clock.blocked():
            feeder.join(60)
        assert len(fed) == 60
        sizes = batches(club, begun, begun + 3600)
        permitted = 60 * limits.batches_per_minute
        print(f"{len(sizes)} of {permitted} batches, {sum(sizes)} customers, {time.monotonic() - began:.0f} s")
        assert len(sizes) <= permitted
        assert sum(sizes) >= 0.9 * permitted * BATCH
        simulator.faults.clear()
        club.settle()
        simulator.carry_out_late()
        club.settle()
        assert club.problems() == [], f"seed {seed}"
        assert simulator.company.created == people
        assert simulator.throttle.worst("batches") <= limits.batches_per_minute
        assert simulator.throttle.worst("minute") <= limits.requests_per_minute
        assert simulator.throttle.worst("second") <= 10
