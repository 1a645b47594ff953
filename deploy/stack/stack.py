"""The whole set-up on this machine without containers: MariaDB, Kafka, Connect with Debezium, PostgreSQL, Rowtide.

A simulator of QuickBooks Online runs beside them. The same steps as `docker-compose.yml`, from the same definition.
Everything is kept in one folder: a second start goes on where the first one ended.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from connectors.errors import RowtideError
from deploy.stack import shop
from deploy.stack.connect import KafkaConnect
from deploy.stack.definition import LOOPBACK, Address, Addresses, register, rowtide, simulate
from deploy.stack.jars import StackUnavailableError, missing
from deploy.stack.kafka import KafkaBroker
from deploy.stack.mariadb import MariaDB, ensure_installed
from deploy.stack.passwords import ensure_passwords, write_addresses
from deploy.stack.postgres import StatePostgres
from deploy.stack.process import ServerFailedError, free_port
from deploy.stack.quickbooks import QuickBooks
from deploy.stack.rowtide import Rowtide

_MARK = ".rowtide-stack"


def default_folder() -> Path:
    """Where a stack is kept; root's is one that the accounts of the databases can reach."""
    if os.geteuid() == 0:
        return Path("/var/lib/rowtide-stack")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "rowtide-stack"


class _Server(Protocol):
    @property
    def alive(self) -> bool: ...


class Stack:
    """All servers and the daemon; a context manager that starts them and stops them in order.

    Args:
        folder: where everything is kept; made where absent.
        say: is told what is being done, in a few words.
        mariadb: more of MariaDB's settings, or others than ours.
    """

    def __init__(
        self, folder: Path, *, say: Callable[[str], None] = lambda _: None, mariadb: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder.expanduser().resolve()
        self.secrets = self.folder / "secrets"
        self._say = say
        self._mariadb = dict(mariadb or {})
        self._lock = -1
        self.passwords: dict[str, str] = {}

    @property
    def addresses(self) -> Addresses:
        """Where the servers listen."""
        return self._addresses

    def start(self) -> None:
        """Start everything and wait until the daemon works. Raises RowtideError; then nothing is left running."""
        require_tools()
        self._claim()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _claim(self) -> None:
        """One stack in a folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            self._lock = os.open(self.folder / _MARK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise RowtideError(
                f"The folder {self.folder} cannot be written: {error.strerror}.", hint="Name another: --state DIR."
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise RowtideError(
                f"A stack runs in {self.folder} already.", hint="End it with Ctrl-C, or name another: --state DIR."
            ) from None

    def _start(self) -> None:
        self._addresses = Addresses(
            mariadb=_place(LOOPBACK.mariadb),
            kafka=_place(LOOPBACK.kafka),
            connect=_place(LOOPBACK.connect),
            page=_place(LOOPBACK.page),
            quickbooks=_place(LOOPBACK.quickbooks),
        )
        self.passwords = ensure_passwords(self.secrets)
        self.mariadb = MariaDB(self.folder / "mariadb", port=self._addresses.mariadb.port, settings=self._mariadb)
        self.kafka = KafkaBroker(self.folder / "kafka", port=self._addresses.kafka.port)
        self.postgres = StatePostgres(self.folder / "postgres")
        self._say("starting MariaDB, Kafka and PostgreSQL")
        with ThreadPoolExecutor(3) as pool:
            for started in [pool.submit(part.start) for part in (self.mariadb, self.kafka, self.postgres)]:
                started.result()
        write_addresses(self.secrets, self.passwords, source=self._addresses.mariadb, state=self.postgres.dsn)
        secrets = str(self.secrets)
        self.rowtide = Rowtide(self.folder, rowtide(self._addresses, secrets=secrets), f"http://{self._addresses.page}")
        self.rowtide.write_script()
        place = self._addresses.quickbooks
        self.quickbooks = QuickBooks(self.folder, self.rowtide.command(*simulate(place)), f"http://{place}")
        # Its administrator is let in over the socket, which only this folder's owner reaches, and by no other way.
        self.mariadb.execute("DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost'", binlog=False)
        self.mariadb.execute("FLUSH PRIVILEGES", binlog=False)
        self.mariadb.folder.chmod(0o700)
        self.connect = KafkaConnect(
            str(self._addresses.kafka), self.folder / "connect", port=self._addresses.connect.port
        )
        self.connect.launch()
        self._say("loading the shop")
        shop.prepare(self.mariadb.connect, self.passwords)
        self.rowtide.run("init")
        self._say("starting Connect with Debezium")
        self.connect.wait()
        self._say("registering the connector and following its snapshot")
        self.rowtide.run(*register(self._addresses, secrets=secrets))
        self._say("starting Rowtide, and a simulator of QuickBooks")
        self.rowtide.start()
        self.quickbooks.start()

    def failed(self) -> str | None:
        """The name of a server that has ended by itself, with the folder of its log; None while all run."""
        parts: dict[str, _Server] = {
            "MariaDB": self.mariadb,
            "Kafka": self.kafka,
            "Connect": self.connect,
            "Rowtide": self.rowtide,
            "QuickBooks": self.quickbooks,
        }
        return next((name for name, part in parts.items() if not part.alive), None)

    def stop(self) -> None:
        """Stop everything, those first that use the others."""
        for name, ending in (
            ("rowtide", "stop"),
            ("quickbooks", "stop"),
            ("connect", "stop"),
            ("kafka", "stop"),
            ("mariadb", "stop"),
            ("postgres", "close"),
        ):
            part = getattr(self, name, None)
            if part is not None:
                getattr(part, ending)()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def require_tools() -> None:
    """Raise StackUnavailableError naming everything that this machine lacks, with the command that installs it."""
    lacking = missing()
    try:
        ensure_installed()
    except ServerFailedError as error:
        reason = f"{lacking}; {error.message}" if lacking else error.message
        raise StackUnavailableError(reason, hint=_INSTALL) from None
    if lacking:
        raise StackUnavailableError(f"{lacking}.", hint=_INSTALL)


_INSTALL = "On Debian or Ubuntu: sudo apt-get install -y openjdk-17-jre-headless maven mariadb-server"


def is_stack(folder: Path) -> bool:
    """Whether a folder is a stack's."""
    return (folder / _MARK).exists()


def _place(wanted: Address) -> Address:
    """The address, with a free port where another program has that one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((wanted.host, wanted.port))
        except OSError:
            return Address(wanted.host, free_port())
    return wanted
