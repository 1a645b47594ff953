"""What a replay is asked for, what it tells while it runs, and how it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from connectors.errors import RowtideError
from consumers.worker import BatchStats

EARLIEST = "earliest"


class ReplayRefusedError(RowtideError):
    """The replay cannot leave what the log says, so it is not done; the live tables are as they were."""


class Progress(NamedTuple):
    """How far a replay is: events (offsets of the log) or tables done, of so many."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Request:
    """What a replay is asked for.

    Args:
        origin: `earliest`, a moment in ISO 8601, or the path of a file of positions.
        apply: whether to swap at the end.
        restart: whether to begin anew although an interrupted replay could be gone on with.
        compares: whether to tell what changes.
    """

    origin: str = EARLIEST
    apply: bool = False
    restart: bool = False
    compares: bool = True
    on_progress: Callable[[Progress], None] | None = None
    on_batch: Callable[[BatchStats], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
