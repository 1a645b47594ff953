"""What goes ahead of the mirror's answer: fewer turns to the server, and errors where they belong all the same."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from contents import contents
from domains import TOPIC, domain_named
from random_batches import assert_clean, create

from bench.shop import Scale, Shop, Transaction
from bench.stage import TOPIC as SHOP
from bench.stage import Stage
from connectors.event import Change
from connectors.log import Record
from connectors.pipe import Pipe
from consumers.domain import load_domain
from consumers.engine.analysis import Analysis, analyse
from consumers.engine.engine import Engine
from consumers.engine.running import ModelFailedError
from consumers.engine.units import Unit


@pytest.fixture
def analysis(tmp_path: Path) -> Analysis:
    return analyse(load_domain(str(domain_named("ahead").write(tmp_path))))


@pytest.fixture
def engine(connection: psycopg.Connection[Any], analysis: Analysis) -> Engine:
    made = create(connection, analysis, "ahead")
    connection.execute("INSERT INTO params VALUES (1, 'UTC', 1)")
    connection.commit()
    return made


def node(number: int, *row: str | None) -> Unit:
    unit = Unit()
    unit.add(
        Record(TOPIC, 0, number, 1_700_000_000_000, b"", b""),
        Change("node", "u", (str(row[0]),), row, 1_700_000_000_000),
    )
    return unit


def test_what_the_mirror_refuses_is_parked(
    engine: Engine, connection: psycopg.Connection[Any], analysis: Analysis, database: str
) -> None:
    """Though a sum over the column is asked before the mirror: not the model is at fault."""
    assert engine.apply([node(0, "1", "1", "x", "3", "1.50")]).parked == 0
    with psycopg.connect(database, autocommit=True) as reader:
        before = contents(reader, analysis, "ahead")
        assert engine.apply([node(1, "1", "1", "x", "4", "99999.99")]).parked == 1
        assert contents(reader, analysis, "ahead") == before
        (reason,) = reader.execute("SELECT reason FROM rowtide.parked_event").fetchone() or ("",)
        assert "the table node refuses it: NumericValueOutOfRange" in reason
        assert engine.apply([node(2, "1", "2", "x", "4", "2.25")]).parked == 0
        assert_clean(reader, analysis, "ahead", "")
        assert contents(reader, analysis, "ahead") != before


def test_a_model_that_fails_is_named(engine: Engine, connection: psycopg.Connection[Any], analysis: Analysis) -> None:
    """One that goes with the mirror's write too; nothing of the batch is kept."""
    engine.apply([node(0, "1", "1", "x", "3", "1.50")])
    with pytest.raises(ModelFailedError, match="The model doubled failed: integer out of range"):
        engine.apply([node(1, "1", "1", "x", "2000000000", "1.50")])
    assert engine.apply([node(1, "1", "1", "x", "5", "1.50")]).events == 1
    assert_clean(connection, analysis, "ahead", "")


def test_a_change_takes_few_turns(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change in the rental domain is committed after so many turns to the server, however deep its models stand."""
    turns: list[int] = []
    send = Pipe._send

    def counted(pipe: Pipe, statements: list[Any]) -> None:
        if threading.current_thread().name == "worker":
            turns[-1] += 1
        send(pipe, statements)

    stage = Stage(database)
    stage.create()
    shop = Shop(Scale.of(300), seed=3)
    stage.append_history(shop)
    stage.work_off()
    monkeypatch.setattr(Pipe, "_send", counted)
    found: dict[tuple[str, str], list[int]] = {}
    committed, stop = threading.Semaphore(0), threading.Event()
    with stage.engine() as (engine, _):
        worker = stage.worker(engine, on_batch=lambda _: committed.release())
        turns.append(0)
        thread = threading.Thread(target=worker.run, args=(stop,), name="worker")
        thread.start()
        for transaction in islice(shop.traffic(), 150):
            for write in transaction.writes:
                turns.append(0)
                stage.log.append(SHOP, list(stage.encoder.transaction(Transaction(transaction.ts_ms, [write]))))
                assert committed.acquire(timeout=30)
                found.setdefault((write.table, write.op), []).append(turns[-1])
        stop.set()
        thread.join(30)
    stage.close()
    usual = {what: sorted(counts)[len(counts) // 2] for what, counts in found.items() if len(counts) > 10}
    assert usual[("rental", "c")] <= 3
    assert usual[("rental", "u")] <= 3
    assert usual[("payment", "c")] <= 2
