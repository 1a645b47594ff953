"""The whole way, MariaDB → capture → Kafka → tables, with each of its links and servers ours to break."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
import pymysql
from daemons import Daemon, Daemons, daemons, until
from domain_folder import write_domain
from links import Proxy

from connectors.embedded import EmbeddedPostgres
from connectors.event import Change, Decoder
from connectors.log import TopicPartition
from connectors.log.kafka import KafkaLog
from consumers.domain import load_domain
from deploy.stack.kafka import KafkaBroker
from deploy.stack.mariadb import MariaDB

SOURCE = (
    "CREATE TABLE entry (id integer PRIMARY KEY, account_id integer NOT NULL)",
    "CREATE TABLE account (id integer PRIMARY KEY, amount integer NOT NULL)",
    "INSERT INTO account VALUES (0, 0), (1, 0), (2, 0)",
)
# Every entry adds one to its account, in one transaction: whoever sees half of one sees a difference.
MODEL = """-- key: id
SELECT a.id, a.amount, count(e.id) AS entries FROM account AS a LEFT JOIN entry AS e ON e.account_id = a.id
GROUP BY a.id, a.amount
"""


def chain_domain(folder: Path) -> Path:
    """A domain whose name, and so whose topics, nobody else has."""
    name = f"chain_{uuid.uuid4().hex[:8]}"
    return write_domain(folder / name, ";\n".join(SOURCE[:2]) + ";\n", {"account_entries": MODEL})


class Writer:
    """An application that writes to MariaDB without end, and gets over its restarts; a context manager."""

    def __init__(self, server: MariaDB, database: str, first: int = 1, pause: float = 0.03) -> None:
        self._server = server
        self._database = database
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(first,), daemon=True)
        self.last = 0  # the last entry that was certainly committed

    def _work(self, number: int) -> None:
        connection: Any = None
        while not self._stop.wait(self._pause):
            number += 1
            try:
                connection = connection or self._server.connect(self._database)
                connection.begin()
                with connection.cursor() as cursor:
                    cursor.execute(f"INSERT INTO entry VALUES ({number}, {number % 3})")
                    cursor.execute(f"UPDATE account SET amount = amount + 1 WHERE id = {number % 3}")
                connection.commit()
                self.last = number
            except pymysql.err.MySQLError:
                connection = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stop.set()
        self._thread.join(30)


class Chain:
    """Servers, links and daemons of one domain."""

    def __init__(
        self, mariadb: MariaDB, broker: KafkaBroker, broker_link: Proxy, state: EmbeddedPostgres, folder: Path
    ) -> None:
        self.mariadb = mariadb
        self.broker = broker
        self.broker_link = broker_link
        self.state = state
        self.folder = chain_domain(folder)
        self.domain = load_domain(str(self.folder))
        self.name = self.domain.name
        self.dsn = state.ensure_database("state")
        mariadb.create_database(self.name)
        mariadb.execute(*SOURCE, database=self.name)
        tables = list(self.domain.tables.values())
        self.source_link = Proxy(("127.0.0.1", mariadb.port))
        dsn = mariadb.create_capture_user(tables, database=self.name, user=f"u_{self.name[-8:]}")
        self.environment = {
            "ROWTIDE_STATE__DSN": self.dsn,
            "ROWTIDE_SOURCE__DSN": dsn.replace(f":{mariadb.port}/", f":{self.source_link.port}/"),
            "ROWTIDE_SOURCE__HEARTBEAT_SECONDS": "1",
            "ROWTIDE_LOG__KIND": "kafka",
            "ROWTIDE_LOG__SERVERS": broker.servers,
        }
        self.start: Daemons
        self.daemon: Daemon

    def status(self) -> dict[str, Any]:
        """What `rowtide status --json` says now."""
        looked = self.start("--domain", self.folder, "status", "--json")
        assert looked.ended() == 0, "".join(looked.lines)
        return dict(json.loads(looked.output()))

    def rows(self) -> tuple[int, int, bool]:
        """The entries, the largest of them, and whether no transaction is there by half; (0, 0, True) without a database."""
        try:
            with psycopg.connect(self.dsn) as connection:
                found = connection.execute(
                    f"SELECT sum(entries)::int, (SELECT coalesce(max(id), 0) FROM {self.name}_source.entry WHERE id < 1000000), "
                    f"bool_and(entries = amount) FROM {self.name}.account_entries"
                ).fetchone()
        except psycopg.OperationalError:
            return 0, 0, True
        return (found[0] or 0, found[1], found[2] is not False) if found else (0, 0, True)

    def reaches(self, number: int) -> None:
        """Wait until an entry is in the tables; none is ever seen by half."""

        def there() -> bool:
            if self.daemon.process.poll() == -signal.SIGABRT:  # Kafka's client library: see docs/kafka.md
                self.daemon = self.start("--domain", self.folder, "run")  # as systemd does
            _, last, whole = self.rows()
            assert whole, "half a transaction is visible"
            return last >= number

        until(there)

    def topic_entries(self) -> list[int]:
        """The entries that the topic tells as created or read, in its order."""
        log = KafkaLog(self.broker.servers)
        decoder = Decoder(list(self.domain.tables.values()))
        place = TopicPartition(self.domain.topics[0], 0)
        found: list[int] = []
        at = {place: 0}
        while records := log.read(at, limit=10_000):
            at = {place: records[-1].offset + 1}
            for record in records:
                event = decoder.decode(record.key, record.value)
                if isinstance(event, Change) and event.table == "entry":
                    assert event.op in "cr"
                    found.append(int(event.key[0]))
        log.close()
        return found

    def source_entries(self) -> list[int]:
        connection = self.mariadb.connect(self.name)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT id FROM entry ORDER BY id")
                return [row[0] for row in cursor.fetchall()]
        finally:
            connection.close()


@contextmanager
def chain(mariadb: MariaDB) -> Iterator[Chain]:
    """A chain with a broker behind a link and a state database of its own, and a daemon that runs."""
    folder = Path(tempfile.mkdtemp(prefix="rowtide-chain-"))
    broker = KafkaBroker()
    link = Proxy(("127.0.0.1", broker.port))
    broker.settings["advertised.listeners"] = f"PLAINTEXT://127.0.0.1:{link.port}"
    try:
        with broker, EmbeddedPostgres(folder / "pg") as state:
            made = Chain(mariadb, broker, link, state, folder)
            with daemons(made.environment, folder) as start:
                made.start = start
                made.daemon = start("--domain", made.folder, "run")
                made.daemon.wait_for("snapshot.completed")
                yield made
            made.source_link.close()
            mariadb.execute(f"DROP DATABASE IF EXISTS {made.name}")
    finally:
        link.close()
        shutil.rmtree(folder, ignore_errors=True)
