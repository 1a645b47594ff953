"""The one composition root: settings in, a running domain instance out. Every command is a thin client of it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
import structlog

from connectors.embedded import EmbeddedPostgres
from connectors.errors import RowtideError
from connectors.event import Decoder, Source, encode_change, encode_heartbeat
from connectors.log import Message, TopicPartition
from connectors.log.embedded import EmbeddedLog
from connectors.state import connect, migrate
from consumers.domain import Domain, SqlFile, load_domain
from consumers.engine import instance, moments, rebuild, schema
from consumers.engine.analysis import Analysis, analyse
from consumers.engine.engine import Engine, FencedError
from consumers.engine.verify import TableCheck, verify
from consumers.worker import BatchStats, Worker
from daemon.settings import Settings
from daemon.times import BusinessTime

log = structlog.get_logger()
DATABASE = "rowtide"
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")


class QueryError(RowtideError):
    """A query cannot be run."""


@dataclass(frozen=True)
class Table:
    """A result: column names and rows."""

    title: str
    columns: list[str]
    rows: list[tuple[Any, ...]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"title": self.title, "columns": self.columns, "rows": [list(row) for row in self.rows]}


class App:
    """One domain in one state database.

    Args:
        settings: frozen.
        dsn: of the state database, whose own schema is up to date.
        domain: as read from its folder.
        time: business time.
    """

    def __init__(self, settings: Settings, dsn: str, domain: Domain, time_: BusinessTime) -> None:
        self.settings = settings
        self.dsn = dsn
        self.domain = domain
        self.time = time_
        self.log = EmbeddedLog(dsn)
        self.name = domain.name
        self.worker: Worker | None = None
        self._analysis: Analysis | None = None

    @property
    def analysis(self) -> Analysis:
        """The domain's models understood. Raises ModelRefusedError."""
        if self._analysis is None:
            self._analysis = analyse(self.domain)
        return self._analysis

    @property
    def topics(self) -> list[str]:
        """The topics that the instance reads."""
        return [*self.domain.topics, self.domain.own_topic]

    def decoder(self) -> Decoder:
        """The decoder for the domain's tables."""
        zone = self.parameters().get("time_zone")
        try:
            return Decoder(self.domain.mirror_tables.values(), zone=ZoneInfo(str(zone or "UTC")))
        except (ZoneInfoNotFoundError, ValueError):
            raise RowtideError(
                f"There is no time zone “{zone}”.",
                hint="Set parameters.time_zone to a name such as Europe/Berlin.",
            ) from None

    def parameters(self) -> dict[str, str | None]:
        """The domain's parameters with the settings' values. Raises RowtideError for unknown ones."""
        values: dict[str, str | None] = {p.name: p.default for p in self.domain.parameters}
        for name, value in self.settings.parameters.items():
            if name not in values:
                raise RowtideError(
                    f"The domain {self.name} has no parameter “{name}”.",
                    hint=f"It has: {', '.join(values) or 'none'}; correct [parameters] in the settings.",
                )
            text = str(value).lower() if isinstance(value, bool) else str(value)
            values[name] = None if value is None or text == "" else text
        return values

    # --- setting up ---

    def init(self) -> list[str]:
        """Make topics and tables where they are absent. Returns what was done."""
        analysis = self.analysis
        self.decoder()  # refuses a wrong time zone before anything is made
        done: list[str] = []
        known = self.log.topics()
        for topic in self.topics:
            if topic not in known:
                self.log.create_topic(topic)
                done.append(f"created the topic {topic}")
        with connect(self.dsn) as connection:
            if instance.find(connection, self.name) is None:
                instance.create(connection, self.name, analysis)
                tables, models = len(self.domain.mirror_tables), len(analysis.models)
                done.append(
                    f"created the schemas {self.name} ({models} models) and {self.name}_source ({tables} tables)"
                )
            else:
                instance.require(connection, self.name, analysis)
        if self._publish_parameters():
            done.append("recorded the parameters in the log")
        return done

    def _publish_parameters(self) -> bool:
        """Append the parameters to the log where they differ from the last ones there: a change like any other."""
        wanted = ("1", *self.parameters().values())
        with connect(self.dsn) as connection:
            schema.use(connection, self.name)
            table = self.domain.params_table
            columns = ", ".join(f'"{name}"::text' for name in table.names)
            current = connection.execute(f"SELECT {columns} FROM params").fetchone()
            casts = ", ".join(f"%s::{column.type}::text" for column in table.columns)
            try:
                row = connection.execute(f"SELECT {casts}", wanted).fetchone()
            except psycopg.DataError as error:
                raise RowtideError(
                    f"A parameter of {self.name} does not fit its type: {error.diag.message_primary}.",
                    hint="Correct [parameters] in the settings.",
                ) from None
        if current == row:
            return False
        if self._pending_parameters() == row:
            return False
        self.append_input("params", row, ("1",))
        return True

    def _pending_parameters(self) -> tuple[Any, ...] | None:
        """The last parameters in the log, if no worker has taken them in yet."""
        decoder, last = Decoder([self.domain.params_table]), None
        place = TopicPartition(self.domain.own_topic, 0)
        extent = self.log.extents([place.topic])[place]
        offset = max(extent.start, extent.end - 100)
        for record in self.log.read({place: offset}, limit=100):
            event = decoder.decode(record.key, record.value)
            row = getattr(event, "row", None)
            last = row if row is not None else last
        return last

    def append_input(self, table: str, row: Sequence[Any] | None, key: Sequence[str]) -> None:
        """Record a change of one of our own inputs in the log; it takes effect at the clock of that moment.

        It tells no time of its own (ts_ms 0): a history of years ago must not be carried into the present by it.
        """
        declared = self.domain.mirror_tables[table]
        now = self.time.now_ms()
        source = Source("rowtide", self.name, DATABASE, self.name, table, 0)
        message = encode_change(declared, "u" if row is not None else "d", key, row, source=source)
        self.log.append(self.domain.own_topic, [Message(*message, now)])

    def clock(self) -> datetime:
        """Business time of the instance; the present before its first event."""
        with connect(self.dsn) as connection:
            schema.use(connection, self.name)
            row = connection.execute("SELECT now FROM clock WHERE isfinite(now)").fetchone()
        return row[0] if row else moments.to_datetime(self.time.now_ms() * 1000)

    def tick(self, now_ms: int) -> None:
        """Record in the log that business time has passed."""
        self.log.append(self.domain.own_topic, [Message(*encode_heartbeat(now_ms), now_ms)])

    # --- working ---

    def run(
        self,
        stop: threading.Event,
        *,
        until_idle: bool = False,
        clock: datetime | None = None,
        on_batch: Callable[[BatchStats], None] | None = None,
    ) -> dict[str, Any]:
        """Work until stopped; with `until_idle` until everything there is done, due times up to `clock` included."""
        self.init()
        if clock is not None and until_idle:
            self._catch_up(stop, on_batch)
            self.tick(moments.from_datetime(clock) // 1000)
        began = time.monotonic()
        with psycopg.connect(self.dsn) as lock, self._leading(lock, stop) as leading:
            while leading and not stop.is_set():
                try:
                    self._work(stop, until_idle=until_idle, on_batch=on_batch)
                    break
                except FencedError:
                    # A rebuild has put new tables in place: go on with those.
                    log.info("worker.reloaded", domain=self.name)
                    self._analysis = None
                    self.domain = load_domain(str(self.domain.folder))
                except RowtideError as error:
                    with connect(self.dsn) as connection:
                        instance.stop(connection, self.name, error.message)
                    raise
        totals = self.worker.totals if self.worker else None
        return {
            "domain": self.name,
            "seconds": round(time.monotonic() - began, 3),
            "batches": totals.batches if totals else 0,
            "events": totals.events if totals else 0,
            "parked": totals.parked if totals else 0,
        }

    def _catch_up(self, stop: threading.Event, on_batch: Callable[[BatchStats], None] | None) -> None:
        with psycopg.connect(self.dsn) as lock, self._leading(lock, stop):
            self._work(stop, until_idle=True, on_batch=on_batch)

    @contextmanager
    def _leading(self, connection: psycopg.Connection[Any], stop: threading.Event) -> Iterator[bool]:
        """Hold the instance's lock: one daemon works, the others stand by."""
        connection.autocommit = True
        said = False
        while not stop.is_set():
            row = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [f"rowtide {self.name}"]).fetchone()
            if row and row[0]:
                break
            if not said:
                log.info("daemon.standing_by", domain=self.name)
                said = True
            stop.wait(1.0)
        yield not stop.is_set()

    def _work(self, stop: threading.Event, *, until_idle: bool, on_batch: Callable[[BatchStats], None] | None) -> None:
        with connect(self.dsn) as connection:
            instance.require(connection, self.name, self.analysis)
            epoch = instance.take_over(connection, self.name)
        with psycopg.connect(self.dsn) as connection:
            engine = Engine(connection, self.analysis, self.name, epoch)
            self.worker = self._worker(engine, on_batch)
            self.worker.run(stop, until_idle=until_idle)

    def _worker(self, engine: Engine, on_batch: Callable[[BatchStats], None] | None = None) -> Worker:
        return Worker(
            engine,
            self.log,
            self.decoder(),
            self.topics,
            now_ms=self.time.now_ms,
            tick=self.tick,
            on_batch=on_batch,
            limit=self.settings.worker.batch_events,
            max_bytes=self.settings.worker.batch_bytes,
        )

    def rebuild(self, on_batch: Callable[[BatchStats], None] | None = None) -> dict[str, Any]:
        """Build mirror and models again from the log beside the live ones, then swap."""
        for topic in self.topics:
            if topic not in self.log.topics():
                self.log.create_topic(topic)
        for place, extent in self.log.extents(self.topics).items():
            if extent.start > 0:
                raise RowtideError(
                    f"The log no longer has the beginning of {place.topic}: it starts at {extent.start}.",
                    hint="A rebuild needs the whole history: take a new snapshot of the source first.",
                )
        began, events = time.monotonic(), 0

        def work_off(engine: Engine, stop: threading.Event) -> None:
            nonlocal events
            worker = self._worker(engine, on_batch)
            worker.run(stop, until_idle=True)
            events += worker.totals.events

        def ends() -> dict[TopicPartition, int]:
            return {place: extent.end for place, extent in self.log.extents(self.topics).items()}

        with connect(self.dsn) as connection:
            if instance.find(connection, self.name) is None:
                instance.create(connection, self.name, self.analysis)
        self._publish_parameters_if_absent()
        rebuild.rebuild(lambda: psycopg.connect(self.dsn, autocommit=False), self.analysis, self.name, work_off, ends)
        return {"domain": self.name, "events": events, "seconds": round(time.monotonic() - began, 3)}

    def _publish_parameters_if_absent(self) -> None:
        if self.log.extents([self.domain.own_topic])[TopicPartition(self.domain.own_topic, 0)].end == 0:
            row = ("1", *self.parameters().values())
            self.append_input("params", row, ("1",))

    # --- looking ---

    def status(self) -> dict[str, Any]:
        """The instance, its positions and lag, its tables' rows."""
        with connect(self.dsn) as connection:
            found = instance.find(connection, self.name)
            if found is None:
                raise instance.InstanceError(f"{self.name} has not been set up.", hint="Run `rowtide init` first.")
            models, source = schema.schemas(self.name)
            connection.execute(f'SET search_path = "{models}", "{source}"')
            clock = connection.execute("SELECT CASE WHEN isfinite(now) THEN now END FROM clock").fetchone()
            positions = connection.execute(
                "SELECT topic, partition, next_offset FROM rowtide.position WHERE instance = %s", [self.name]
            ).fetchall()
            parked = connection.execute(
                "SELECT count(*) FROM rowtide.parked_event WHERE instance = %s", [self.name]
            ).fetchone()
            rows = {}
            for model in self.analysis.models:
                count = connection.execute(f'SELECT count(*) FROM "{model.name}"').fetchone()
                rows[model.name] = count[0] if count else 0
        read = {TopicPartition(t, p): offset for t, p, offset in positions}
        lag = {
            f"{place.topic}/{place.partition}": extent.end - read.get(place, extent.start)
            for place, extent in self.log.extents(self.topics).items()
        }
        waiting = parked[0] if parked else 0
        return {
            "domain": self.name,
            "title": self.domain.title,
            "state": "degraded" if waiting and found.state == "running" else found.state,
            "reason": found.reason,
            "epoch": found.epoch,
            "clock": clock[0].isoformat() if clock and clock[0] else None,
            "lag_events": lag,
            "parked": waiting,
            "rows": rows,
            "fits_files": found.fingerprint == self.domain.fingerprint,
        }

    def verify(self, on_progress: Callable[[str, int, int], None] | None = None) -> list[TableCheck]:
        """Prove that every model equals its query. Raises InstanceError where it was not set up."""
        with connect(self.dsn) as connection:
            instance.require(connection, self.name, self.analysis)
        with psycopg.connect(self.dsn) as connection:
            return verify(connection, self.analysis, self.name, on_progress)

    def query(self, title: str, sql: str, parameters: Mapping[str, str] | None = None) -> Table:
        """Run one read-only SELECT in the domain's schemas. Raises QueryError with PostgreSQL's reason."""
        given = dict(parameters or {})
        wanted = [name for name in _PARAMETER.findall(sql) if name in given]
        text = (
            _PARAMETER.sub(lambda m: f"%({m[1]})s" if m[1] in given else m[0], sql.replace("%", "%%"))
            if wanted
            else sql
        )
        with psycopg.connect(self.dsn) as connection:
            connection.read_only = True
            schema.use(connection, self.name)
            connection.execute("SET TimeZone = 'UTC'")
            try:
                cursor = connection.execute(text, given if wanted else None)
            except psycopg.Error as error:
                position = f" (at character {error.diag.statement_position})" if error.diag.statement_position else ""
                raise QueryError(
                    f"The query failed: {error.diag.message_primary}{position}.",
                    hint=error.diag.message_hint or "Queries only read; `rowtide explain` lists the tables.",
                ) from None
            if cursor.description is None:
                raise QueryError("The statement returns no rows.", hint="Give one SELECT.")
            return Table(title, [column.name for column in cursor.description], cursor.fetchall())

    def named(self, kind: str, name: str) -> SqlFile:
        """A query, check or report by name. Raises QueryError listing what there is."""
        files: Mapping[str, SqlFile] = getattr(self.domain, kind)
        if name not in files:
            raise QueryError(
                f"{self.name} has no {kind[:-1]} “{name}”.",
                hint=f"There are: {', '.join(sorted(files)) or 'none'}.",
            )
        return files[name]

    def report(self, name: str) -> list[Table]:
        """The sections of a report: its file has one SELECT behind each `-- section: Title` line."""
        parts = re.split(r"^--\s*section:\s*(.*)$", self.named("reports", name).sql, flags=re.MULTILINE)
        return [self.query(title.strip(), sql) for title, sql in zip(parts[1::2], parts[2::2], strict=True)]

    def explain(self, name: str) -> list[tuple[str, str]]:
        """How a model is kept: titled pieces of text. Raises RowtideError for an unknown model."""
        from daemon.explain import explain  # noqa: PLC0415 - only one command needs it

        with psycopg.connect(self.dsn) as connection:
            return explain(connection, self.analysis, self.name, name)

    def close(self) -> None:
        """Release connections."""
        self.log.close()


@contextmanager
def open_app(settings: Settings, *, time: BusinessTime | None = None) -> Iterator[App]:
    """The app for the settings; starts the embedded PostgreSQL where no state database is given."""
    domain = load_domain(settings.domain)
    embedded: EmbeddedPostgres | None = None
    if settings.state.dsn is not None:
        dsn = settings.state.dsn.get_secret_value()
    else:
        embedded = EmbeddedPostgres(Path(settings.state.folder) / "postgres")
        dsn = embedded.ensure_database(DATABASE)
    try:
        migrate(dsn)
        app = App(settings, dsn, domain, time or BusinessTime())
        try:
            yield app
        finally:
            app.close()
    finally:
        if embedded is not None:
            embedded.close()
