"""The limiter of a company: whatever the mix, the latencies and the deaths, no window ever holds more than is permitted."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.quickbooks import pace as pacing
from connectors.quickbooks import realm
from connectors.quickbooks.audit import Entry
from connectors.quickbooks.database import Connections
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.options import Limits
from connectors.quickbooks.pace import Held, Pace, Slot
from connectors.quickbooks.simulator.simclock import SimClock
from connectors.state import migrate

REALM = "9130000000000001"
ENTRY = Entry(0.0, REALM, "read", "done", 0.0)


@pytest.fixture
def dsn(database: str) -> str:
    migrate(database)
    return database


def fresh(dsn: str, clock: SimClock) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE rowtide.quickbooks_realm, rowtide.quickbooks_slot, rowtide.quickbooks_audit CASCADE"
        )
        realm.set_connected(connection, REALM, "simulator", clock.now())


@dataclass
class Company:
    """What QuickBooks sees: when each request arrived, at a moment between its sending and its answer."""

    clock: SimClock
    arrivals: list[tuple[float, str]] = field(default_factory=list)

    def serve(self, kind: str, way: float, work: float) -> None:
        self.clock.sleep(way)
        self.arrivals.append((self.clock.now(), kind))
        self.clock.sleep(work)

    def most(self, width: float, kind: str | None = None) -> int:
        """The most arrivals of any window, wherever it begins."""
        moments = sorted(at for at, of in self.arrivals if kind is None or of == kind)
        best = first = 0
        for last, moment in enumerate(moments):
            while moments[first] <= moment - width:
                first += 1
            best = max(best, last - first + 1)
        return best


def work_off(clock: SimClock, jobs: Sequence[Callable[[], None]], threads: int) -> None:
    """Have threads take jobs until there are none left."""
    left, lock, failed = list(reversed(jobs)), threading.Lock(), []

    def run() -> None:
        try:
            while True:
                with lock:
                    if not left:
                        return
                    job = left.pop()
                job()
        except BaseException as error:
            failed.append(error)
            raise

    running = [clock.thread(run) for _ in range(threads)]
    for thread in running:
        thread.join(60)
    assert not failed
    assert not left
    assert not any(thread.is_alive() for thread in running)


def send(limiter: Pace, company: Company, kind: pacing.Kind, way: float, work: float) -> Callable[[], None]:
    def job() -> None:
        slot = limiter.take(kind)
        assert isinstance(slot, Slot)
        company.serve(kind, way, work)
        limiter.settle(slot, ENTRY)

    return job


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    minute=st.integers(6, 40),
    second=st.integers(2, 8),
    batches=st.integers(1, 10),
    concurrency=st.integers(1, 6),
    processes=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_no_window_holds_more_than_is_permitted(
    dsn: str, minute: int, second: int, batches: int, concurrency: int, processes: int, seed: int
) -> None:
    """Several processes, requests and batches mixed, answers fast and slow: every sliding window keeps every limit."""
    clock, rng = SimClock(), random.Random(seed)
    fresh(dsn, clock)
    company, connections = Company(clock), Connections(dsn)
    limits = Limits(minute, second, batches, concurrency)
    limiters = [Pace(connections, REALM, limits, clock) for _ in range(processes)]
    jobs = [
        send(
            rng.choice(limiters),
            company,
            "batch" if rng.random() < 0.2 else "request",
            rng.choice([0.0, 0.01, 0.3]),
            rng.choice([0.0, 0.05, 0.8, 5.0 if rng.random() < 0.1 else 0.1]),
        )
        for _ in range(50)
    ]
    work_off(clock, jobs, 5)
    assert len(company.arrivals) == 50
    assert company.most(60) <= minute
    assert company.most(1) <= second
    assert company.most(60, "batch") <= batches
    for limiter in limiters:
        limiter.close()
    connections.close()


@pytest.mark.parametrize(("kind", "number"), [("request", 900), ("batch", 120)])
def test_what_is_permitted_is_used(dsn: str, kind: pacing.Kind, number: int) -> None:
    """At least 95 % of the documented rate, under load without end, with answers after a fifth of a second."""
    clock = SimClock()
    fresh(dsn, clock)
    company, connections = Company(clock), Connections(dsn)
    limiter = Pace(connections, REALM, Limits(), clock)
    begun = clock.now()
    work_off(clock, [send(limiter, company, kind, 0.05, 0.15) for _ in range(number)], 4)
    limit = 500 if kind == "request" else 40
    last = max(at for at, _ in company.arrivals)
    # The first window is free at once, so the steady rate is what came after it.
    steady = [at for at, _ in company.arrivals if at >= begun + 60]
    assert len(steady) / ((last - begun - 60) / 60) >= 0.95 * limit
    assert company.most(60) <= 500
    assert company.most(1) <= 10
    assert company.most(60, "batch") <= 40
    limiter.close()


def test_turns_are_given_in_the_order_of_asking(dsn: str) -> None:
    """No thread is passed over while others go again and again."""
    clock = SimClock()
    fresh(dsn, clock)
    limiter, turns = Pace(Connections(dsn), REALM, Limits(30, 2, 40, 8), clock), []

    def run(name: int) -> Callable[[], None]:
        def job() -> None:
            for _ in range(10):
                slot = limiter.take("request")
                assert isinstance(slot, Slot)
                turns.append(name)
                clock.sleep(0.01)
                limiter.settle(slot, ENTRY)

        return job

    threads = [clock.thread(run(name)) for name in range(4)]
    for thread in threads:
        thread.join(60)
    assert [turns.count(name) for name in range(4)] == [10] * 4
    for name in range(4):
        places = [place for place, turn in enumerate(turns) if turn == name]
        assert max(after - before for before, after in pairwise(places)) <= 8
    limiter.close()


def test_a_refusal_makes_everybody_rest_and_then_go_slower(dsn: str) -> None:
    """After one 429 nobody sends for a minute, whichever process; then the rate is lower, and recovers."""
    clock = SimClock()
    fresh(dsn, clock)
    connections = Connections(dsn)
    first, second = (Pace(connections, REALM, Limits(), clock) for _ in range(2))
    assert first.throttled() == pacing.REST_SECONDS
    held = second.take("request")
    assert isinstance(held, Held)
    assert (held.verdict, held.wait) == (Verdict.THROTTLED, pytest.approx(60))
    second.throttled()  # the other requests under way are refused too: that says nothing new
    clock.advance(60.001)

    def rate() -> int:
        begun, number = clock.now(), 0
        while clock.now() < begun + 60:
            slot = first.take("request")
            assert isinstance(slot, Slot)
            number += 1
            first.settle(slot, ENTRY)
        return number

    slow = rate()
    assert 340 <= slow <= 400  # 0.7 of 500, and a tenth more by the minute's end
    clock.advance(300)
    assert rate() >= 495
    first.close()
    second.close()


def test_who_waits_is_held_when_the_company_is_paused_meanwhile(dsn: str) -> None:
    """A turn that was promised is not taken after a refusal, a pause or a stop; and its slot counts no more."""
    clock = SimClock()
    fresh(dsn, clock)
    connections = Connections(dsn)
    limiter = Pace(connections, REALM, Limits(1, 1, 1, 8), clock)
    slot = limiter.take("request")
    assert isinstance(slot, Slot)
    limiter.settle(slot, ENTRY)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for change, verdict in [
            (limiter.throttled, Verdict.THROTTLED),
            (lambda: realm.pause(connection, REALM, "holidays", clock.now()), Verdict.BLOCKED),
            (lambda: realm.set_state(connection, REALM, realm.STOPPED, "code 6190", clock.now()), Verdict.BLOCKED),
        ]:
            realm.set_connected(connection, REALM, "simulator", clock.now())

            def change_later(change: Callable[[], object] = change) -> None:
                clock.sleep(5)
                change()

            with clock.participant():
                thread = clock.thread(change_later)
                held = limiter.take("request")
            thread.join(10)
            assert isinstance(held, Held), change
            assert held.verdict is verdict
            assert connection.execute("SELECT count(*) FROM rowtide.quickbooks_slot").fetchone() == (1,)
            realm.set_connected(connection, REALM, "simulator", clock.now())
            connection.execute("UPDATE rowtide.quickbooks_slot SET released_at = to_timestamp(%s)", [clock.now()])
    limiter.close()


def test_what_the_dead_held_is_free_a_window_after_it_was_noticed(dsn: str) -> None:
    """Slots of a process that is gone block nobody for long, and are not forgotten before a window has passed."""
    clock = SimClock()
    fresh(dsn, clock)
    limits = Limits(4, 4, 4, 4)
    dead, alive = (Pace(Connections(dsn), REALM, limits, clock) for _ in range(2))
    for _ in range(4):
        assert isinstance(dead.take("request"), Slot)
    begun = clock.now()
    dead.close()
    slot = alive.take("request")
    assert isinstance(slot, Slot)
    assert 60 <= clock.now() - begun <= 61
    alive.close()


def test_a_slot_that_is_never_settled_counts_for_the_longest_request_and_a_window(dsn: str) -> None:
    """A holder that lives and does not settle cannot block the company for ever."""
    clock = SimClock()
    fresh(dsn, clock)
    limiter = Pace(Connections(dsn), REALM, Limits(1, 1, 1, 1), clock)
    assert isinstance(limiter.take("request"), Slot)
    begun = clock.now()
    assert isinstance(limiter.take("request"), Slot)
    assert 180 <= clock.now() - begun <= 181
    limiter.close()


def test_waiting_ends_when_it_is_told_to(dsn: str) -> None:
    """A stop is obeyed at once, and leaves no slot behind."""
    clock, stop = SimClock(), threading.Event()
    fresh(dsn, clock)
    limiter = Pace(Connections(dsn), REALM, Limits(1, 1, 1, 1), clock)
    slot = limiter.take("request")
    assert isinstance(slot, Slot)
    limiter.settle(slot, ENTRY)
    stop.set()
    held = limiter.take("request", stop)
    assert isinstance(held, Held)
    assert held.verdict is Verdict.THROTTLED
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM rowtide.quickbooks_slot").fetchone() == (1,)
    limiter.close()
