"""The stage of a benchmark: a PostgreSQL of its own, the rental domain in it, a log, a worker at hand."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import psycopg

from bench.shop import START, Encoder, Shop
from connectors.embedded import EmbeddedPostgres
from connectors.event import Decoder
from connectors.log import Log, Message, TopicPartition
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine import instance, schema
from consumers.engine.analysis import Analysis, analyse
from consumers.engine.engine import Engine
from consumers.engine.relations import schemas
from consumers.worker import BatchStats, Worker

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
TOPIC = "dvdrental"
_DEEP = (
    """INSERT INTO rental
    SELECT n, at, n %% %(items)s::integer + 1, n %% %(customers)s::integer + 1,
           at + CASE WHEN n %% 3 = 0 THEN interval '9 days' ELSE interval '1 day' END, 1
      FROM generate_series(1, %(deep)s::integer) AS n,
           LATERAL (SELECT %(start)s::timestamp - (200 + n %% 1000) * interval '1 day' AS at) AS t""",
    """INSERT INTO payment
    SELECT rental_id, customer_id, 1, rental_id, CASE WHEN rental_id %% 2 = 0 THEN 4.99 ELSE 12.49 END, return_date
      FROM rental WHERE rental_id <= %(deep)s::integer""",
)
PLACE = TopicPartition(TOPIC, 0)


@contextmanager
def postgres() -> Iterator[EmbeddedPostgres]:
    """An embedded PostgreSQL as the product sets it up, in a temporary folder that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="rowtide-bench-"))
    try:
        with EmbeddedPostgres(folder / "pg") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Stage:
    """The rental domain in a database of its own.

    Args:
        dsn: of an empty database.
        name: of the instance.
    """

    def __init__(self, dsn: str, name: str = "rental") -> None:
        migrate(dsn)
        self.dsn = dsn
        self.name = name
        self.analysis: Analysis = analyse(load_domain("rental"))
        self.tables = self.analysis.domain.mirror_tables
        self.log = EmbeddedLog(dsn)
        self.log.create_topic(TOPIC)
        self.encoder = Encoder(self.tables)

    def create(self) -> None:
        """Make the instance, with the parameters' defaults."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            instance.create(connection, self.name, self.analysis)
            schema.use(connection, self.name)
            defaults = [parameter.default for parameter in self.analysis.domain.parameters]
            marks = ", ".join(["1", *(["%s"] * len(defaults))])
            connection.execute(f"INSERT INTO params VALUES ({marks})", defaults)

    def decoder(self) -> Decoder:
        """A decoder for the domain's tables."""
        return Decoder(self.tables.values())

    @contextmanager
    def engine(self) -> Iterator[tuple[Engine, Connection]]:
        """An engine that has taken the instance over, and its connection."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            epoch = instance.take_over(connection, self.name)
        with psycopg.connect(self.dsn) as connection:
            yield Engine(connection, self.analysis, self.name, epoch), connection

    def worker(
        self,
        engine: Engine,
        *,
        log: Log | None = None,
        limit: int = 5_000,
        on_batch: Callable[[BatchStats], None] | None = None,
    ) -> Worker:
        """A worker as the daemon runs it, except that no time passes by itself."""
        return Worker(
            engine,
            log or self.log,
            self.decoder(),
            [TOPIC],
            now_ms=_shop_time,
            tick=_no_tick,
            limit=limit,
            on_batch=on_batch,
        )

    def work_off(self, *, limit: int = 5_000) -> int:
        """Work off what the log holds. Returns the events applied."""
        with self.engine() as (engine, _):
            worker = self.worker(engine, limit=limit)
            worker.run(threading.Event(), until_idle=True)
            return worker.totals.events

    def append_history(self, shop: Shop) -> None:
        """The shop's past as a snapshot."""
        self.log.append(TOPIC, self.encoder.snapshot(shop.history(), shop.start))

    def append_traffic(self, shop: Shop, events: int) -> tuple[int, int]:
        """So many row changes or a few more. Returns row changes and log records appended."""
        count = records = 0
        messages: list[Message] = []
        for transaction in shop.traffic():
            messages += self.encoder.transaction(transaction)
            count += len(transaction.writes)
            if len(messages) >= 20_000:
                records += self.log.append(TOPIC, messages)
                messages = []
            if count >= events:
                break
        records += self.log.append(TOPIC, messages)
        return count, records

    def analyze(self) -> None:
        """Gather statistics, as autovacuum does in a database that has run for some minutes."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")

    def end(self) -> int:
        """The offset the next record will get."""
        return self.log.extents([TOPIC])[PLACE].end

    def close(self) -> None:
        """Release the log's connections."""
        self.log.close()


def fill(stage: Stage, engine: Engine, connection: Connection, shop: Shop, *, deep: int = 0) -> None:
    """The shop's past straight into the mirror, then all models computed whole: a million rows in a minute.

    The product has no such way in; it is the state that the log would have led to. `deep` is how many rentals of the
    years before there are besides, numbered from 1: all returned and paid, every third of them late.
    """
    rows: dict[str, list[str]] = {}
    for write in shop.history():
        line = "\t".join("\\N" if value is None else value for value in write.row or ())
        rows.setdefault(write.table, []).append(line + "\n")
    for table, lines in rows.items():
        with connection.cursor().copy(f'COPY "{table}" FROM STDIN') as copy:
            copy.write("".join(lines))
    values = {"deep": deep, "items": shop.scale.items, "customers": shop.scale.customers, "start": shop.start.date()}
    for statement in _DEEP:
        connection.execute(statement, values)
    connection.commit()
    with psycopg.connect(stage.dsn, autocommit=True) as other:
        # Not the models: statistics that call them empty would be worse than none.
        for table in stage.tables:
            other.execute(f'ANALYZE "{schemas(stage.name)[1]}"."{table}"')
    engine._refresher.all()  # noqa: SLF001 - see above
    engine.step(int(shop.start.timestamp() * 1_000_000))


def _shop_time() -> int:
    return int(START.timestamp() * 1000)


def _no_tick(_now_ms: int) -> None:
    """Business time passes by events alone."""
