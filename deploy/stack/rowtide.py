"""Rowtide in a stack: the daemon as a process, and its commands, with nothing but the stack's settings."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.stack.process import ServerFailedError
from deploy.stack.server import Server

_COMMAND = 300


class Rowtide(Server):
    """The daemon and its commands.

    Args:
        folder: where its output and the script `rowtide` go.
        settings: environment variables; those of ours that this process has are not passed on.
        page: address of its page.
    """

    title = "Rowtide"
    patience = 120.0  # the first start makes all tables

    def __init__(self, folder: Path, settings: Mapping[str, str], page: str) -> None:
        super().__init__(folder, "rowtide.log")
        self.settings = dict(settings)
        self.page = page
        self.script = folder / "rowtide"

    def command(self, *arguments: str) -> list[str]:
        """A command line of `rowtide` with these settings alone."""
        foreign = [name for name in os.environ if name.startswith("ROWTIDE_")]
        clean = [part for name in sorted(foreign) for part in ("-u", name)]
        given = [f"{name}={value}" for name, value in self.settings.items()]
        program = Path(sys.executable).with_name("rowtide")
        return ["/usr/bin/env", *clean, *given, str(program), *arguments]

    def write_script(self) -> None:
        """Leave a script that runs any command with these settings: they hold paths, no secrets."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.script.write_text(f'#!/bin/sh\nexec {shlex.join(self.command())} "$@"\n')
        self.script.chmod(0o755)

    def run(self, *arguments: str, timeout: float = _COMMAND) -> str:
        """Run a command; returns what it printed. Raises ServerFailedError with its last lines where it fails."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False, cwd=self.folder
        )
        if done.returncode != 0:
            reason = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise ServerFailedError(
                f"`rowtide {' '.join(arguments)}` failed: {reason}", hint=f"See the logs in {self.folder}."
            )
        return done.stdout

    def ask(self, *arguments: str, timeout: float = _COMMAND) -> Any:
        """Run a command that prints JSON, also where it exits 1 for what it found."""
        done = subprocess.run(
            self.command(*arguments, "--json"), capture_output=True, text=True, timeout=timeout, check=False
        )
        lines = done.stdout.strip().splitlines()
        if done.returncode not in (0, 1) or not lines:
            reason = " | ".join(done.stderr.strip().splitlines()[-3:])
            raise ServerFailedError(f"`rowtide {' '.join(arguments)}` failed: {reason}", hint="Try it by hand.")
        return json.loads(lines[-1])

    def start(self) -> None:
        """Start the daemon and wait until it works. Raises ServerFailedError."""
        self._process.start(self.command("run"), folder=self.folder)
        self._await(self._is_ready)

    def status(self) -> dict[str, Any]:
        """What its page tells. Raises OSError where it does not answer."""
        with urllib.request.urlopen(f"{self.page}/status", timeout=10) as answer:  # noqa: S310 - our own loopback
            found: dict[str, Any] = json.load(answer)
        return found

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.page}/ready", timeout=10) as answer:  # noqa: S310 - our own loopback
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException, urllib.error.URLError):
            return False
