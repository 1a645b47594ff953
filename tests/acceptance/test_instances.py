"""Several instances of a domain over two daemons: spread, each on its own, taken over on failure."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from daemons import Daemon, Daemons, daemons, until

from connectors.event import Source, encode_change
from connectors.log import Message
from connectors.log.embedded import EmbeddedLog
from connectors.state import connect, migrate
from connectors.table import Column, Table
from daemon import lead
from daemon.app import open_apps
from daemon.settings import load_instances

TASK = Table("task", (Column("id", "integer"), Column("n", "integer")), ("id",))
TAKEOVER = 15.0
NAMES = ("north", "south", "east", "west")


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    folder = tmp_path / "counted"
    (folder / "models").mkdir(parents=True)
    (folder / "source.sql").write_text("CREATE TABLE task (id integer PRIMARY KEY, n integer);")
    (folder / "models" / "total.sql").write_text(
        "-- key: part\nSELECT id % 3 AS part, sum(n) AS n FROM task GROUP BY id % 3"
    )
    return folder


@pytest.fixture
def config(counted: Path, tmp_path: Path) -> Path:
    """One file for all daemons; the instances are tables of it."""
    path = tmp_path / "rowtide.toml"
    path.write_text(f'domain = "{counted}"\n' + "".join(f"[instances.{name}]\n" for name in NAMES))
    return path


@pytest.fixture
def start(database: str, tmp_path: Path) -> Iterator[Daemons]:
    migrate(database)
    with daemons({"ROWTIDE_STATE__DSN": database}, tmp_path) as starting:
        yield starting


def append(dsn: str, topic: str, first: int, count: int) -> None:
    log = EmbeddedLog(dsn)
    source = Source("postgresql", "s", "d", "public", "task", 1_700_000_000_000)
    rows = [(str(n), "1") for n in range(first, first + count)]
    log.append(topic, [Message(*encode_change(TASK, "c", row[:1], row, source=source), 1) for row in rows])
    log.close()


def totals(dsn: str, names: Sequence[str] = NAMES) -> list[int]:
    with connect(dsn) as connection:
        found = [connection.execute(f"SELECT coalesce(sum(n), 0) FROM {name}.total").fetchone() for name in names]
    return [int(row[0]) for row in found if row]


def led(dsn: str, names: Sequence[str] = NAMES) -> list[str]:
    with connect(dsn) as connection:
        return [name for name in names if lead.is_led(connection, name)]


def leads(daemon: Daemon) -> set[str]:
    """The instances that a daemon says it came to lead."""
    return {e["instance"] for e in daemon.seen("daemon.leading")}


def test_instances_are_spread_and_taken_over(start: Daemons, config: Path, database: str) -> None:
    """Two daemons share four instances; after SIGKILL of one the other leads all within 15 s, nothing lost or twice."""
    pair = [start("--config", config, "run") for _ in range(2)]
    until(lambda: sorted(NAMES) == sorted(led(database)))
    until(lambda: leads(pair[0]) | leads(pair[1]) == set(NAMES))
    first, second = pair
    assert leads(first), "the daemons share"
    assert leads(second), "the daemons share"
    assert not leads(first) & leads(second)
    for number, name in enumerate(NAMES):
        append(database, name, 0, 10 + number)
    until(lambda: totals(database) == [10, 11, 12, 13])
    first.signal(signal.SIGKILL)
    began = time.monotonic()
    for name in NAMES:
        append(database, name, 100, 50)
    until(lambda: leads(second) == set(NAMES), every=0.05)
    assert time.monotonic() - began < TAKEOVER
    until(lambda: totals(database) == [60, 61, 62, 63])
    assert second.stop() == 0
    assert {e["instance"] for e in second.seen("batch.committed")} == set(NAMES)
    environment = {"ROWTIDE_STATE__DSN": database}
    with open_apps([loaded.settings for loaded in load_instances(config, environment)]) as apps:
        assert [app.name for app in apps] == list(NAMES)
        assert all(check.clean for app in apps for check in app.verify())
        assert {app.status()["state"] for app in apps} == {"idle"}
        assert [topic for topic in apps[0].log.topics() if topic.startswith("rowtide.")] == sorted(
            f"rowtide.{name}" for name in NAMES
        )


def test_one_that_stops_leaves_the_others_at_work(start: Daemons, config: Path, database: str) -> None:
    """A gap in the log stops its instance, which says why; the others go on, and the daemon ends with code 0."""
    for name in NAMES[:2]:
        set_up = start("--config", config, "--instance", name, "init")
        assert set_up.ended() == 0
    append(database, "north", 0, 5)
    log = EmbeddedLog(database)
    assert log.enforce_retention("north", age=timedelta(0), size=None, now_ms=2_000_000_000_000) > 0
    log.close()
    daemon = start("--config", config, "run", "--instance", "north", "--instance", "south")
    daemon.wait_for("instance.stopped", instance="north")
    append(database, "south", 0, 7)
    until(lambda: totals(database, ["south"]) == [7])
    assert led(database) == ["south"]
    looked = start("--config", config, "--instance", "north", "status", "--json")
    assert looked.ended() == 0
    assert '"state": "stopped"' in looked.output()
    assert daemon.stop() == 0
