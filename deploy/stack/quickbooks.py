"""The simulator of QuickBooks Online in a stack."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from deploy.stack.process import Process, ServerFailedError

_START = 60  # seconds


class QuickBooks:
    """The simulator as a process.

    Args:
        folder: where its output goes.
        command: how it is run.
        address: where it listens, e.g. http://127.0.0.1:8473.
    """

    def __init__(self, folder: Path, command: Sequence[str], address: str) -> None:
        self._folder = folder
        self._command = command
        self._address = address
        self._process = Process(folder / "quickbooks.log")

    def start(self) -> None:
        """Start it and wait until it answers. Raises ServerFailedError."""
        self._process.start(self._command, folder=self._folder)
        deadline = time.monotonic() + _START
        while not self._is_well():
            if not self._process.alive or time.monotonic() > deadline:
                raise ServerFailedError(
                    f"The simulator of QuickBooks did not start: {self._process.tail(3)}",
                    hint=f"See {self._folder / 'quickbooks.log'}.",
                )
            time.sleep(0.1)

    def _is_well(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/control/health", timeout=5) as answer:  # noqa: S310 - our own
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.alive

    def stop(self) -> None:
        """End it."""
        self._process.stop()
