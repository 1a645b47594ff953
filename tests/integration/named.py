"""A domain's queries and checks, as an operator runs them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daemon.app import App


def answer(app: App, name: str) -> list[Any]:
    """The rows of a query with its default parameters."""
    file = app.named("queries", name)
    defaults = dict(part.split("=", 1) for part in file.header.get("parameters", "").split())
    return app.query(file.title, file.sql, defaults).rows


def found(app: App, *names: str) -> dict[str, list[Any]]:
    """The first column of what each check finds, or each of these, for those that find anything."""
    checks = {name: app.domain.checks[name] for name in names or app.domain.checks}
    results = {name: app.query(file.title, file.sql).rows for name, file in checks.items()}
    return {name: sorted(row[0] for row in rows) for name, rows in results.items() if rows}


def found_amiss(live: Any, app: App, at: str, offend: Callable[[Any], object], name: str) -> list[Any]:
    """What a check finds at a moment in what offends; then that is put right, and no check finds anything."""
    kept = live.kept()
    offend(live)
    live.at(at)
    rows = found(app, name).get(name, [])
    live.restore(kept)
    live.at(at)
    assert found(app) == {}
    return rows
