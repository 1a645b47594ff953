"""Connector configurations: the settings with which Debezium is fast and tells everything that the codec reads.

One definition makes the files below deploy/debezium/ and what `rowtide debezium config` prints. Secrets are
placeholders that Kafka Connect fills in; no value of one ever stands here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from connectors.table import Table

Kind: TypeAlias = Literal["mysql", "mariadb", "postgres"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_CLASSES: Mapping[Kind, str] = {
    "mysql": "io.debezium.connector.mysql.MySqlConnector",
    "mariadb": "io.debezium.connector.mariadb.MariaDbConnector",
    "postgres": "io.debezium.connector.postgresql.PostgresConnector",
}
_PORTS: Mapping[Kind, int] = {"mysql": 3306, "mariadb": 3306, "postgres": 5432}
_LARGEST = 32 * 1024 * 1024  # bytes of one message, as the log's own topics allow
TRANSACTIONS = "transaction"  # the last part of the name of the topic of transactions' boundaries


@dataclass(frozen=True)
class Origin:
    """Where a source is, as Kafka Connect reaches it; each may be a placeholder such as `${env:NAME}`.

    Args:
        database: whose tables are captured; in PostgreSQL the database to connect to.
        schema: PostgreSQL's schema.
        password: always a placeholder.
    """

    host: str = "${env:ROWTIDE_SOURCE_HOST}"
    port: str = ""
    user: str = "${env:ROWTIDE_SOURCE_USER}"
    database: str = "${env:ROWTIDE_SOURCE_DATABASE}"
    schema: str = "public"
    password: str = "${env:ROWTIDE_SOURCE_PASSWORD}"  # noqa: S105 - the name of a variable


def class_of(kind: Kind) -> str:
    """The Java class of a connector."""
    return _CLASSES[kind]


def notification_topic(name: str) -> str:
    """Where a connector tells how far its snapshot is."""
    return f"{name}-notifications"


def topics(name: str, kind: Kind, origin: Origin, tables: Sequence[Table]) -> list[str]:
    """The topics of a connector with one topic for each table: theirs, and that of the transactions."""
    space = origin.schema if kind == "postgres" else origin.database
    plain = [re.sub(r"[^A-Za-z0-9._-]", "_", f"{name}.{space}.{table.name}") for table in tables]
    return [*plain, f"{name}.{TRANSACTIONS}"]


def configuration(
    name: str,
    kind: Kind,
    tables: Sequence[Table],
    *,
    origin: Origin | None = None,
    topic: str | None,
    servers: str = "${env:ROWTIDE_KAFKA_SERVERS}",
    replication: int = 1,
    settings: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The configuration of a connector that captures these tables.

    Args:
        kind: of the source.
        tables: those to capture; their primary keys are the keys of the events.
        origin: where they are; None: placeholders.
        name: of the connector; also the first part of the names of its topics, its slot and its history.
        topic: the one topic that everything goes to, in commit order; None: one topic for each table.
        servers: Kafka's, for the history of the source's tables.
        replication: copies of each topic that Connect creates.
        settings: more of the connector's settings, or others than ours.
    """
    origin = origin or Origin()
    config = {
        "connector.class": _CLASSES[kind],
        "tasks.max": "1",
        "topic.prefix": name,
        "database.hostname": origin.host,
        "database.port": origin.port or str(_PORTS[kind]),
        "database.user": origin.user,
        "database.password": origin.password,
    }
    config |= _postgres(name, origin, tables) if kind == "postgres" else _mysql(name, origin, tables, servers)
    config |= _values(kind) | _SPEED | _topics(name, replication)
    if topic is not None:
        # Heartbeats keep a topic of their own: they tell the connector's time, which runs ahead of what it has read.
        config |= {
            "transforms": "one",
            "transforms.one.type": "org.apache.kafka.connect.transforms.RegexRouter",
            "transforms.one.regex": rf"{re.escape(name)}\..*",
            "transforms.one.replacement": topic.replace("$", r"\$"),
        }
    return config | dict(settings or {})


