"""What the oracles of the domains share."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.pipe import Pipe


@pytest.fixture(autouse=True)
def nothing_is_written_behind_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit goes with the last statements. One that were given behind it would be right in the end, but torn off."""
    send, committed = Pipe.later, set[int]()

    def later(pipe: Pipe, sql: str, *args: Any, **named: Any) -> None:
        if sql in ("BEGIN", "COMMIT"):
            (committed.add if sql == "COMMIT" else committed.discard)(id(pipe))
        else:
            written = sql.lstrip().startswith(("WITH", "INSERT", "UPDATE", "DELETE"))
            assert not (written and id(pipe) in committed), f"behind the commit: {sql[:80]}"
        send(pipe, sql, *args, **named)

    monkeypatch.setattr(Pipe, "later", later)
