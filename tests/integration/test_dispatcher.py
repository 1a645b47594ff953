"""The dispatcher against a real source and a real state database, round by round."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from domain_folder import write_domain

from connectors.capture.running import SourceUnavailableError
from connectors.embedded import EmbeddedPostgres
from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.state import migrate
from connectors.writeback.postgres import PostgresFlags
from consumers import deliveries
from consumers.domain import load_domain
from consumers.engine import instance
from consumers.engine.analysis import analyse
from consumers.worker import BatchStats
from daemon.dispatcher import Dispatcher, NotLeadingError
from daemon.writeback import Currency
from deploy.stack.process import free_port

TOML = """
[write_back.flags]
table = "item"
model = "pending"
set = { flag = "new" }
guard = { flag = "known" }
"""


class Room:
    """A state database with an instance whose pending rows a test sets by hand, a source, and a dispatcher."""

    def __init__(self, state: str, source: str, folder: Path) -> None:
        home = write_domain(
            folder / "flags",
            "CREATE TABLE item (id integer PRIMARY KEY, flag text);",
            {"pending": "-- key: id\nSELECT i.id, i.flag || '!' AS new, i.flag AS known FROM item AS i"},
            toml=TOML,
        )
        migrate(state)
        self.connection = psycopg.connect(state, autocommit=True)
        self.source = psycopg.connect(source, autocommit=True)
        analysis = analyse(load_domain(str(home)))
        instance.create(self.connection, "flags", analysis)
        self.source.execute("CREATE TABLE item (id integer PRIMARY KEY, flag varchar(5))")
        self.leads = self.is_current = True
        self._state = state
        self.sink = deliveries.sinks(analysis, "flags")[0]
        self.dispatcher = self.dispatching(source)

    def dispatching(self, source: str) -> Dispatcher:
        return Dispatcher(
            self._state,
            [self.sink],
            PostgresFlags(source, schema="public", name="room"),
            leads=lambda _: self.leads,
            is_current=lambda _: self.is_current,
        )

    def pend(self, *rows: tuple[int, str, str | None]) -> None:
        """Let these be the pending rows: key, value to write, value known."""
        with self.connection.transaction():
            self.connection.execute("DELETE FROM flags.pending")
            for row in rows:
                self.connection.execute("INSERT INTO flags.pending (id, new, known) VALUES (%s, %s, %s)", row)

    def hold(self, **flags: str | None) -> None:
        """Let the source hold these rows: n1='a'."""
        for name, flag in flags.items():
            self.source.execute(
                "INSERT INTO item VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET flag = excluded.flag", [name[1:], flag]
            )

    def flags(self) -> dict[int, str | None]:
        return dict(self.source.execute("SELECT id, flag FROM item ORDER BY id").fetchall())

    def deliveries(self) -> dict[str, tuple[str, int]]:
        rows = self.connection.execute("SELECT key, state, attempts FROM rowtide.delivery ORDER BY key").fetchall()
        return {key: (state, attempts) for key, state, attempts in rows}

    def round(self) -> float:
        return self.dispatcher.round(threading.Event())

    def come_due(self) -> None:
        self.connection.execute("UPDATE rowtide.delivery SET due_at = now()")

    def close(self) -> None:
        self.dispatcher.close()
        self.connection.close()
        self.source.close()


@pytest.fixture
def room(database: str, server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Room]:
    name = database_name(database) + "_source"
    made = Room(database, server.ensure_database(name), tmp_path)
    yield made
    made.close()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def database_name(dsn: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])


def test_a_delivery_lives_until_its_pending_row_goes(room: Room) -> None:
    """What is done is not done again in every round, is looked at again when due, and is forgotten with its row."""
    room.hold(n1="a", n2=None)
    room.pend((1, "b", "a"), (2, "b", None))
    room.round()
    assert room.flags() == {1: "b", 2: "b"}
    assert room.deliveries() == {"[1]": ("completed", 1), "[2]": ("completed", 1)}
    assert 0 < room.round() <= 5
    assert room.deliveries() == {"[1]": ("completed", 1), "[2]": ("completed", 1)}
    room.come_due()
    room.round()
    assert room.deliveries() == {"[1]": ("completed", 2), "[2]": ("completed", 2)}
    assert room.dispatcher.counts.written == 2
    room.pend((2, "c", "b"))
    room.round()
    assert room.flags() == {1: "b", 2: "c"}
    assert room.deliveries() == {"[2]": ("completed", 1)}


def test_somebody_newer_is_left_alone_until_the_mirror_tells(room: Room) -> None:
    """A row that a person changed, or removed, is discarded; the next decision, made on the newer value, is written."""
    room.hold(n1="mine")
    room.pend((1, "b", "a"), (2, "b", "a"))
    room.round()
    assert room.flags() == {1: "mine"}
    assert room.deliveries() == {"[1]": ("discarded", 1), "[2]": ("discarded", 1)}
    room.pend((1, "b", "mine"))
    room.round()
    assert room.flags() == {1: "b"}


def test_a_refused_value_is_parked_and_tried_again_when_asked(room: Room) -> None:
    """What the source refuses stays parked, others go on; another decision or a person's word tries again."""
    room.hold(n1="a", n2="a")
    room.pend((1, "far too long", "a"), (2, "b", "a"))
    room.round()
    assert room.deliveries() == {"[1]": ("parked", 1), "[2]": ("completed", 1)}
    room.come_due()
    room.round()
    assert room.deliveries()["[1]"] == ("parked", 1)
    assert "1 parked" in str(deliveries.why_waiting(room.connection, "flags"))
    assert [row["key"] for row in deliveries.listed(room.connection, "flags", 5)] == ["[1]"]
    room.source.execute("ALTER TABLE item ALTER COLUMN flag TYPE text")
    assert deliveries.retry(room.connection, "flags") == 1
    room.round()
    assert room.flags() == {1: "far too long", 2: "b"}
    assert deliveries.why_waiting(room.connection, "flags") is None


