"""MariaDB as a source for the capture rules: a database with a capturing user of its own, reached over a proxy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pymysql
from links import Proxy
from reached import ReachedMariadb
from sources import DEADLINE, TypeCase

from connectors.capture.mysql import MySQLCapture
from connectors.log import Log
from connectors.table import Table
from deploy.stack.mariadb import MariaDB

_numbers = count(1)


class _Session:
    """One connection of an application."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def execute(self, statement: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)


class MariadbSource(ReachedMariadb):
    """See `sources.Source`."""

    types: Sequence[TypeCase] = ()

    def __init__(self, server: MariaDB, link: Proxy) -> None:
        number = next(_numbers)
        super().__init__(server, f"source_{number}")
        self.server = server
        self.link = link
        self.name = f"m{number}"
        self.user = f"capturer_{number}"
        self.password = "not yet known"
        self._local = threading.local()

    # --- as the owner ---

    @contextmanager
    def transaction(self) -> Iterator[_Session]:
        session = getattr(self._local, "session", None)
        if session is None or not session.connection.open:
            session = self._local.session = _Session(self.server.connect(self.database))
            # Without locks on gaps the traffic of several workers has no deadlocks.
            session.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        session.connection.begin()
        try:
            yield session
        except BaseException:
            session.connection.rollback()
            raise
        session.connection.commit()

    def rows(self, table: Table) -> dict[tuple[str, ...], tuple[str | None, ...]]:
        listed = ", ".join(f"CAST(`{name}` AS CHAR)" for name in table.names)
        rows = self.query(f"SELECT {listed} FROM `{table.name}`")
        return {tuple(row[place] for place in table.key_positions): row for row in rows}

    def allow(self, tables: Sequence[Table]) -> None:
        dsn = self.server.create_capture_user(tables, database=self.database, user=self.user)
        self.password = urlsplit(dsn).password or ""

    def forbid(self, table: Table) -> None:
        self.execute(f"REVOKE SELECT ON `{table.name}` FROM '{self.user}'@'%'")

    def forget(self, table: Table) -> None:
        self.execute("FLUSH BINARY LOGS")
        last = self.query("SHOW MASTER STATUS")[0][0]
        deadline = time.monotonic() + DEADLINE
        while self.query("SHOW BINARY LOGS")[0][0] != last:
            # The server keeps a file until it has noticed that a reader of it is gone, or a checkpoint is over.
            assert time.monotonic() < deadline, "the binlog is not purged"
            self.execute("FLUSH BINARY LOGS", f"PURGE BINARY LOGS TO '{last}'")
            last = self.query("SHOW MASTER STATUS")[0][0]
            self.execute(f"PURGE BINARY LOGS TO '{last}'")

    # --- as the capture ---

    def capture_dsn(self, fault: str | None = None) -> str:
        password = f"{self.password}-wrong" if fault == "wrong password" else self.password
        database = "absent" if fault == "absent database" else self.database
        return f"mysql://{self.user}:{password}@127.0.0.1:{self.link.port}/{database}"

    def capture(
        self, tables: Sequence[Table], log: Log, topic: str, *, fault: str | None = None, **options: Any
    ) -> MySQLCapture:
        return MySQLCapture(self.capture_dsn(fault), tables, log, topic, name=self.name, **options)

    def restart(self) -> None:
        self.server.kill()
        self.server.start()

    def close(self) -> None:
        """Drop the database and the user."""
        self.link.heal()
        try:
            self.execute(f"DROP DATABASE IF EXISTS {self.database}", f"DROP USER IF EXISTS '{self.user}'@'%'")
        except pymysql.err.OperationalError:
            self.server.start()
