"""What the stack's servers share: a folder, a process in it, and how both begin and end."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.stack.process import Process, ServerFailedError

Wait = Callable[[float], object]
_OFTEN = 0.1  # seconds between two looks at whether it is ready


def pause(seconds: float) -> None:
    """Let time pass."""
    threading.Event().wait(seconds)


class Server(ABC):
    """A server in a folder; a context manager that starts it, and in the end stops it and removes a temporary folder.

    What it keeps and where it listens stay over stop, kill and start.

    Args:
        folder: where it lives; a temporary one, which goes with it, where None.
        output: the name of the file that its output goes to.
        user: the account it runs as; None for our own.
        wait: how time passes between two looks at it, in seconds.
    """

    title = "The server"
    patience = 60.0  # seconds that a start may take

    def __init__(self, folder: Path | None, output: str, *, user: str | None = None, wait: Wait = pause) -> None:
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="rowtide-stack-")) if folder is None else folder
        self._output = self.folder / output
        self._process = Process(self._output, user=user)
        self._wait = wait

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers. Raises ServerFailedError."""

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.alive

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """Stop it as an operator would."""
        self._process.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()

    def restart(self) -> None:
        """Stop and start on the same data and ports."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self._process.pause()

    def resume(self) -> None:
        """End `pause`."""
        self._process.resume()

    def close(self) -> None:
        """End it, and remove the folder where it is temporary."""
        if self._temporary:
            self._process.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            self._process.stop()

    def _await(self, is_ready: Callable[[], bool]) -> None:
        """Wait until it is ready; where it ends or is not in time, kill it and raise ServerFailedError."""
        deadline = time.monotonic() + self.patience
        while not is_ready():
            ended = not self._process.alive
            if ended or time.monotonic() > deadline:
                said = self._process.tail()
                self._process.kill()
                what = "ended while starting" if ended else f"was not ready within {self.patience:.0f} s"
                raise ServerFailedError(f"{self.title} {what}: {said}", hint=f"See {self._output}.")
            self._wait(_OFTEN)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