def test_a_source_that_is_away_costs_no_attempt(room: Room) -> None:
    """Deliveries are put back without an attempt, the reason is told, and they are done when the source is there."""
    room.hold(n1="a")
    room.pend((1, "b", "a"))
    away = room.dispatching(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    for _ in range(3):
        with pytest.raises(SourceUnavailableError):
            away.round(threading.Event())
    away.close()
    assert room.deliveries() == {"[1]": ("retryable", 0)}
    assert "cannot be reached" in str(deliveries.why_waiting(room.connection, "flags"))
    room.round()
    assert room.deliveries() == {"[1]": ("completed", 1)}


def test_only_the_leader_delivers_and_only_what_is_current(room: Room) -> None:
    """Who no longer leads takes nothing up and ends; models that lag are not delivered from."""
    room.hold(n1="a")
    room.pend((1, "b", "a"))
    room.is_current = False
    room.round()
    room.is_current, room.leads = True, False
    with pytest.raises(NotLeadingError):
        room.round()
    room.dispatcher.run(threading.Event())
    assert (room.flags(), room.deliveries()) == ({1: "a"}, {})


def test_many_pages_are_delivered_in_one_round(room: Room) -> None:
    """Pending rows beyond one page are reached, each once."""
    total = 2 * deliveries.PAGE + 7
    room.source.execute("INSERT INTO item SELECT n, 'a' FROM generate_series(1, %s) AS n", [total])
    room.connection.execute(
        "INSERT INTO flags.pending (id, new, known) SELECT n, 'b', 'a' FROM generate_series(1, %s) AS n", [total]
    )
    room.round()
    assert room.dispatcher.counts.written == total
    assert room.source.execute("SELECT count(*) FROM item WHERE flag = 'b'").fetchone() == (total,)


def test_a_swap_under_the_dispatcher_is_waited_for(room: Room) -> None:
    """Tables that a rebuild takes away end a round, not the thread."""
    room.hold(n1="a")
    room.pend((1, "b", "a"))
    room.connection.execute("ALTER SCHEMA flags RENAME TO flags_away")
    over = threading.Event()
    thread = threading.Thread(target=room.dispatcher.run, args=(over,))
    thread.start()
    pause = threading.Event()
    for _ in range(600):
        if room.dispatcher.counts.failed_rounds:
            break
        pause.wait(0.01)
    room.connection.execute("ALTER SCHEMA flags_away RENAME TO flags")
    room.dispatcher.wake()
    for _ in range(600):
        if room.flags() == {1: "b"}:
            break
        pause.wait(0.01)
    over.set()
    thread.join(10)
    assert not thread.is_alive()
    assert room.flags() == {1: "b"}
    assert room.dispatcher.counts.failed_rounds > 0


class Log:
    """Where the log of a currency's test ends, and what time it is."""

    def __init__(self) -> None:
        self.ends: dict[TopicPartition, int] = {TopicPartition("t", 0): 100}
        self.at_end = False
        self.now = 0.0
        self.fails = False

    def ends_now(self) -> dict[TopicPartition, int]:
        if self.fails:
            raise RowtideError("away")
        return self.ends


@pytest.fixture
def currency(database: str) -> Iterator[tuple[Any, Log, Any]]:
    migrate(database)
    log = Log()
    made = Currency("i", log.ends_now, lambda _: log.at_end, lambda: log.now)
    with psycopg.connect(database, autocommit=True) as connection:

        def look(position: int, seconds: float) -> bool:
            log.now += seconds
            connection.execute("DELETE FROM rowtide.position")
            connection.execute("INSERT INTO rowtide.position VALUES ('i', 't', 0, %s)", [position])
            return made(connection)

        yield made, log, look


def stats(lag_ms: float | None) -> BatchStats:
    return BatchStats(1, 1, 0, 0.0, lag_ms, {})


def test_models_behind_the_log_are_not_current(currency: tuple[Any, Log, Any]) -> None:
    """Current is who holds what the log held seconds ago, however fast it grows; not who falls behind."""
    made, log, look = currency
    made.committed(stats(50.0))
    assert not look(10, 0.1)
    assert look(100, 0.1)
    for end in range(200, 1000, 100):
        log.ends = {TopicPartition("t", 0): end}
        assert look(end - 50, 1.0), "a moment behind a growing log is current"
        made.committed(stats(50.0))
    log.ends = {TopicPartition("t", 0): 10_000}
    look(1000, 0.1)
    assert [look(1000 + n, 1.0) for n in range(12)][-1] is False
    assert look(10_000, 0.1)
    log.fails = True
    assert not look(10_000, 0.1)


def test_old_changes_are_waited_out(currency: tuple[Any, Log, Any]) -> None:
    """While changes of hours ago come in, the models are of hours ago; when none come any more, they are of now."""
    made, _, look = currency
    for _ in range(3):
        made.committed(stats(3_600_000.0))
        assert not look(100, 0.5)
    assert look(100, 2.0)
    made.committed(stats(20.0))
    assert look(100, 0.1)


def test_results_say_nothing_of_the_source(currency: tuple[Any, Log, Any]) -> None:
    """A batch without anything of the source leaves its age as it was known: young or old."""
    made, _, look = currency
    made.committed(stats(20.0))
    made.committed(stats(None))
    assert look(100, 0.1)
    made.committed(stats(3_600_000.0))
    made.committed(stats(None))
    assert not look(100, 0.1)


def test_a_log_that_ends_behind_its_last_record_is_reached(currency: tuple[Any, Log, Any]) -> None:
    """Markers after the last record are no records: who has nothing to read has everything."""
    _, log, look = currency
    log.at_end = True
    assert not look(99, 0.1)
    assert look(99, 3.0)
