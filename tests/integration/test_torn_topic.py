"""What a killed connector leaves in its topic, worked off by a daemon: nothing is seen by half, stored behind, or lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from domain_folder import write_domain

from connectors.log import Message
from connectors.state import migrate
from consumers.domain import load_domain
from daemon.app import App
from daemon.replay_request import Request
from daemon.settings import Settings
from daemon.times import BusinessTime

TOPIC, ASIDE = "shop", "aside"
BEGUN_MS = 1_700_000_000_000
PATIENCE = 30.0
COUNTS = (
    "SELECT count(*) FILTER (WHERE o.id IS NOT NULL AND i.id IS NOT NULL), "
    "count(*) FILTER (WHERE o.id IS NULL OR i.id IS NULL) FROM shop_source.orders AS o FULL JOIN shop_source.item AS i USING (id)"
)


def message(table: str, op: str, number: int, transaction: int | None = None, order: int = 1) -> Message:
    """A change as Debezium tells it of MySQL."""
    row = {"id": number}
    at = BEGUN_MS + 1000 * (transaction or 0)
    source = {"connector": "mysql", "version": "3.5.0.Final", "table": table, "ts_ms": at}
    place = {"file": "binlog.000001", "pos": number, "row": 0}
    envelope = {
        "op": op,
        "before": row if op == "d" else None,
        "after": None if op == "d" else row,
        "source": source | place,
        "ts_ms": at,
        "transaction": None if transaction is None else {"id": f"0-1-{transaction}", "total_order": order},
    }
    return Message(json.dumps(row).encode(), json.dumps(envelope).encode(), at)


def boundary(status: str, transaction: int) -> Message:
    at = BEGUN_MS + 1000 * transaction
    count = 2 if status == "END" else None
    value = {"status": status, "id": f"0-1-{transaction}", "ts_ms": at, "event_count": count, "data_collections": None}
    return Message(b"{}", json.dumps(value).encode(), at)


def whole(*numbers: int) -> list[Message]:
    """Transactions that enter an order and its item each."""
    return [
        told
        for n in numbers
        for told in (boundary("BEGIN", n), message("orders", "c", n, n, 1), message("item", "c", n, n, 2), boundary("END", n))
    ]  # fmt: skip


class Daemon:
    """An app that serves until told to stop, and looks for halves after each batch."""

    def __init__(self, app: App, database: str) -> None:
        self.app = app
        self.news = threading.Condition()
        self.halves = 0
        self.failure: BaseException | None = None
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def counts(self) -> tuple[int, int]:
        """Whole orders and halves."""
        with psycopg.connect(self._database) as connection:
            found = connection.execute(COUNTS).fetchone()
        assert found is not None
        return int(found[0]), int(found[1])

    def _look(self, _: Any) -> None:
        with self.news:
            self.halves += self.counts()[1]
            self.news.notify_all()

    def _run(self) -> None:
        try:
            self.app.run(self._stop, on_batch=self._look)
        except BaseException as error:  # noqa: BLE001 - told where it is waited for
            self.failure = error
        with self.news:
            self.news.notify_all()

    def wait(self, fulfilled: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.failure is not None or fulfilled(), PATIENCE), "it does not come"
        assert self.failure is None, self.failure

    def positions(self) -> dict[str, int]:
        with psycopg.connect(self._database) as connection:
            found = connection.execute("SELECT topic, next_offset FROM rowtide.position").fetchall()
        return dict(found)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        self.app.close()


@pytest.fixture
def start(database: str, tmp_path: Path) -> Callable[[], Any]:
    """Serve the shop's domain, as a context manager."""
    folder = write_domain(
        tmp_path / "shop",
        "CREATE TABLE orders (id integer PRIMARY KEY);\nCREATE TABLE item (id integer PRIMARY KEY);",
        {"sold": "-- key: id\nSELECT i.id FROM item AS i JOIN orders AS o ON o.id = i.id"},
        toml=f'[source]\ntopics = ["{TOPIC}", "{ASIDE}"]\n',
    )
    migrate(database)
    domain = load_domain(str(folder))

    @contextmanager
    def started() -> Iterator[Daemon]:
        daemon = Daemon(App(Settings(), database, domain, BusinessTime()), database)
        daemon.app.init()
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.close()

    return started


def test_a_torn_transaction_over_a_restart_of_the_daemon(start: Callable[[], Any]) -> None:
    """The half that was read is neither seen nor stored behind; with its repetition it is whole."""
    with start() as daemon:
        daemon.app.log.append(TOPIC, [*whole(1, 2), *whole(3)[:2]])
        daemon.app.log.append(ASIDE, [Message(None, b'{"ts_ms": %d}' % BEGUN_MS, BEGUN_MS)])
        daemon.wait(lambda: daemon.positions().get(ASIDE) == 1)
        daemon.app.log.append(TOPIC, whole(1))
        daemon.app.log.append(ASIDE, [Message(None, b'{"ts_ms": %d}' % BEGUN_MS, BEGUN_MS)])
        daemon.wait(lambda: daemon.positions().get(ASIDE) == 2)
        assert daemon.positions()[TOPIC] == len(whole(1, 2))
        assert (daemon.counts(), daemon.halves) == ((2, 0), 0)
    with start() as daemon:
        daemon.app.log.append(TOPIC, whole(2))
        daemon.app.log.append(TOPIC, whole(3, 4))
        daemon.wait(lambda: daemon.counts()[0] == 4)
        assert daemon.halves == 0
        assert daemon.positions()[TOPIC] == len(whole(1, 2)) + 2 + len(whole(1, 2, 3, 4))
    with psycopg.connect(daemon._database) as connection:
        assert connection.execute("SELECT array_agg(id ORDER BY id) FROM shop.sold").fetchone() == ([1, 2, 3, 4],)


def test_a_replay_takes_what_the_log_ends_with(start: Callable[[], Any], tmp_path: Path) -> None:
    """A deletion at the log's end waits for its other half also where events are taken in again: it is not forgotten."""
    with start() as daemon:
        daemon.app.log.append(TOPIC, [message("orders", "c", 1), message("orders", "c", 2), message("orders", "d", 1)])
        daemon.wait(lambda: daemon.positions().get(TOPIC) == 3)
        file = tmp_path / "positions.json"
        file.write_text(json.dumps({f"{TOPIC}/0": 0, f"{ASIDE}/0": 0}))
        app = daemon.app
        told = app.replay(Request(str(file), restart=True))
        assert told["same"], told
