"""Named places where the fault tests kill the process: ROWTIDE_FAILPOINT=name:count dies at the count-th pass.

Each stands where a crash is most telling: between two effects that must come true together.
"""

from __future__ import annotations

import os
import signal

_passes: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Pass a named place; die there if the environment asks for it."""
    wanted = os.environ.get("ROWTIDE_FAILPOINT")
    if not wanted:
        return
    point, _, count = wanted.partition(":")
    if point == name:
        _passes[name] = _passes.get(name, 0) + 1
        if _passes[name] >= int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