def _mysql(name: str, origin: Origin, tables: Sequence[Table], servers: str) -> dict[str, str]:
    listed = ",".join(f"{_expression(origin.database)}\\.{_expression(table.name)}" for table in tables)
    return {
        # Its number among the source's replicas: no other may have it.
        "database.server.id": str(0x20000000 | (zlib.crc32(f"debezium {name}".encode()) & 0x1FFFFFFF)),
        "database.include.list": _expression(origin.database),
        "table.include.list": listed,
        # A lock for the moment in which the snapshot begins: without it, what is committed just then would be missing.
        "snapshot.locking.mode": "minimal",
        "bigint.unsigned.handling.mode": "precise",
        "include.schema.changes": "false",
        "schema.history.internal.kafka.bootstrap.servers": servers,
        "schema.history.internal.kafka.topic": f"{name}-history",
        "schema.history.internal.store.only.captured.tables.ddl": "true",
    }


def _postgres(name: str, origin: Origin, tables: Sequence[Table]) -> dict[str, str]:
    space = _expression(origin.schema)
    identifier = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return {
        "database.dbname": origin.database,
        "table.include.list": ",".join(f"{space}\\.{_expression(table.name)}" for table in tables),
        "plugin.name": "pgoutput",
        "publication.name": identifier,
        # The owner makes it, by what `--grants` prints: whoever may make one for all tables may read them all.
        "publication.autocreate.mode": "disabled",
        "slot.name": identifier,
        # An idle database's slot keeps what others write to the server: a message moves it on.
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'rowtide_heartbeat', '')",
        "message.prefix.exclude.list": "rowtide_heartbeat",
    }


def _expression(name: str) -> str:
    """A name as a regular expression in a list; a placeholder stays as it is."""
    return name if name.startswith("${") else re.sub(r"([^A-Za-z0-9_ -])", r"\\\1", name)


def _values(kind: Kind) -> dict[str, str]:
    """Settings with which events tell what the source has, as plain text, and all of it."""
    converters = {}
    for part in ("key", "value"):
        converters[f"{part}.converter"] = "org.apache.kafka.connect.json.JsonConverter"
        converters[f"{part}.converter.schemas.enable"] = "false"
        # Else a NULL arrives as the column's default.
        converters[f"{part}.converter.replace.null.with.default"] = "false"
    return converters | {
        "snapshot.mode": "initial",
        "time.precision.mode": "isostring",
        "decimal.handling.mode": "string",
        "binary.handling.mode": "bytes",
        # By default truncates are left out, and rows stay in the mirror that the source no longer has.
        "skipped.operations": "none",
        "provide.transaction.metadata": "true",
        # A log that keeps every event needs no tombstones.
        "tombstones.on.delete": "false",
        "heartbeat.interval.ms": "10000",
        # An interval as a number has lost its months.
        **({"hstore.handling.mode": "json", "interval.handling.mode": "string"} if kind == "postgres" else {}),
    }


_SPEED = {
    "poll.interval.ms": "10",
    "max.batch.size": "8192",
    "max.queue.size": "32768",
    "max.queue.size.in.bytes": str(4 * _LARGEST),
    "producer.override.max.request.size": str(_LARGEST),
    "producer.override.compression.type": "lz4",
}


def _topics(name: str, replication: int) -> dict[str, str]:
    """How Connect creates the topics that are not there: ordered, and kept until the log's own retention acts."""
    return {
        "topic.creation.default.partitions": "1",
        "topic.creation.default.replication.factor": str(replication),
        "topic.creation.default.cleanup.policy": "delete",
        "topic.creation.default.retention.ms": "-1",
        "topic.creation.default.max.message.bytes": str(_LARGEST),
        "notification.enabled.channels": "sink",
        "notification.sink.topic.name": notification_topic(name),
    }
