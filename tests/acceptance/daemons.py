"""Daemons as processes of their own, watched by their log lines: nothing here sleeps."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds; the machine may be busy with other tests


class Daemon:
    """`rowtide …` in a process; its log lines (JSON on stderr) can be waited for."""

    def __init__(self, arguments: list[object], environment: dict[str, str], cwd: Path) -> None:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("ROWTIDE_", "PYTHON"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "daemon", *map(str, arguments)],
            cwd=cwd,
            env={**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **environment},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            with contextlib.suppress(json.JSONDecodeError):
                self._events.put(json.loads(line))
        self._events.put(None)

    def wait_for(self, name: str, patience: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """The next event of this name and these fields."""
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            try:
                event = self._events.get(timeout=left)
            except queue.Empty:
                break
            if event is None:
                break
            if event.get("event") == name and all(event.get(k) == v for k, v in fields.items()):
                return event
        raise AssertionError(f"no {name} {fields} among:\n{''.join(self.lines)}")

    def seen(self, name: str) -> list[dict[str, Any]]:
        """All events of this name so far, whether waited for or not."""
        found = []
        for line in list(self.lines):
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if event.get("event") == name:
                    found.append(event)
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, within: float = 5.0) -> int:
        """SIGTERM; the exit code. Raises where it takes longer."""
        self.signal(signal.SIGTERM)
        return self.ended(within)

    def ended(self, within: float = PATIENCE) -> int:
        code = self.process.wait(within)
        self._reader.join(5)
        return code

    def output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Daemons:
    """Starts daemons with one environment, and leaves none behind."""

    def __init__(self, environment: dict[str, str], cwd: Path) -> None:
        self.environment = environment
        self._cwd = cwd
        self._started: list[Daemon] = []

    def __call__(self, *arguments: object, **extra: str) -> Daemon:
        daemon = Daemon(list(arguments), {**self.environment, **extra}, self._cwd)
        self._started.append(daemon)
        return daemon

    def end(self) -> None:
        """Leave none behind; their last lines are shown where the test fails."""
        for number, daemon in enumerate(self._started):
            daemon.kill()
            print(f"--- daemon {number}, the last of {len(daemon.lines)} lines:", *daemon.lines[-60:], sep="\n")


def until(condition: Callable[[], Any], patience: float = PATIENCE, every: float = 0.1) -> Any:
    """What the condition returns once it is true."""
    end = time.monotonic() + patience
    pause = threading.Event()
    while time.monotonic() < end:
        if found := condition():
            return found
        pause.wait(every)
    raise AssertionError("it did not come true in time")


@contextlib.contextmanager
def daemons(environment: dict[str, str], cwd: Path) -> Iterator[Daemons]:
    starting = Daemons({"ROWTIDE_LOG_FORMAT": "json", "ROWTIDE_WEB__ENABLED": "false", **environment}, cwd)
    try:
        yield starting
    finally:
        starting.end()
