"""Child processes that die: by themselves at a failpoint, or killed."""

from __future__ import annotations

import os
import select
import signal


def wait_or_kill(child: int, seconds: float) -> None:
    """Wait for a process's own death at its failpoint, or kill it when the time is over."""
    handle = os.pidfd_open(child)
    try:
        if not select.select([handle], [], [], seconds)[0]:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(handle)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the process ended by itself"
    assert os.WTERMSIG(status) == signal.SIGKILL
