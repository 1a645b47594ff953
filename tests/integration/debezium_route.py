"""A domain behind a connector of Debezium, with the commands its operator types."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from connectors.debezium import Connect
from connectors.log import Message, Record, TopicPartition
from connectors.log.kafka import KafkaLog
from consumers.domain import BUILT_IN, load_domain
from daemon.app import App, open_app
from daemon.debezium import Wishes, connector
from daemon.settings import Settings, load_settings
from deploy.stack.connect import KafkaConnect
from deploy.stack.kafka import KafkaBroker

ROOT = Path(__file__).resolve().parents[2]
TABLES = list(load_domain("rental").tables.values())
PATIENCE = 240.0  # seconds; the machine may be busy with other tests

PER_TABLE = ["--per-table", "--set", "tombstones.on.delete=true"]
# One topic for each table, with everything that makes messages differ from those of the one topic.
WITH_SCHEMAS = [
    *PER_TABLE,
    "--set", "key.converter.schemas.enable=true",
    "--set", "value.converter.schemas.enable=true",
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
            "-m",
            "daemon",
            "--config",
            str(self.config),
            "debezium",
        ]
        return subprocess.run(
            [*command, *arguments, "--password-from", f"file:{self.secret}:password", *self._extra],
            env={**kept, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
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

    # --- the connector's own place ---

    def place(self) -> Any:
        """Where the connector is in the source, as Connect has stored it."""
        return self._rest("GET", "offsets")

    def streams(self) -> bool:
        """Whether that is a place behind the snapshot."""
        return any(not entry["offset"].get("snapshot") for entry in self.place()["offsets"] if entry["offset"])

    def set_back(self, place: Any) -> None:
        """Stop the connector and start it at an earlier place, or at none, from which it takes its snapshot anew."""
        self._rest("PUT", "stop")
        self.wait_until(lambda: self._rest("GET", "status")["connector"]["state"] == "STOPPED", "it does not stop")
        self.wait_until(lambda: not self._rest("GET", "status")["tasks"], "its task does not stop")
        self._rest(*(("DELETE", "offsets") if place is None else ("PATCH", "offsets", place)))
        self._rest("PUT", "resume")

    def snapshots(self) -> int:
        """How many snapshots the connector has completed."""
        return sum(b'"COMPLETED"' in (record.value or b"") for record in self._records(f"{self.name}-notifications"))

    def again(self) -> tuple[int, int]:
        """How many streamed changes are in the topics, by their place in the source; and how many of them twice or more."""
        seen: Counter[tuple[Any, ...]] = Counter()
        for topic in load_settings(self.config, {}).settings.log.topics:
            for record in self._records(topic):
                message = json.loads(record.value or b"{}")
                event = message.get("payload", message)
                if event.get("op") in ("c", "u", "d"):
                    source = event["source"]
                    seen[source["table"], source["file"], source["pos"], source["row"], event["op"]] += 1
        return len(seen), sum(count > 1 for count in seen.values())

    def _records(self, topic: str) -> Iterator[Record]:
        log = KafkaLog(self._servers)
        try:
            at = {TopicPartition(topic, 0): 0}
            while records := log.read(at, limit=10_000):
                yield from records
                at = {TopicPartition(topic, 0): records[-1].offset + 1}
        finally:
            log.close()

    def _rest(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self._connect.url}/connectors/{self.name}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(60)


class Told:
    """What a connector of Debezium tells of a source, put into an app's own log at business time.

    The messages stay as they are but for their times, which become the app's: as a capture does whose business time is
    not the real one.

    Args:
        source: the source's connection string as the connector reaches it.
        kind: mariadb or postgres.
    """

    def __init__(
        self, app: App, source: str, kind: str, folder: Path, broker: KafkaBroker, connect: KafkaConnect
    ) -> None:
        self._app = app
        self.name = app.name + "_" + kind
        secret = folder / f"{self.name}.properties"
        secret.write_text(f"password={urlsplit(source).password}\n")
        settings = Settings.model_validate(
            {"source": {"kind": "none", "dsn": source}, "log": {"kind": "kafka", "servers": broker.servers}}
        )
        wishes = Wishes(
            kind, self.name, password=f"file:{secret}:password", settings={"transforms.one.replacement": self.name}
        )
        self._connector = connector(settings, app.domain, wishes)
        self.grants = [line for line in self._connector.grants(app.domain) if line.startswith(("GRANT", "CREATE PUB"))]
        self._connect = Connect(connect.url)
        self._log = KafkaLog(broker.servers)
        self._position = 0

    def begin(self) -> None:
        """Register the connector and take its snapshot over."""
        self._log.create_topic(self.name)
        self._connect.put(self.name, self._connector.config)
        self._relay(lambda value: b'"snapshot":"last"' in value)

    def until(self, text: str) -> None:
        """Take over everything up to the end of the transaction whose change has this text in it."""
        seen = False

        def last(value: bytes) -> bool:
            nonlocal seen
            seen = seen or text.encode() in value
            return seen and b'"status":"END"' in value

        self._relay(last)

    def _relay(self, is_last: Callable[[bytes], bool]) -> None:
        """Take messages over up to the last one."""
        place, end = TopicPartition(self.name, 0), time.monotonic() + PATIENCE
        at, topic = f'"ts_ms":{self._app.time.now_ms()}'.encode(), self._app.domain.topics[0]
        while time.monotonic() < end:
            messages, done = [], False
            for record in self._log.read({place: self._position}, limit=5000):
                self._position = record.offset + 1
                value = record.value or b""
                messages.append(Message(record.key, re.sub(rb'"ts_ms":\d+', at, value), self._app.time.now_ms()))
                if done := is_last(value):
                    break
            self._app.log.append(topic, messages)
            if done:
                return
            self._log.wait(0.5)
        raise AssertionError(f"{self.name}: {self._connect.state(self.name)}")

    def close(self) -> None:
        """Remove the connector, so that it leaves the source."""
        self._connect.delete(self.name)
        self._log.close()
