"""Several instances of a domain over two daemons: spread, each on its own, taken over on failure."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from counting import TAKEOVER, append
from daemons import Daemon, Daemons, until
from fastapi.testclient import TestClient

from connectors.embedded import EmbeddedPostgres
from connectors.log.embedded import EmbeddedLog
from connectors.state import connect, migrate
from daemon import lead
from daemon.apart import InstancesCollideError
from daemon.app import App, open_app, open_apps
from daemon.settings import load_instances, load_settings
from daemon.several import serve_several
from daemon.web import create_web

NAMES = ("north", "south", "east", "west")


@pytest.fixture
def config(counted: Path, tmp_path: Path) -> Path:
    """One file for all daemons; the instances are tables of it."""
    path = tmp_path / "rowtide.toml"
    path.write_text(f'domain = "{counted}"\n' + "".join(f"[instances.{name}]\n" for name in NAMES))
    return path


def totals(dsn: str, names: Sequence[str] = NAMES) -> list[int]:
    with connect(dsn) as connection:
        found = [connection.execute(f"SELECT coalesce(sum(n), 0) FROM {name}.total").fetchone() for name in names]
    return [int(row[0]) for row in found if row]


def led(dsn: str, names: Sequence[str] = NAMES) -> list[str]:
    with connect(dsn) as connection:
        return [name for name in names if lead.is_led(connection, name)]


@contextmanager
def opened(config: Path, dsn: str, names: Sequence[str] = ()) -> Iterator[list[App]]:
    found = load_instances(config, {"ROWTIDE_STATE__DSN": dsn}, chosen=names)
    with open_apps([loaded.settings for loaded in found]) as apps:
        yield apps


def leads(daemon: Daemon) -> set[str]:
    """The instances that a daemon says it came to lead."""
    return {e["instance"] for e in daemon.seen("daemon.leading")}


def test_a_daemon_of_many_instances_under_load_stops_within_five_seconds(
    start: Daemons, config: Path, database: str
) -> None:
    """SIGTERM in the middle of everybody's work: the end is clean, nothing of it is lost or done twice."""
    daemon = start("--config", config, "run")
    until(lambda: leads(daemon) == set(NAMES))
    stop, counts = threading.Event(), dict.fromkeys(NAMES, 0)

    def load(name: str) -> None:
        while not stop.is_set():
            append(database, name, counts[name], 500)
            counts[name] += 500

    threads = [threading.Thread(target=load, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    try:
        until(lambda: min(totals(database)) > 1000)
        assert daemon.stop(within=5) == 0, "".join(daemon.lines)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert led(database) == []
    last = start("--config", config, "run", "--until-idle")
    assert last.ended() == 0
    assert totals(database) == list(counts.values())


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
    with opened(config, database) as apps:
        assert [app.name for app in apps] == list(NAMES)
        assert all(check.clean for app in apps for check in app.verify())
        assert {app.status()["state"] for app in apps} == {"idle"}
        assert [topic for topic in apps[0].log.topics() if topic.startswith("rowtide.")] == sorted(
            f"rowtide.{name}" for name in NAMES
        )


def test_nothing_is_shared_that_belongs_to_one(config: Path, database: str) -> None:
    """An instance that would capture into another's topic, read its own topic or take its schema is refused at start."""
    migrate(database)
    source = {"ROWTIDE_STATE__DSN": database, "ROWTIDE_SOURCE__DSN": "postgresql://nobody@localhost/none"}

    def init(name: str, domain: str = str(config.parent / "counted"), **extra: str) -> list[str]:
        settings = load_settings(None, {**source, **extra}, {"instance": name, "domain": domain})
        with open_app(settings.settings) as app:
            return app.init()

    assert init("north")
    assert init("north") == []
    with pytest.raises(InstancesCollideError, match="north would both capture into the topic north"):
        init("south", ROWTIDE_LOG__TOPICS="north")
    with pytest.raises(InstancesCollideError, match=r"rowtide\.north, a topic that belongs to one"):
        init("south", ROWTIDE_LOG__TOPICS="rowtide.north")
    with pytest.raises(InstancesCollideError, match="is of the domain counted, not of rental"):
        init("north", "rental")
    with connect(database) as connection:
        found = connection.execute("SELECT name, domain FROM rowtide.instance").fetchall()
    assert found == [("north", "counted")], "a refused one leaves nothing behind"


@pytest.fixture
def regions(server: EmbeddedPostgres) -> Iterator[dict[str, str]]:
    """A source for each of two regions, with tasks of its own, on one server."""
    dsns = {}
    for number, name in enumerate(NAMES[:2]):
        dsns[name] = server.ensure_database(f"region_{name}")
        with connect(dsns[name]) as connection:
            connection.execute("CREATE TABLE task (id integer PRIMARY KEY, n integer)")
            connection.execute("INSERT INTO task SELECT i, 1 FROM generate_series(1, %s) AS i", [10 + number])
    yield dsns
    with connect(server.dsn()) as connection:
        for name in dsns:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
                [f"region_{name}"],
            )
            connection.execute(f"DROP DATABASE region_{name} WITH (FORCE)")


def test_one_process_captures_for_each_instance(counted: Path, database: str, regions: dict[str, str]) -> None:
    """Each captures from its own source by a slot of its own, takes in that alone, and rebuilds alone."""
    path = counted.parent / "rowtide.toml"
    tables = "".join(f'[instances.{name}]\nsource.dsn = "{dsn}"\n' for name, dsn in regions.items())
    path.write_text(f'domain = "{counted}"\n{tables}')
    with opened(path, database) as apps:
        done = serve_several(apps, threading.Event(), until_idle=True)
        assert [summary["domain"] for summary in done] == ["north", "south"]
        assert totals(database, ["north", "south"]) == [10, 11]
        with connect(regions["north"]) as connection:
            connection.execute("UPDATE task SET n = 2")
            slots = connection.execute("SELECT slot_name FROM pg_replication_slots WHERE database LIKE 'region_%'")
            assert sorted(row[0] for row in slots) == ["rowtide_north", "rowtide_south"]
        serve_several(apps, threading.Event(), until_idle=True)
        assert totals(database, ["north", "south"]) == [20, 11]
        south = apps[1].status()["epoch"]
        assert apps[0].rebuild()["events"] > 0
        assert totals(database, ["north", "south"]) == [20, 11]
        assert all(check.clean for app in apps for check in app.verify())
        assert apps[1].status()["epoch"] == south, "the rebuild of one leaves the other alone"


def test_the_page_shows_each_instance(config: Path, database: str) -> None:
    """The top lists all, an instance's page links below its own address, metrics of all stand in one text."""
    migrate(database)
    with opened(config, database, NAMES[:2]) as apps:
        apps[0].init()
        client = TestClient(create_web(*apps))
        assert 'href="/instances/north/"' in client.get("/").text
        assert client.get("/ready").status_code == 503
        states = {name: found["state"] for name, found in client.get("/status").json()["instances"].items()}
        assert states == {"north": "idle", "south": "absent"}
        assert client.get("/instances/north/status").json()["domain"] == "north"
        assert client.get("/instances/north/").status_code == 200
        text = client.get("/metrics").text
    assert 'rowtide_state{domain="north",state="idle"} 1.0' in text
    assert 'rowtide_state{domain="south",state="absent"} 1.0' in text
    assert text.count("# TYPE rowtide_state ") == 1


def test_one_that_stops_leaves_the_others_at_work(start: Daemons, config: Path, database: str) -> None:
    """A gap in the log stops its instance, which says why; the others go on, and the daemon ends with code 0."""
    with opened(config, database, NAMES[:2]) as apps:
        for app in apps:
            app.init()
    append(database, "north", 0, 5)
    log = EmbeddedLog(database)
    assert log.enforce_retention("north", age=timedelta(0), size=None, now_ms=2_000_000_000_000) > 0
    log.close()
    daemon = start("--config", config, "run", "--instance", "north", "--instance", "south")
    daemon.wait_for("instance.stopped", instance="north")
    append(database, "south", 0, 7)
    until(lambda: totals(database, ["south"]) == [7])
    assert led(database) == ["south"]
    with opened(config, database, NAMES[:2]) as apps:
        assert [app.status()["state"] for app in apps] == ["stopped", "running"]
    assert daemon.stop() == 0
