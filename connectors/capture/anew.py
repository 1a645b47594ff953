"""Asking for a new snapshot: a note in the stored position, which the capture finds when it begins.

The note goes through the same comparison as a capture's append: a capture that is running finds another position than
its own, stops, and begins again where it sees the note.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.log import FencedError, Log

_ATTEMPTS = 20  # a capture that appends at that moment moves the position


def ask_for_snapshot(log: Log, topic: str, tables: Sequence[str] | None = None) -> bool:
    """Have the tables read anew, all where None, in place of what the topic has of them.

    Of single tables the capture goes on with the others meanwhile, which needs the source's log from where it stands.
    Returns False where no snapshot was ever begun: the first one reads everything. Raises UnknownTopicError, and
    FencedError where a capture does not let the note in.
    """
    for attempt in range(_ATTEMPTS):
        stored = log.source_position(topic)
        if stored is None and tables is not None:
            return False
        try:
            log.append(topic, [], source_position=_noted(stored, tables), expect=stored)
        except FencedError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return True
    return True


def _noted(stored: str | None, tables: Sequence[str] | None) -> str:
    """The position with the note in it: both kinds of capture know it by these names."""
    position: dict[str, Any] = {} if stored is None else msgspec.json.decode(stored)
    if tables is None or position.get("phase") == "anew":
        return msgspec.json.encode({**position, "phase": "anew"}).decode()
    wanted = list(dict.fromkeys([*position.get("wanted", ()), *tables]))
    return msgspec.json.encode({**position, "wanted": wanted}).decode()
