"""The simulator of QuickBooks Online in a stack."""

from __future__ import annotations

import urllib.request
from collections.abc import Sequence
from pathlib import Path

from deploy.stack.server import Server


class QuickBooks(Server):
    """The simulator as a process.

    Args:
        folder: where its output goes.
        command: how it is run.
        address: where it listens, e.g. http://127.0.0.1:8473.
    """

    title = "The simulator of QuickBooks"

    def __init__(self, folder: Path, command: Sequence[str], address: str) -> None:
        super().__init__(folder, "quickbooks.log")
        self._command = command
        self._address = address

    def start(self) -> None:
        """Start it and wait until it answers. Raises ServerFailedError."""
        self._process.start(self._command, folder=self.folder)
        self._await(self._is_well)

    def _is_well(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/control/health", timeout=5) as answer:  # noqa: S310 - our own
                return bool(answer.status == 200)
        except OSError:
            return False
