"""Opens the log that the settings name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from psycopg.conninfo import make_conninfo

from connectors.log import Extent, Log, TopicPartition
from connectors.log.embedded import EmbeddedLog
from daemon.settings import Settings


def open_log(settings: Settings, dsn: str, *, as_name: str = "rowtide log", patience: float = 30.0) -> Log:
    """The log: in the state database `dsn`, unless the settings name a Kafka cluster. Connects to nothing yet.

    `as_name` is what the state database's server shows of the embedded log's sessions; `patience` how many seconds a
    cluster may fail to answer.
    """
    given = settings.log
    if given.kind == "kafka" and given.servers:
        from connectors.log.kafka import KafkaLog  # noqa: PLC0415 - its client is not needed by the embedded log

        return KafkaLog(
            given.servers,
            settings=given.client,
            allow_plaintext=given.allow_plaintext,
            group=given.group or f"rowtide-{settings.instance or Path(settings.domain).name}",
            replication=given.replication,
            patience=patience,
        )
    return EmbeddedLog(make_conninfo(dsn, application_name=as_name))


def extents(log: Log, topics: Iterable[str]) -> dict[TopicPartition, Extent]:
    """The retained offsets of the topics, each ending behind its last record.

    Kafka gives offsets to the marks of transactions too. No reader's position ever passes those at the end, so they
    are left out here: what is taken in up to these ends is all there is.
    """
    found = dict(log.extents(topics))
    if isinstance(log, EmbeddedLog):
        return found
    return {place: Extent(extent.start, _last(log, place, extent)) for place, extent in found.items()}


def _last(log: Log, place: TopicPartition, extent: Extent) -> int:
    """The offset behind the last record of a partition; its start where none is retained."""
    reach = 4
    while extent.start < extent.end:
        begin = max(extent.start, extent.end - reach)
        records = log.read({place: begin}, limit=reach)
        if records:
            return max(records[-1].offset + 1, extent.start)
        if begin == extent.start:
            break
        reach *= 16
    return extent.start
