"""A MariaDB server with its binlog on, ready for capture: Debian's package, run from a folder of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql

from connectors.capture.mysql import grants
from connectors.table import Table
from deploy.stack.definition import MARIADB
from deploy.stack.process import ServerFailedError, free_port
from deploy.stack.server import Server

_ACCOUNT = "mysql"  # the package's account: the server refuses to run as root


def installed() -> bool:
    """Whether this machine has the server's programs."""
    return shutil.which("mariadbd") is not None and shutil.which("mariadb-install-db") is not None


def ensure_installed() -> None:
    """Install Debian's mariadb-server where it is absent. Raises ServerFailedError where that cannot be done."""
    if installed():
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ServerFailedError(
            "MariaDB's server is not installed, and only root on Debian or Ubuntu can have it installed from here.",
            hint="Install it by hand: sudo apt-get install mariadb-server",
        )
    # RUNLEVEL keeps the package from starting a service of its own beside ours.
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "mariadb-server"]
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not installed():
        raise ServerFailedError(
            f"MariaDB's server could not be installed: {' | '.join(done.stderr.strip().splitlines()[-3:])}",
            hint="Install it by hand: sudo apt-get install mariadb-server",
        )


class MariaDB(Server):
    """A MariaDB server.

    Args:
        folder: as of every server.
        port: on loopback; None for a free one, which it keeps over restarts.
        server_id: its number among replicating servers.
        settings: more of the server's variables, or others than the defaults.
    """

    title = "MariaDB"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int | None = None,
        server_id: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._account = _ACCOUNT if os.geteuid() == 0 else None
        super().__init__(folder, "server.log", user=self._account)
        self.port = port or free_port()
        self.socket = self.folder / "s"  # short: a socket's path may have 107 characters
        self._settings = {**MARIADB, "server_id": str(server_id), **(settings or {})}
        self._passwords: dict[str, str] = {}

    # --- running ---

    def start(self) -> None:
        """Start the server (its folder is made at the first start) and wait until it answers."""
        if self._process.alive:
            return
        self._prepare()
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        program = shutil.which("mariadbd") or "mariadbd"
        self._process.start(
            [
                program,
                "--no-defaults",
                f"--datadir={self.folder / 'data'}",
                f"--socket={self.socket}",
                f"--pid-file={self.folder / 'pid'}",
                "--bind-address=127.0.0.1",
                f"--port={self.port}",
                *options,
            ],
            folder=self.folder,
        )
        self._await(self._answers)
        self.execute("DELETE FROM mysql.global_priv WHERE User = ''", "FLUSH PRIVILEGES", binlog=False)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def _prepare(self) -> None:
        data = self.folder / "data"
        if (data / "mysql").exists():
            return
        program = shutil.which("mariadb-install-db")
        if program is None:
            raise ServerFailedError("MariaDB's server is not installed.", hint="sudo apt-get install mariadb-server")
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [program, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        if self._account is not None:
            entry = pwd.getpwnam(self._account)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            command.append(f"--user={self._account}")
        done = subprocess.run([*command, "--skip-test-db"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailedError(
                f"MariaDB's data folder could not be made: {' | '.join(done.stderr.strip().splitlines()[-3:])}",
                hint=f"Free the disk, or see {self.folder}.",
            )

    # --- using ---

    def connect(self, database: str | None = None, **options: Any) -> pymysql.connections.Connection[Any]:
        """A connection of the administrator, over the socket; autocommit unless told otherwise."""
        # TLS adds nothing to a socket of this machine, and preparing it takes longer than most statements.
        options = {"autocommit": True, "charset": "utf8mb4", "ssl_disabled": True, **options}
        return pymysql.connect(unix_socket=str(self.socket), user="root", database=database, **options)

    def execute(self, *statements: str, database: str | None = None, binlog: bool = True) -> None:
        """Run statements as the administrator, each committed; without `binlog` they are not replicated."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                if not binlog:
                    cursor.execute("SET SESSION sql_log_bin = 0")
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    def create_database(self, name: str) -> None:
        """Make an empty database of that name, in place of what was there."""
        self.execute(f"DROP DATABASE IF EXISTS `{name}`", f"CREATE DATABASE `{name}`")

    def create_capture_user(self, tables: Sequence[Table], *, database: str, user: str = "rowtide") -> str:
        """Make the user with exactly the rights that `grants` prints; returns its connection string for the database.

        The string carries the password, which is made up here.
        """
        statements = [
            line
            for line in grants(tables, user=user, database=database, mariadb=True)
            if not line.startswith(("--", "SET GLOBAL"))
        ]
        password = self._passwords.setdefault(user, secrets.token_urlsafe(18))
        self.execute(f"DROP USER IF EXISTS '{user}'@'%'", *(s.rstrip(";") for s in statements), binlog=False)
        self.execute(f"ALTER USER '{user}'@'%' IDENTIFIED BY '{password}' ACCOUNT UNLOCK", binlog=False)
        return self.dsn(database, user=user, password=password)

    def dsn(self, database: str, *, user: str, password: str) -> str:
        """The connection string of a user for a database, over TCP."""
        return f"mysql://{quote(user)}:{quote(password, safe='')}@127.0.0.1:{self.port}/{quote(database)}"


def main() -> None:
    """Have the server installed, or tell that its tests will be skipped; in CI that is a failure."""
    try:
        ensure_installed()
    except ServerFailedError as error:
        sys.stderr.write(f"{error}\n")
        if os.environ.get("CI"):
            raise SystemExit(1) from None
        sys.stderr.write("The tests that need MariaDB will be skipped.\n")


if __name__ == "__main__":
    main()
