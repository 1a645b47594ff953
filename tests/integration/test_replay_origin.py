"""Whether the log still has what the tables have taken in, asked while both go on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from domain_folder import write_domain

from connectors.event import Source, encode_change
from connectors.log import Extent, Message, TopicPartition
from connectors.state import migrate
from consumers.domain import load_domain
from daemon.app import App
from daemon.replay_origin import require_whole_history
from daemon.settings import Settings
from daemon.times import BusinessTime

TOPIC = "shop"


def test_what_comes_meanwhile_is_no_gap(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that has taken in more than the log had when it was asked for its end is no sign of a log cut off."""
    source, models = (
        "CREATE TABLE item (id integer PRIMARY KEY, n integer);",
        {"twice": "-- key: id\nSELECT id, n * 2 AS n FROM item"},
    )
    folder = write_domain(tmp_path / "shop", source, models, toml=f'[source]\ntopics = ["{TOPIC}"]\n')
    domain = load_domain(str(folder))
    migrate(database)
    app = App(Settings(), database, domain, BusinessTime())
    app.init()
    ask, asked = app.log.extents, []

    def work(number: int) -> None:
        told = Source("postgresql", "s", "d", "public", "item", 1000 * number)
        row = (str(number), "1")
        app.log.append(
            TOPIC,
            [Message(*encode_change(domain.mirror_tables["item"], "c", row[:1], row, source=told), 1000 * number)],
        )
        app.run(threading.Event(), until_idle=True)

    def extents(topics: Iterable[str]) -> Mapping[TopicPartition, Extent]:
        found = ask(topics)
        if len(asked) < 3:
            asked.append(found)
            work(len(asked) + 1)
        return found

    work(1)
    monkeypatch.setattr(app.log, "extents", extents)
    assert require_whole_history(app) == {}
    assert asked
    app.close()
