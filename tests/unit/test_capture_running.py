"""What is tried again and what is told while a source is away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import structlog

from connectors.capture.running import CaptureStoppedError, Progress, Reporter, SourceUnavailableError, keep_running


class Script:
    """A capture whose attempts end as written: an error, or None for an end in peace."""

    def __init__(self, *attempts: tuple[bool, float, Exception | None]) -> None:
        self.attempts = list(attempts)
        self.now = 0.0
        self.pauses: list[float] = []

    def once(self, connected: Callable[[], None]) -> None:
        connects, seconds, error = self.attempts.pop(0)
        if connects:
            connected()
        self.now += seconds
        if error is not None:
            raise error

    def run(self, stop: threading.Event | None = None) -> list[str]:
        with structlog.testing.capture_logs() as lines:
            keep_running(
                self.once, stop or threading.Event(), source="s", wait=self.pauses.append, clock=lambda: self.now
            )
        return [f"{line['event']} {line.get('reason', '')}".strip() for line in lines]


def gone(reason: str = "no route") -> SourceUnavailableError:
    return SourceUnavailableError(reason)


def test_one_line_for_each_change_of_state() -> None:
    """The same reason is told once, another reason again, the return once."""
    script = Script(
        (False, 0, gone("a")), (False, 0, gone("a")), (False, 0, gone("b")), (True, 0, gone("a")), (True, 0, None)
    )
    assert script.run() == [
        "capture.reconnecting a",
        "capture.reconnecting b",
        "capture.connected",
        "capture.reconnecting a",
        "capture.connected",
    ]


def test_pauses_double_to_a_bound() -> None:
    """From a tenth of a second to ten; an attempt that takes long to fail counts as no connection."""
    script = Script(*[(False, 60.0, gone())] * 9, (True, 0, None))
    script.run()
    assert script.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_steady_connection_begins_anew() -> None:
    """Who was connected for ten seconds is tried again at once; who flaps is not."""
    script = Script(
        (True, 1, gone()), (True, 1, gone()), (True, 1, gone()), (True, 10, gone()), (True, 1, gone()), (True, 0, None)
    )
    script.run()
    assert script.pauses == [0.1, 0.2, 0.4, 0.1, 0.2]


def test_a_stop_ends_the_trying() -> None:
    """Nothing is tried once the stop is set."""
    stop = threading.Event()
    stop.set()
    script = Script((True, 0, None))
    assert script.run(stop) == []
    assert len(script.attempts) == 1


def test_what_a_person_has_to_mend_is_raised() -> None:
    """Everything but an unavailable source ends the trying."""
    for error in (CaptureStoppedError("no table"), ValueError("a fault of ours")):
        script = Script((True, 0, error))
        with pytest.raises(type(error)):
            script.run()
        assert script.pauses == []


def test_progress_is_told_at_each_portion_and_logged_now_and_then() -> None:
    """Every portion to the caller, a line every five seconds, one at the end; never more rows than estimated."""
    now = [0.0]
    steps: list[Progress] = []
    with structlog.testing.capture_logs() as lines:
        reporter = Reporter("s", steps.append, clock=lambda: now[0])
        for number in range(1, 5):
            now[0] += 2
            reporter.advanced("item", number * 100, 250)
        reporter.completed("item", 400)
    assert [(step.rows, step.estimate) for step in steps] == [
        (100, 250),
        (200, 250),
        (300, 300),
        (400, 400),
        (400, 400),
    ]
    assert [line["event"] for line in lines] == ["snapshot.progressed", "snapshot.table_read"]
    assert lines[0]["rows"] == 300
