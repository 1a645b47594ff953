"""A domain behind a connector of Debezium, with the commands its operator types."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from consumers.domain import BUILT_IN, load_domain
from daemon.app import open_app
from daemon.settings import load_settings
from deploy.stack.connect import KafkaConnect
from deploy.stack.kafka import KafkaBroker

ROOT = Path(__file__).resolve().parents[2]
TABLES = list(load_domain("rental").tables.values())
PATIENCE = 90.0  # seconds; the machine may be busy with other tests

# One topic for each table, with everything that makes messages differ from those of the one topic.
PER_TABLE = [
    "--per-table",
    "--set", "key.converter.schemas.enable=true",
    "--set", "value.converter.schemas.enable=true",
    "--set", "tombstones.on.delete=true",
]  # fmt: skip


class Route:
    """One instance of a domain behind a connector of its own.

    Args:
        name: of connector and domain; in `folder`, where no domain of that name is there it is a copy of rental.
        extra: more arguments of `rowtide debezium`.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        state: str,
        dsn: str,
        broker: KafkaBroker,
        connect: KafkaConnect,
        extra: Sequence[str] = (),
    ) -> None:
        self.name, self.state, self._connect, self._extra = name, state, connect, extra
        self._folder = folder
        if not (folder / name).exists():
            shutil.copytree(BUILT_IN / "rental", folder / name)
        self._dsn, self._servers = dsn, broker.servers
        self.config = folder / f"{name}.toml"
        self.secret = folder / f"{name}.properties"
        self.secret.write_text(f"password={urlsplit(dsn).password}\n")
        self.write([])
        told = self.command("config", "--topics")
        assert told.returncode == 0, told.stderr
        self.write(json.loads(told.stdout.partition("=")[2]))
        self._stop, self._news = threading.Event(), threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def write(self, topics: list[str]) -> None:
        """The settings file."""
        self.config.write_text(
            f'domain = "{self._folder / self.name}"\n[state]\ndsn = "{self.state}"\n'
            f'[source]\nkind = "none"\ndsn = "{self._dsn}"\n'
            f'[log]\nkind = "kafka"\nservers = "{self._servers}"\ntopics = {json.dumps(topics or [self.name + "-events"])}\n'
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`rowtide debezium …` as a user runs it."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith("ROWTIDE_")}
        command = [
            sys.executable,
            "-c",
            "from daemon.cli import main; main()",
            "--config",
            str(self.config),
            "debezium",
        ]
        return subprocess.run(
            [*command, *arguments, "--password-from", f"file:{self.secret}:password", *self._extra],
            env={**kept, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def register(self) -> subprocess.CompletedProcess[str]:
        return self.command("register", "--connect", self._connect.url, "--json")

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            with open_app(load_settings(self.config, {}).settings) as app:
                app.run(self._stop, on_batch=lambda _: self._news.set())
        except BaseException as error:  # noqa: BLE001 - told where it is waited for
            self.failure = error
            self._news.set()

    def wait_until(self, fulfilled: Callable[[], bool], what: str) -> None:
        """Look after each batch, until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not fulfilled():
            assert self.failure is None, self.failure
            assert time.monotonic() < deadline, f"{self.name}: {what}"
            self._news.wait(0.5)
            self._news.clear()

    def row(self, query: str) -> tuple[Any, ...]:
        with psycopg.connect(self.state, autocommit=True) as connection:
            connection.execute(f"SET search_path = {self.name}, {self.name}_source")
            found = connection.execute(query).fetchone()
        assert found is not None
        return found

    def mirror(self) -> dict[str, set[tuple[Any, ...]]]:
        with psycopg.connect(self.state, autocommit=True) as connection:
            return {
                table.name: set(
                    connection.execute(
                        f"SELECT {', '.join(table.names)} FROM {self.name}_source.{table.name}"
                    ).fetchall()
                )
                for table in TABLES
            }

    def differing(self, expected: dict[str, set[tuple[Any, ...]]]) -> dict[str, tuple[list[Any], list[Any]]]:
        """By table, some rows that only the source or only the mirror has."""
        actual = self.mirror()
        return {
            name: (sorted(rows - actual[name], key=repr)[:3], sorted(actual[name] - rows, key=repr)[:3])
            for name, rows in expected.items()
            if rows != actual[name]
        }

    def assert_clean(self) -> None:
        """Stopped: nothing failed, models equal their queries, nothing is parked."""
        self.close()
        assert self.failure is None
        with open_app(load_settings(self.config, {}).settings) as app:
            assert [check for check in app.verify() if not check.clean] == []
            assert app.status()["parked"] == 0

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(60)
