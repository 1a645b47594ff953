"""Where requests that push wait for it: in threads of their own, so that page and API answer meanwhile.

Nothing depends on the client's staying: what was begun is ended as the lane does it, and told to the next who asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

from daemon.api.errors import BusyError

AT_ONCE = 4  # pushes; they share one pace, so more of them would only wait for each other

T = TypeVar("T")


class Desk:
    """Runs pushes, a few at once. Used from one event loop.

    Args:
        stop: set where the process ends; a push then ends after what it has sent.
    """

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self._running = 0

    async def run(self, push: Callable[[threading.Event], T]) -> T:
        """Push in a thread. Raises BusyError where as many push as may."""
        if self._running >= AT_ONCE:
            raise BusyError(f"{AT_ONCE} requests push already.", hint="Ask again when one has ended.")
        self._running += 1
        try:
            # A limiter of its own: a push that takes minutes must not take the threads that the page is made in.
            return await anyio.to_thread.run_sync(push, self.stop, limiter=anyio.CapacityLimiter(1))
        finally:
            self._running -= 1
