"""Opens the log that the settings name."""

from __future__ import annotations

from pathlib import Path

from psycopg.conninfo import make_conninfo

from connectors.log import Log
from connectors.log.embedded import EmbeddedLog
from daemon.settings import Settings


def open_log(settings: Settings, dsn: str, *, as_name: str = "rowtide log") -> Log:
    """The log: in the state database `dsn`, unless the settings name a Kafka cluster. Connects to nothing yet.

    `as_name` is what the state database's server shows of the embedded log's sessions.
    """
    given = settings.log
    if given.kind == "kafka" and given.servers:
        from connectors.log.kafka import KafkaLog  # noqa: PLC0415 - its client is not needed by the embedded log

        return KafkaLog(
            given.servers,
            settings=given.client,
            allow_plaintext=given.allow_plaintext,
            group=given.group or f"rowtide-{Path(settings.domain).name}",
            replication=given.replication,
        )
    return EmbeddedLog(make_conninfo(dsn, application_name=as_name))
