"""Every check, query and report of the rental domain runs, on an empty and on a full shop."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.domain import load_domain
from daemon.app import App
from daemon.times import BusinessTime


def test_there_are_enough_queries_with_titles() -> None:
    """An operator finds at least 25 queries, each with a title."""
    queries = load_domain("rental").queries
    assert len(queries) >= 25
    assert [name for name, file in queries.items() if not file.header.get("title")] == []


@pytest.mark.parametrize("kind", ["queries", "checks"])
def test_every_file_runs(rental: App, kind: str) -> None:
    """Each SELECT runs as written, with its default parameters."""
    files = getattr(rental.domain, kind)
    for file in files.values():
        defaults = dict(part.split("=", 1) for part in file.header.get("parameters", "").split())
        table = rental.query(file.title, file.sql, defaults)
        assert table.columns != [], file.name


def test_every_report_runs(rental: App) -> None:
    """Each report has sections, and the totals come first."""
    for name in rental.domain.reports:
        assert len(rental.report(name)) >= 2, name


@pytest.fixture
def rental(database: str, tmp_path: Path) -> App:
    from connectors.state import migrate
    from daemon.settings import Settings

    migrate(database)
    app = App(Settings(), database, load_domain("rental"), BusinessTime())
    app.init()
    return app
