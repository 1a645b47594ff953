"""The oracle: random histories, random batch cuts, duplicates and restarts; every model equals its own full query."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from contents import contents
from domains import DOMAINS, History, Synthetic

from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine import schema
from consumers.engine.analysis import Analysis, analyse
from consumers.engine.engine import Engine
from consumers.engine.units import Unit
from consumers.engine.verify import verify


@pytest.fixture(params=DOMAINS, ids=lambda domain: domain.name)
def domain(request: pytest.FixtureRequest) -> Synthetic:
    return request.param


@pytest.fixture
def analysis(domain: Synthetic, tmp_path: Path) -> Analysis:
    return analyse(load_domain(str(domain.write(tmp_path))))


@pytest.fixture
def connections(database: str) -> Iterator[list[psycopg.Connection[Any]]]:
    migrate(database)
    opened = [psycopg.connect(database) for _ in range(3)]
    yield opened
    for connection in opened:
        connection.close()


def instance(connection: psycopg.Connection[Any], analysis: Analysis, domain: Synthetic, name: str) -> None:
    with connection.transaction():
        schema.create(connection, name, analysis)
        connection.execute("INSERT INTO rowtide.instance (name, domain, epoch) VALUES (%s, %s, 1)", [name, domain.name])
        if domain.toml:
            connection.execute("INSERT INTO params VALUES (1, 'Europe/Berlin', 1)")


def test_models_equal_their_queries_after_every_batch(
    domain: Synthetic, analysis: Analysis, connections: list[psycopg.Connection[Any]], batches: int, seed: int
) -> None:
    """After every batch, however cut, with duplicates and restarts, each model equals its own full query."""
    writer, _, reader = connections
    print(f"seed {seed}")
    rng = random.Random(f"{domain.name}{seed}")
    instance(writer, analysis, domain, domain.name)
    engine = Engine(writer, analysis, domain.name, 1)
    history, before = History(domain, rng), [Unit()]
    applied = 0
    for number in range(batches):
        batch = [history.unit() for _ in range(rng.choice([1, 1, 2, 5, 30]))]
        again = rng.random() < 0.2
        applied += engine.apply(before + batch if again else batch).units
        checks = verify(reader, analysis, domain.name)
        assert [check for check in checks if not check.clean] == [], f"seed {seed}, batch {number}"
        before = batch
        if rng.random() < 0.05:
            engine = Engine(writer, analysis, domain.name, 1)
    assert applied >= batches


def test_history_is_the_same_however_batches_are_cut(
    domain: Synthetic, analysis: Analysis, connections: list[psycopg.Connection[Any]], seed: int
) -> None:
    """One unit at a time, random cuts, and everything at once leave the same models, histories and kept rows."""
    _writer, other, reader = connections
    rng = random.Random(f"{domain.name}{seed}")
    history = History(domain, rng)
    units = [history.unit() for _ in range(250)]
    cuts = {"single": [1], "random": [1, 3, 17, 60], "whole": [len(units)]}
    results = {}
    for name, sizes in cuts.items():
        instance(other, analysis, domain, name)
        engine = Engine(other, analysis, name, 1)
        rest = units
        while rest:
            size = rng.choice(sizes)
            engine.apply(rest[:size])
            rest = rest[size:]
        engine.advance(history.now * 1_000_000 + 5 * 86400 * 1_000_000)
        results[name] = contents(reader, analysis, name)
        assert [check for check in verify(reader, analysis, name) if not check.clean] == []
    for table in results["single"]:
        assert results["single"][table] == results["random"][table] == results["whole"][table], f"{table}, seed {seed}"
    if domain.name == "clocked":
        assert len(results["single"]["job_status_history"]) > 100
        assert len(results["single"]["days"]) > 10


def test_verify_finds_what_was_tampered_with(
    domain: Synthetic, analysis: Analysis, connections: list[psycopg.Connection[Any]], seed: int
) -> None:
    """A row deleted, added or changed behind the engine's back is counted as missing, unexpected or different."""
    writer, tamper, reader = connections
    instance(writer, analysis, domain, domain.name)
    engine = Engine(writer, analysis, domain.name, 1)
    history = History(domain, random.Random(seed))

    def count(model: Any, what: str) -> int:
        return tamper.execute(f'SELECT {what} FROM "{domain.name}"."{model.name}"').fetchone()[0]

    filled = 0
    while filled < 3:  # a truncation may have emptied the tables just now
        engine.apply([history.unit() for _ in range(60)])
        model = max(analysis.models, key=lambda m: count(m, "count(*)") if len(m.outputs) > len(m.file.key) else 0)
        others = [name for name in model.outputs if name not in model.file.key]
        column = max(others, key=lambda name: count(model, f'count("{name}")'))
        filled = count(model, f'count("{column}")')
        tamper.commit()
    table = f'"{domain.name}"."{model.name}"'
    rows = count(model, "count(*)")
    tamper.execute(f"DELETE FROM {table} WHERE ctid = (SELECT min(ctid) FROM {table})")
    changed = tamper.execute(f'UPDATE {table} SET "{column}" = NULL WHERE "{column}" IS NOT NULL').rowcount
    tamper.commit()
    check = next(c for c in verify(reader, analysis, domain.name) if c.name == model.name)
    assert (check.rows, check.missing, check.unexpected, check.different) == (rows - 1, 1, 0, changed)
