"""The one composition root: settings in, a running domain instance out. Every command is a thin client of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from connectors.embedded import EmbeddedPostgres
from connectors.event import Decoder
from connectors.log import Log
from connectors.quickbooks.clock import Clock, SystemClock
from connectors.state import connect, migrate
from consumers.deliveries import sinks
from consumers.domain import Domain, SqlFile
from consumers.engine import instance, moments, schema
from consumers.engine.analysis import Analysis, analyse
from consumers.engine.engine import Engine
from consumers.engine.verify import TableCheck, verify
from consumers.reader import Readable
from consumers.worker import BatchStats, Worker
from daemon import apart, debezium, queries, work
from daemon import replay as replaying
from daemon.dispatcher import Dispatcher
from daemon.domains import domain_of
from daemon.failures import explained
from daemon.logs import open_log
from daemon.queries import QueryError, Table
from daemon.replay_request import Request
from daemon.settings import Settings
from daemon.share import Share
from daemon.status import status
from daemon.times import BusinessTime
from daemon.values import OwnTopic

if TYPE_CHECKING:
    from daemon.lane import Lane  # it brings QuickBooks' libraries, which few commands need

__all__ = ["App", "QueryError", "Table", "open_app", "open_apps"]
DATABASE = "rowtide"


class App:
    """One domain in one state database.

    Args:
        settings: frozen.
        dsn: of the state database, whose own schema is up to date.
        domain: as read from its folder.
        time_: business time.
        revive: starts the state database again where it is ours; None where it is somebody else's.
    """

    def __init__(
        self,
        settings: Settings,
        dsn: str,
        domain: Domain,
        time_: BusinessTime,
        *,
        revive: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        self.dsn = dsn
        self.domain = domain
        self.time = time_
        self.revive = revive
        self.log: Log = open_log(settings, dsn)
        self.name = domain.name
        self.worker: Worker | None = None
        self.dispatcher: Dispatcher | None = None
        self.lane: Lane | None = None
        self.outside: Clock = SystemClock()  # the time of what is done in QuickBooks
        self.share: Share | None = None  # where this process serves several instances
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

    @property
    def own(self) -> OwnTopic:
        """What is appended to the domain's own topic."""
        return OwnTopic(self.dsn, self.log, self.domain, self.settings.parameters, self.time)

    def reload(self) -> None:
        """Read the domain's folder again, where the tables are no longer those of the files read before."""
        with connect(self.dsn) as connection:
            found = instance.find(connection, self.name)
        if found is not None and found.fingerprint == self.domain.fingerprint:
            return
        self.domain = domain_of(self.settings, str(self.domain.folder))
        self._analysis = None

    # --- setting up ---

    def init(self) -> list[str]:
        """Make topics and tables where they are absent. Returns what was done."""
        analysis = self.analysis
        own = self.own
        own.decoder()  # refuses a wrong time zone before anything is made
        done: list[str] = []
        with apart.setting_up(self) as connection:
            known = self.log.topics()
            for topic in self.topics:
                if topic not in known:
                    self.log.create_topic(topic)
                    done.append(f"created the topic {topic}")
            if instance.find(connection, self.name) is None:
                instance.create(connection, self.name, analysis)
                tables, models = len(self.domain.mirror_tables), len(analysis.models)
                done.append(
                    f"created the schemas {self.name} ({models} models) and {self.name}_source ({tables} tables)"
                )
            else:
                instance.require(connection, self.name, analysis)
        if own.publish_parameters():
            done.append("recorded the parameters in the log")
        if line := debezium.keep_foreign_keys(self):
            done.append(line)
        return done

    def append_input(self, table: str, row: Sequence[Any] | None, key: Sequence[str]) -> None:
        """Record a change of one of our own inputs in the log; it takes effect at the clock of that moment."""
        self.own.append_input(table, row, key)

    def tick(self, now_ms: int) -> None:
        """Record in the log that business time has passed."""
        self.own.tick(now_ms)

    def clock(self) -> datetime:
        """Business time of the instance; the present before its first event."""
        with connect(self.dsn) as connection:
            schema.use(connection, self.name)
            row = connection.execute("SELECT now FROM clock WHERE isfinite(now)").fetchone()
        return row[0] if row else moments.to_datetime(self.time.now_ms() * 1000)

    # --- working ---

    def run(
        self,
        stop: threading.Event,
        *,
        until_idle: bool = False,
        clock: datetime | None = None,
        on_batch: Callable[[BatchStats], None] | None = None,
        during: work.During | None = None,
    ) -> dict[str, Any]:
        """Work until stopped; with `until_idle` until everything there is done, due times up to `clock` included.

        `during` is entered while this process leads the instance.
        """
        self.init()
        job = work.Job(until_idle=until_idle, clock=clock, on_batch=on_batch, during=during)
        return work.run(self, stop, job)

    def make_worker(
        self, engine: Engine, on_batch: Callable[[BatchStats], None] | None = None, source: Readable | None = None
    ) -> Worker:
        """A worker on the domain's topics for an engine, on another log than the app's where one is given.

        `on_batch` is told of each committed batch.
        """
        return Worker(
            engine,
            source or self.log,
            self.decoder(),
            self.topics,
            now_ms=self.time.now_ms,
            tick=self.tick,
            on_batch=on_batch,
            limit=self.settings.worker.batch_events,
            max_bytes=self.settings.worker.batch_bytes,
        )

    def decoder(self) -> Decoder:
        """The decoder for the domain's tables."""
        return self.own.decoder()

    def rebuild(self, on_batch: Callable[[BatchStats], None] | None = None, **options: Any) -> dict[str, Any]:
        """Build mirror and models again from the log beside the live ones, then swap; see `replay_request.Request`."""
        return replaying.rebuild_all(self, Request(apply=True, compares=False, on_batch=on_batch, **options))

    def replay(self, request: Request) -> dict[str, Any]:
        """Take the log in again beside the live tables, tell what would change, swap where asked to."""
        return replaying.replay(self, request)

    # --- looking ---

    def status(self, *, probe: bool = False) -> dict[str, Any]:
        """The instance, its positions and lag, its tables' rows; with `probe` also whether the source answers."""
        return status(self, probe=probe)

    def verify(self, on_progress: Callable[[str, int, int], None] | None = None) -> list[TableCheck]:
        """Prove that every model equals its query. Raises InstanceError where it was not set up."""
        with connect(self.dsn) as connection:
            instance.require(connection, self.name, self.analysis)
        with psycopg.connect(self.dsn) as connection:
            return verify(connection, self.analysis, self.name, on_progress)

    def query(self, title: str, sql: str, parameters: Mapping[str, str] | None = None) -> Table:
        """Run one read-only SELECT in the domain's schemas. Raises QueryError with PostgreSQL's reason."""
        return queries.query(self.dsn, self.name, title, sql, parameters)

    def named(self, kind: str, name: str) -> SqlFile:
        """A query, check or report by name. Raises QueryError listing what there is."""
        return queries.named(self.domain, kind, name)

    def report(self, name: str) -> list[Table]:
        """The sections of a report."""
        return [self.query(title, sql) for title, sql in queries.sections(self.named("reports", name))]

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
    """The app for the settings; starts the embedded PostgreSQL where no state database is given.

    What goes wrong inside is raised as a RowtideError where an operator can act on it.
    """
    with open_apps([settings], time=time) as apps:
        yield apps[0]


@contextmanager
def open_apps(several: Sequence[Settings], *, time: BusinessTime | None = None) -> Iterator[list[App]]:
    """An app for each settings, which differ in the instance and name one state database; see `open_app`."""
    domains = [domain_of(settings) for settings in several]
    for domain in domains:
        sinks(analyse(domain), domain.name)  # what is wrong with the files is said before a server starts
    settings = several[0]
    embedded: EmbeddedPostgres | None = None
    try:
        if settings.state.dsn is not None:
            dsn = settings.state.dsn.get_secret_value()
        else:
            embedded = EmbeddedPostgres(Path(settings.state.folder) / "postgres")
            dsn = embedded.ensure_database(DATABASE)
        migrate(dsn)
        business, revive = time or BusinessTime(), embedded.revive if embedded else None
        with ExitStack() as opened:
            apps = []
            for own, domain in zip(several, domains, strict=True):
                apps.append(App(own, dsn, domain, business, revive=revive))
                opened.callback(apps[-1].close)
            yield apps
    except Exception as error:
        known = explained(error, settings)
        if known is None or known is error:
            raise
        raise known from error
    finally:
        if embedded is not None:
            embedded.close()
