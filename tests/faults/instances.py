"""An instance of a synthetic domain over an embedded log, and workers on it that can be killed."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
from contents import contents
from domains import TOPIC, History, Synthetic

from connectors.event import Decoder, Source, Truncate, encode_boundary, encode_change, encode_truncate
from connectors.log import Message
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine import instance
from consumers.engine.analysis import Analysis, analyse
from consumers.engine.engine import Engine
from consumers.engine.units import Unit
from consumers.worker import Worker


class Bench:
    """A database with a log and instances of one domain."""

    def __init__(self, dsn: str, domain: Synthetic, folder: Path) -> None:
        migrate(dsn)
        self.dsn = dsn
        self.domain = domain
        self.analysis: Analysis = analyse(load_domain(str(domain.write(folder))))
        self.log = EmbeddedLog(dsn)
        self.log.create_topic(TOPIC)

    def create(self, name: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            instance.create(connection, name, self.analysis)
            if self.domain.toml:
                connection.execute(f"INSERT INTO {name}_source.params VALUES (1, 'Europe/Berlin', 1)")

    def append(self, history: History, units: int) -> None:
        """Append so many transactions of the history, with their boundaries."""
        messages: list[Message] = []
        for _ in range(units):
            messages += self.messages(history.unit())
        self.log.append(TOPIC, messages)

    def messages(self, unit: Unit) -> list[Message]:
        tables = self.analysis.domain.mirror_tables
        name = f"{unit.changes[0].record.offset}" if unit.changes else "0"
        ts = unit.ts_ms or 0
        encoded: list[tuple[Any, bytes]] = [encode_boundary("BEGIN", name, ts)]
        for placed in unit.changes:
            event = placed.event
            source = Source("postgresql", "s", "d", "public", event.table, event.ts_ms)
            if isinstance(event, Truncate):
                encoded.append(encode_truncate(source=source))
            else:
                encoded.append(encode_change(tables[event.table], event.op, event.key, event.row, source=source))
        encoded.append(encode_boundary("END", name, ts))
        return [Message(key, value, ts) for key, value in encoded]

    def work(self, name: str, *, limit: int = 50, forever: bool = False) -> int:
        """Work the log off as a daemon does; returns the events applied."""
        log = EmbeddedLog(self.dsn)
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            epoch = instance.take_over(connection, name)
        with psycopg.connect(self.dsn) as connection:
            engine = Engine(connection, self.analysis, name, epoch)
            decoder = Decoder(self.analysis.domain.mirror_tables.values())
            worker = Worker(engine, log, decoder, [TOPIC], now_ms=lambda: 0, tick=lambda ms: None, limit=limit)
            worker.run(threading.Event(), until_idle=not forever)
        log.close()
        return worker.totals.events

    def fork(self, name: str, failpoint: str | None, limit: int) -> int:
        """A process that works until it is killed; its id."""
        child = os.fork()
        if child:
            return child
        try:
            if failpoint:
                os.environ["ROWTIDE_FAILPOINT"] = failpoint
            self.work(name, limit=limit, forever=True)
        finally:
            os._exit(1)

    def position(self, name: str) -> int:
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute("SELECT next_offset FROM rowtide.position WHERE instance = %s", [name]).fetchone()
        return row[0] if row else 0

    def contents(self, name: str) -> dict[str, Counter[Any]]:
        """Every model, history and kept table."""
        with psycopg.connect(self.dsn) as connection:
            return contents(connection, self.analysis, name)


def rng_for(name: str, seed: int) -> random.Random:
    return random.Random(f"{name}{seed}")
