"""Ctrl-C in the middle of a batch is what it is, not the loss of the database that it leads to."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import psycopg
import pytest
from contents import contents
from domains import History, domain_named
from random_batches import create

from connectors import pipe as pipes
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine.analysis import analyse


@pytest.mark.parametrize("answers", [1, 2])
def test_an_interrupt_comes_out_as_one(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, answers: int
) -> None:
    """While the engine waits for an answer of the server, the first of a batch or a later one; nothing of it is kept."""
    domain = domain_named("aggregates")
    analysis = analyse(load_domain(str(domain.write(tmp_path))))
    migrate(database)
    history = History(domain, random.Random(seed))
    wait, left = pipes._answers, [answers]

    def interrupted(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return wait(*arguments)

    with psycopg.connect(database) as connection, psycopg.connect(database, autocommit=True) as reader:
        engine = create(connection, analysis, domain.name)
        engine.apply([history.unit() for _ in range(20)])
        before = contents(reader, analysis, domain.name)
        units = [history.unit() for _ in range(20)]
        monkeypatch.setattr(pipes, "_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.apply(units)
        assert connection.closed
        assert contents(reader, analysis, domain.name) == before
