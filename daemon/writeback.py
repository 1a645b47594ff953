"""Write-back around an app: when its models are as the source is, who writes, which columns the source must have."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from connectors.capture.mysql import read_dsn
from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.writeback import Wanted
from connectors.writeback.grants import grants as writing_grants
from connectors.writeback.mysql import MySQLFlags
from connectors.writeback.postgres import PostgresFlags
from connectors.writeback.updates import Target
from consumers.deliveries import STATES, Sink, count, sinks, why_waiting
from consumers.domain import Domain
from consumers.worker import BatchStats
from daemon import lead
from daemon.dispatcher import Dispatcher
from daemon.settings import Settings, source_kind

if TYPE_CHECKING:
    from daemon.app import App

_BEHIND = 10.0  # seconds: so far may the models be behind log and source and still count as current
_QUIET = 2.0  # seconds without a batch after which the age of the last one says nothing

Connection = psycopg.Connection[tuple[Any, ...]]


def enabled(settings: Settings, domain: Domain) -> bool:
    """Whether flags are written: the operator has turned it on, and the domain has some."""
    return settings.source.write_back and bool(domain.write_back)


def _dsn(settings: Settings) -> str:
    given: SecretStr | None = settings.source.write_back_dsn or settings.source.dsn
    if given is None:
        raise RowtideError("There is no source to write to.", hint="Set source.dsn or source.write_back_dsn.")
    return given.get_secret_value()


def open_writer(settings: Settings, name: str) -> MySQLFlags | PostgresFlags:
    """The writer to the source that the settings name. Connects to nothing yet."""
    dsn = _dsn(settings)
    if source_kind(dsn) == "mysql":
        return MySQLFlags(dsn)
    return PostgresFlags(dsn, schema=settings.source.db_schema, name=name)


class Currency:
    """Whether an instance's models are as the source is now.

    A pending row of models that lag is about a past that may be over: what it asks for would be written and taken
    back. So deliveries wait until the models hold what the log held some seconds ago, and until the changes that come
    are young, or none come.

    Args:
        name: the instance's.
        ends: where the log's partitions end now.
        is_at_end: whether there is nothing to read from given positions: some logs end behind their last record.
        clock: seconds that only rise.
        lag_ms: how old the last change was when it was taken in, where that is known already.
    """

    def __init__(
        self,
        name: str,
        ends: Callable[[], Mapping[TopicPartition, int]],
        is_at_end: Callable[[Mapping[TopicPartition, int]], bool],
        clock: Callable[[], float] = time.monotonic,
        *,
        lag_ms: float | None = None,
    ) -> None:
        self._name = name
        self._ends = ends
        self._is_at_end = is_at_end
        self._clock = clock
        self._mark: tuple[float, Mapping[TopicPartition, int]] | None = None
        self._held: float | None = None  # the models hold what the log held then
        self._last = clock()
        self._lag_ms = lag_ms

    def committed(self, stats: BatchStats) -> None:
        """A batch was committed."""
        self._last = self._clock()
        if stats.lag_ms is not None:  # what is not of the source, as results are, says nothing of how far behind it is
            self._lag_ms = stats.lag_ms

    def __call__(self, connection: Connection) -> bool:
        """Whether the models are current, by the positions in the state database."""
        now = self._clock()
        is_quiet = now - self._last >= _QUIET
        try:
            self._look(connection, now, is_quiet=is_quiet)
        except RowtideError:
            return False  # the worker says what is wrong with the log
        is_young = self._lag_ms is not None and self._lag_ms <= _BEHIND * 1000
        return self._held is not None and now - self._held <= _BEHIND and (is_young or is_quiet)

    def _look(self, connection: Connection, now: float, *, is_quiet: bool) -> None:
        """Compare the positions with where the log ended at an earlier look, and note where it ends now."""
        rows = connection.execute(
            "SELECT topic, partition, next_offset FROM rowtide.position WHERE instance = %s", [self._name]
        ).fetchall()
        positions = {TopicPartition(topic, partition): offset for topic, partition, offset in rows}
        ends = dict(self._ends())
        since, mark = self._mark or (now, ends)
        if _holds(positions, ends) or (is_quiet and self._is_at_end({p: positions.get(p, 0) for p in ends})):
            self._held = now
        elif _holds(positions, mark):
            self._held = since
        else:
            self._mark = (since, mark)
            return
        self._mark = (now, ends)


def _holds(positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> bool:
    return all(positions.get(place, 0) >= end for place, end in ends.items())


def open_dispatcher(app: App, term: lead.Term) -> tuple[Dispatcher, Callable[[BatchStats], None]]:
    """The dispatcher of a term, and what is to be told of each committed batch."""
    found = sinks(app.analysis, app.name)
    models = {sink.entry.model for sink in found}
    session = term.session
    currency = Currency(
        app.name,
        lambda: {place: extent.end for place, extent in app.log.extents(app.topics).items()},
        lambda positions: not app.log.read(dict(positions), limit=1),
    )
    dispatcher = Dispatcher(
        app.dsn,
        found,
        open_writer(app.settings, app.name),
        leads=lambda connection: lead.is_led_by(connection, app.name, session),
        is_current=currency,
    )

    def committed(stats: BatchStats) -> None:
        currency.committed(stats)
        if models & stats.keys.keys():
            dispatcher.wake()

    return dispatcher, committed


# --- setting up ---


def wanted(found: Sequence[Sink]) -> list[Wanted]:
    """The columns that the source must have."""
    types = [{column.name: column.type for column in sink.entry.table.columns} for sink in found]
    return [
        Wanted(
            sink.entry.table.name,
            column,
            declared[column],
            sink.entry.values.get(column, ()),
            sink.entry.defaults.get(column),
        )
        for sink, declared in zip(found, types, strict=True)
        for column in sink.entry.set
    ]


def missing_columns(app: App) -> list[str]:
    """The statements that add to the source the columns it lacks. Raises ColumnsUnfitError for those that will not do."""
    with closing(open_writer(app.settings, app.name)) as writer:
        return writer.missing(wanted(sinks(app.analysis, app.name)))


def add_columns(app: App, statements: Sequence[str]) -> None:
    """Run what `missing_columns` gave. Raises WriteBackBlockedError where the user may not."""
    with closing(open_writer(app.settings, app.name)) as writer:
        writer.execute(statements)


def grants(settings: Settings, domain: Domain, *, user: str, place: str, mysql: bool) -> list[str]:
    """The statements that let a user write the domain's flags and nothing else, where that is turned on.

    `place` is the source's schema, in MySQL and MariaDB its database.
    """
    if not enabled(settings, domain):
        return []
    targets = [Sink(domain.name, entry).target for entry in domain.write_back.values()]
    own = settings.source.write_back_dsn
    writer = (_user(own.get_secret_value()) if own else None) or user
    seen = {} if mysql or place != settings.source.db_schema else _seen(settings, domain.name, targets)
    return writing_grants(targets, user=writer, place=place, mysql=mysql, is_new=writer != user, seen=seen)


def _seen(settings: Settings, name: str, targets: Sequence[Target]) -> dict[Target, Target]:
    """Targets as a PostgreSQL source spells them, as far as it can be asked already: rights are printed before there are any."""
    own = settings.source.write_back_dsn or settings.source.dsn
    if own is None or source_kind(own.get_secret_value()) == "mysql":
        return {}
    try:
        with closing(PostgresFlags(own.get_secret_value(), schema=settings.source.db_schema, name=name)) as writer:
            return {target: there for target in targets if (there := writer.spelled(target)) is not None}
    except RowtideError:
        return {}


def _user(dsn: str) -> str | None:
    """Who logs in by a connection string."""
    if source_kind(dsn) == "mysql":
        return read_dsn(dsn).user
    try:
        user = conninfo_to_dict(dsn).get("user")
    except psycopg.ProgrammingError:
        return None
    return str(user) if user else None


# --- looking ---


def status(app: App, connection: Connection) -> dict[str, Any] | None:
    """The deliveries of an instance, by sink; None where nothing is written back.

    `problem` tells why deliveries do not get on, and is None where they do.
    """
    found = sinks(app.analysis, app.name)
    if not found:
        return None
    counted, on = count(connection, app.name), enabled(app.settings, app.domain)
    reason = why_waiting(connection, app.name) if on else None
    return {
        "enabled": on,
        "sinks": {
            sink.name: {"pending": sink.pending(connection), **dict.fromkeys(STATES, 0), **counted.get(sink.name, {})}
            for sink in found
        },
        "problem": reason,
    }
