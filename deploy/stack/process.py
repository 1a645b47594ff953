"""A server as a child process: started, stopped, killed, paused, and never left behind."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from connectors.errors import RowtideError


class ServerFailedError(RowtideError):
    """A server of the stack did not start, or ended by itself."""


class Process:
    """One server process; its output goes to a file.

    A companion that waits at the end of a pipe kills the server when this process ends, however it ends.

    Args:
        output: the file the server's output is appended to.
        user: the account to run as (needs root); None for our own.
    """

    def __init__(self, output: Path, *, user: str | None = None) -> None:
        self._output = output
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._companion: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: Path) -> None:
        """Start the command in `folder`, in a session of its own, so that Ctrl-C does not reach it."""
        if self.alive:
            return
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ, **(environment or {})),
                cwd=folder,
                start_new_session=True,
                user=self._user,
                extra_groups=[] if self._user else None,
            )
        self._companion = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -9 "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether the server's process runs (or is paused)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id. Raises ServerFailedError where it was never started."""
        if self._process is None:
            raise ServerFailedError("The server was not started.", hint="Call start() first.")
        return self._process.pid

    def stop(self, timeout: float = 30) -> None:
        """Ask the server to end and wait; after `timeout` seconds kill it."""
        if self._process is None:
            return
        if self.alive:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._gone()

    def kill(self) -> None:
        """End the server as a power cut would: SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._gone()

    def pause(self) -> None:
        """SIGSTOP: the server neither answers nor closes its connections."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def tail(self, lines: int = 5) -> str:
        """The last lines of the output, joined by bars."""
        if not self._output.exists():
            return ""
        return " | ".join(self._output.read_text(errors="replace").strip().splitlines()[-lines:])

    def _gone(self) -> None:
        """Reap both; the companion first, for the process id must not name another process when it acts."""
        if self._companion is not None:
            self._companion.kill()
            self._companion.wait()
            if self._companion.stdin is not None:
                self._companion.stdin.close()
            self._companion = None
        if self._process is not None:
            self._process.wait()
            self._process = None


def free_port() -> int:
    """A free loopback port below those the system gives to clients, so that it is still free after a restart."""
    for _ in range(200):
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailedError("No free port was found on the loopback interface.", hint="See `ss -ltn`.")
