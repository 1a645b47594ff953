"""The Debezium route: the connector for a domain's source, its registration, and the foreign keys it does not tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import psycopg
import structlog

from connectors.debezium import (
    Connect,
    ConnectError,
    Following,
    Kind,
    Origin,
    Progress,
    class_of,
    configuration,
    grants,
    notification_topic,
    topics,
)
from connectors.debezium.config import KINDS
from connectors.debezium.connect import advice, in_a_line
from connectors.errors import RowtideError
from connectors.event import ForeignKey, encode_foreign_keys
from connectors.log import Message
from connectors.pipe import Pipe
from connectors.state import connect
from consumers.domain import Domain
from consumers.engine import foreignkeys
from daemon.settings import Settings

if TYPE_CHECKING:
    from daemon.app import App

log = structlog.get_logger()
_SECRET = re.compile(r"password|secret|jaas|token|keystore\.key|passphrase", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\$\{[^}]+\}")
_LOOK = 0.2  # seconds between two looks at the snapshot
_FAMILIES: Mapping[str, Kind] = {
    "mysql": "mysql",
    "mariadb": "mariadb",
    "postgres": "postgres",
    "postgresql": "postgres",
}


@dataclass(frozen=True)
class Wishes:
    """What the user asks for.

    Args:
        kind: None: as source.dsn tells it.
        name: of the connector; None: the domain's.
        per_table: one topic for each table instead of one for all.
        database: the source's, where source.dsn does not tell it.
        password: `env:NAME` or `file:PATH:KEY`, where Kafka Connect finds the password.
        settings: more of the connector's settings.
    """

    kind: str | None = None
    name: str | None = None
    per_table: bool = False
    database: str | None = None
    password: str = "env:ROWTIDE_SOURCE_PASSWORD"  # noqa: S105 - the name of a variable
    settings: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Connector:
    """A connector for a domain: its name, its configuration, and the topics that the domain is to read."""

    name: str
    kind: Kind
    config: dict[str, str]
    topics: list[str]
    origin: Origin

    def grants(self, domain: Domain) -> list[str]:
        """The statements that give its user the least rights."""

        def plain(value: str, instead: str) -> str:
            return instead if value.startswith("${") else value

        return grants(
            self.kind,
            list(domain.tables.values()),
            user=plain(self.origin.user, "debezium"),
            database=plain(self.origin.database, "DATABASE"),
            schema=self.origin.schema,
            name=self.name,
        )


def connector(settings: Settings, domain: Domain, wishes: Wishes) -> Connector:
    """The connector for a domain. Raises RowtideError where something is missing or would show a secret."""
    kind = _kind(settings, wishes.kind)
    name = wishes.name or domain.name
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise RowtideError(
            f"“{name}” cannot name a connector.", hint="Use letters, digits, hyphens and underscores: --name shop."
        )
    for setting, value in (wishes.settings or {}).items():
        if _SECRET.search(setting) and not _PLACEHOLDER.fullmatch(value):
            raise RowtideError(
                f"The value of {setting} would stand in the configuration for everyone to read.",
                hint=f"Name where Connect finds it: --set '{setting}=${{env:NAME}}' or '${{file:/path:key}}'.",
            )
    if not re.fullmatch(r"env:\w+|file:[^:]+:\w+", wishes.password):
        raise RowtideError(
            "The place of the password cannot be read.",
            hint="Write env:NAME (a variable of Connect's workers) or file:/PATH:KEY (a properties file there).",
        )
    origin = _origin(settings, kind, "${" + wishes.password + "}")
    if wishes.database:
        origin = replace(origin, database=wishes.database)
    if wishes.per_table and kind != "postgres" and origin.database.startswith("${"):
        raise RowtideError(
            "The topics are named after the source's database, which is not known.",
            hint="Name it: --database NAME, or set source.dsn.",
        )
    tables = list(domain.tables.values())
    named = topics(name, kind, origin, tables) if wishes.per_table else [domain.topics[0]]
    config = configuration(
        name,
        kind,
        tables,
        origin=origin,
        topic=None if wishes.per_table else domain.topics[0],
        replication=settings.log.replication,
        settings=wishes.settings,
        **({"servers": settings.log.servers} if settings.log.servers else {}),
    )
    return Connector(name, kind, config, named, origin)


def _kind(settings: Settings, wished: str | None) -> Kind:
    dsn = settings.source.dsn
    told: str = wished or (_FAMILIES.get(urlsplit(dsn.get_secret_value()).scheme, "postgres") if dsn else "")
    found = next((kind for kind in KINDS if kind == told), None)
    if found is None:
        raise RowtideError(
            f"“{told}” is no kind of source." if told else "The kind of the source is not known.",
            hint=f"Say it: --kind {'|'.join(KINDS)}.",
        )
    return found


def _origin(settings: Settings, kind: Kind, password: str) -> Origin:
    """Where the source is, as source.dsn tells it; placeholders where it does not."""
    if settings.source.dsn is None:
        return Origin(password=password, schema=settings.source.db_schema)
    dsn = settings.source.dsn.get_secret_value()
    if kind == "postgres":
        told = cast("Mapping[str, Any]", psycopg.conninfo.conninfo_to_dict(dsn))
        found = {name: str(told[key]) for name, key in _POSTGRES.items() if told.get(key)}
        return Origin(**found, schema=settings.source.db_schema, password=password)
    parts = urlsplit(dsn)
    named = {"host": parts.hostname, "user": parts.username, "database": parts.path.strip("/")}
    named["port"] = str(parts.port) if parts.port else None
    return Origin(**{name: unquote(value) for name, value in named.items() if value}, password=password)


_POSTGRES = {"host": "host", "port": "port", "user": "user", "database": "dbname"}


# --- registering ---


def register(
    app: App,
    target: Connect,
    wanted: Connector,
    *,
    on_progress: Callable[[Progress], None],
    wait: Callable[[float], object],
) -> dict[str, Any]:
    """Register the connector and follow its snapshot to the end. Raises ConnectError with what to do.

    `wait` is called with the seconds between two looks.
    """
    _refuse_unfit(app, wanted)
    target.require(class_of(wanted.kind))
    if problems := target.validate(wanted.name, wanted.config):
        raise ConnectError(
            f"Kafka Connect refuses the connector {wanted.name}: {problems[0]}.", hint=advice(problems[0])
        )
    app.init()  # makes the topics as the log needs them, before Connect makes them in its own way
    known = app.log.topics()
    for topic in wanted.topics:
        if topic not in known:
            app.log.create_topic(topic)
    fresh = wanted.name not in target.names()
    failed = not fresh and target.state(wanted.name).state == "FAILED"
    following = Following(app.log, notification_topic(wanted.name), wanted.topics, fresh=fresh or failed)
    target.put(wanted.name, wanted.config)
    if failed:
        target.start_again(wanted.name)  # the same configuration does not do that
    while True:
        state = target.state(wanted.name)
        if state.state == "FAILED":
            raise ConnectError(f"The connector {wanted.name} failed: {state.reason}.", hint=advice(state.reason))
        progress = following.progress()
        on_progress(progress)
        if progress.outcome in ("completed", "skipped") and state.state == "RUNNING":
            break  # one that was broken off has failed, or begins again
        wait(_LOOK)
    return {
        "connector": wanted.name,
        "new": fresh,
        "snapshot": progress.outcome,
        "rows": progress.rows,
        "topics": wanted.topics,
    }


def _refuse_unfit(app: App, wanted: Connector) -> None:
    settings = app.settings
    if settings.log.kind != "kafka":
        raise RowtideError(
            "Debezium writes to Kafka, but the log is the embedded one.",
            hint='Set log.kind = "kafka" and log.servers; without Kafka, use the built-in capture.',
        )
    if settings.source.kind != "none":
        raise RowtideError(
            "The built-in capture reads this source already: every change would come twice.",
            hint='Set source.kind = "none"; source.dsn may stay, for the foreign keys.',
        )
    missing = [topic for topic in wanted.topics if topic not in app.topics]
    if missing:
        listed = ", ".join(f'"{topic}"' for topic in wanted.topics)
        raise RowtideError(
            f"The domain does not read the topic {missing[0]}.", hint=f"Set log.topics = [{listed}] in the settings."
        )


def estimate(app: App) -> int | None:
    """About how many rows the source has; None where it is not known."""
    source = _mysql_source(app)
    return None if source is None else sum(source.estimates)


# --- foreign keys ---


@dataclass(frozen=True)
class _Found:
    keys: list[ForeignKey]
    estimates: list[int]
    database: str


def publish_foreign_keys(app: App) -> bool:
    """Record the source's foreign keys in the domain's own topic, where they are not those known.

    For a source of MySQL's family that Debezium reads: neither its binlog nor Debezium tells what they do. Returns
    whether they were recorded. Raises RowtideError where the source cannot be asked.
    """
    found = _mysql_source(app)
    if found is None:
        return False
    with connect(app.dsn) as connection:
        known = foreignkeys.load(Pipe(connection), app.name)
    if sorted(found.keys, key=_by_name) == sorted(known, key=_by_name):
        return False
    # Of no time of its own: it must not carry business time into the present.
    message = encode_foreign_keys(found.keys, ts_ms=0, database=found.database)
    app.log.append(app.domain.own_topic, [Message(*message, app.time.now_ms())])
    return True


def keep_foreign_keys(app: App) -> str | None:
    """As `publish_foreign_keys`; says what was done. A source that does not answer stops nothing."""
    try:
        return "recorded the source's foreign keys in the log" if publish_foreign_keys(app) else None
    except RowtideError as error:
        log.warning("source.foreign_keys_unread", reason=error.message)
        return f"did not record the source's foreign keys: {error.message}"


def _by_name(key: ForeignKey) -> tuple[str, str]:
    return key.table, key.name


def _mysql_source(app: App) -> _Found | None:
    """What a source of MySQL's family that is not captured by us tells; None where there is none."""
    source = app.settings.source
    if source.kind != "none" or source.dsn is None:
        return None
    dsn = source.dsn.get_secret_value()
    if urlsplit(dsn).scheme not in ("mysql", "mariadb"):
        return None
    import pymysql  # noqa: PLC0415 - only this family needs its driver

    from connectors.capture.mysql import connect as connect_source  # noqa: PLC0415
    from connectors.capture.mysql import describe, foreign_keys, read_dsn  # noqa: PLC0415
    from connectors.capture.mysql.catalogue import read_tables  # noqa: PLC0415

    place, tables = read_dsn(dsn), list(app.domain.tables.values())
    try:
        with connect_source(place, read_timeout=30) as connection:
            server = describe(connection)
            found = read_tables(connection, place.database, tables, folds_names=server.folds_names)
            keys = foreign_keys(connection, place.database, tables, found)
    except (pymysql.MySQLError, OSError) as error:
        told = str(error.args[-1]) if error.args else type(error).__name__
        raise RowtideError(
            f"The source cannot be asked for its foreign keys: {in_a_line(told)}.",
            hint="Check source.dsn; its user needs SELECT on the tables. Without them, what CASCADE and SET NULL do stays "
            "unknown.",
        ) from None
    return _Found(keys, [table.estimate for table in found.values()], place.database)
