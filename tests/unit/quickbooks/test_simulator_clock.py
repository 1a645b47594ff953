"""Simulated time: it stands still while somebody works and jumps when everybody sleeps."""

from __future__ import annotations

import threading
import time

from connectors.quickbooks.simulator import SimClock, StuckClockError


def test_one_thread_never_waits() -> None:
    clock = SimClock(1000.0)
    begun = time.monotonic()
    clock.sleep(86_400)
    assert clock.now() == 87_400.0
    assert time.monotonic() - begun < 5


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    """An hour of three threads with different steps passes at once, and each sees its own moments."""
    clock = SimClock(0.0)
    seen: list[tuple[float, str]] = []

    def worker(name: str, step: float) -> None:
        while clock.now() < 3600:
            clock.sleep(step)
            seen.append((clock.now(), name))

    with clock.participant():
        threads = [clock.thread(lambda n=n, s=s: worker(n, s)) for n, s in (("a", 60), ("b", 90), ("c", 3600))]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
    assert [at for at, name in seen if name == "a"] == [60.0 * n for n in range(1, 61)]
    assert [at for at, name in seen if name == "b"] == [90.0 * n for n in range(1, 41)]


def test_time_waits_for_whoever_works() -> None:
    """A sleeper does not wake before a participant that works has gone to sleep, or has ended."""
    clock = SimClock(0.0)
    done = threading.Event()

    def sleeper() -> None:
        clock.sleep(10)
        done.set()

    with clock.participant():
        thread = clock.thread(sleeper)
        assert not done.wait(0.05)
        assert clock.now() == 0.0
    assert done.wait(10)
    assert clock.now() == 10.0
    thread.join(10)


def test_an_event_ends_a_sleep_and_time_does_not_run_ahead_of_it() -> None:
    """Whoever is woken goes on at the moment of the waking, though the one who woke it sleeps at once."""
    clock = SimClock(0.0)
    stop = threading.Event()
    woken: list[float] = []

    def sleeper() -> None:
        assert clock.wait(stop, 1000)
        woken.append(clock.now())
        clock.sleep(1)

    with clock.participant():
        thread = clock.thread(sleeper)
        clock.sleep(5)
        stop.set()
        clock.sleep(500)
    thread.join(10)
    assert woken == [5.0]
    assert clock.now() == 505.0


def test_blocked_lets_time_pass() -> None:
    clock = SimClock(0.0)
    with clock.participant():
        thread = clock.thread(lambda: clock.sleep(7))
        with clock.blocked():
            thread.join(10)
        assert not thread.is_alive()
        assert clock.now() == 7.0


def test_who_joins_goes_on_at_the_moment_of_the_others_end() -> None:
    """Time does not run ahead to others who sleep, between the end of the one and the waking of the other."""
    clock = SimClock(0.0)
    over = threading.Event()
    with clock.participant():
        other = clock.thread(lambda: clock.wait(over, 1000))
        thread = clock.thread(lambda: clock.sleep(7))
        with clock.joining(thread):
            thread.join(10)
        assert clock.now() == 7.0
        over.set()
    other.join(10)


def test_a_thread_that_died_holds_nothing() -> None:
    clock = SimClock(0.0)
    dead = threading.Thread(target=lambda: clock.participant().__enter__())
    dead.start()
    dead.join(10)
    clock.sleep(3)
    assert clock.now() == 3.0


def test_it_says_when_it_is_stuck() -> None:
    clock = SimClock(0.0, guard=0.05)
    with clock.participant():
        failed: list[StuckClockError] = []

        def sleeper() -> None:
            try:
                clock.sleep(1)
            except StuckClockError as error:
                failed.append(error)

        thread = threading.Thread(target=sleeper)
        thread.start()
        thread.join(10)
    assert len(failed) == 1
    assert "blocked()" in failed[0].hint


def test_patience_ends_a_standstill() -> None:
    clock = SimClock(0.0, patience=0.02)
    with clock.participant():
        thread = threading.Thread(target=lambda: clock.sleep(60))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert clock.now() == 60.0


def test_advance_wakes_those_whose_time_has_come() -> None:
    """Also while a participant works, which is how a test makes time pass by itself."""
    clock = SimClock(0.0)
    with clock.participant():
        thread = threading.Thread(target=lambda: clock.sleep(30))
        thread.start()
        clock.advance(29)
        thread.join(0.05)
        assert thread.is_alive()
        while thread.is_alive():  # it may not have begun to sleep before
            clock.advance(30)
            thread.join(0.05)
    assert clock.now() >= 30.0
