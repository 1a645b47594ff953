"""`rowtide init --snapshot`: the way out where events are lost, over each kind of source and log."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from domain_folder import write_domain
from typer.testing import CliRunner

from connectors.embedded import EmbeddedPostgres
from connectors.errors import RowtideError
from connectors.log import LogTruncatedError, RetentionGapError, TopicReplacedError
from connectors.state import connect
from consumers.domain import load_domain
from daemon import anew, lead
from daemon.app import App, open_app
from daemon.cli import app as commands
from daemon.service import serve
from daemon.settings import load_settings
from deploy.stack.kafka import KafkaBroker
from deploy.stack.mariadb import MariaDB

TABLES = (
    "CREATE TABLE owner (id integer PRIMARY KEY, name varchar(40) NOT NULL)",
    "CREATE TABLE pet (id integer PRIMARY KEY, owner_id integer NOT NULL)",
    "INSERT INTO owner VALUES (1, 'Ann'), (2, 'Bob')",
    "INSERT INTO pet VALUES (1, 1), (2, 1), (3, 2)",
)


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    herd = (
        "-- key: id\n-- history: pets AS herd_history\nSELECT o.id, o.name, count(p.id) AS pets "
        "FROM owner AS o LEFT JOIN pet AS p ON p.owner_id = o.id GROUP BY o.id, o.name"
    )
    return write_domain(tmp_path / f"anew_{uuid.uuid4().hex[:8]}", ";\n".join([*TABLES[:2], ""]), {"herd": herd})


class Shelter:
    """A source of either kind, and the app over it."""

    def __init__(self, dsn: str, execute: Any, environment: dict[str, str], domain: Path) -> None:
        self.change = execute
        self.environment = {"ROWTIDE_SOURCE__DSN": dsn, "ROWTIDE_WEB__ENABLED": "false", **environment}
        self.domain = domain

    def app(self) -> Any:
        return open_app(load_settings(None, self.environment, {"domain": str(self.domain)}).settings)


@pytest.fixture(params=["postgres", "mariadb"])
def shelter(request: pytest.FixtureRequest, database: str, domain: Path, server: EmbeddedPostgres) -> Iterator[Shelter]:
    environment = {"ROWTIDE_STATE__DSN": database}
    if request.param == "mariadb":
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        mariadb.create_database(domain.name)
        mariadb.execute(*TABLES, database=domain.name)
        tables = list(load_domain(str(domain)).tables.values())
        dsn = mariadb.create_capture_user(tables, database=domain.name, user=domain.name)
        yield Shelter(dsn, lambda *s: mariadb.execute(*s, database=domain.name), environment, domain)
        mariadb.execute(f"DROP DATABASE {domain.name}")
        return
    dsn = server.ensure_database(domain.name)

    def execute(*statements: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    execute(*TABLES)
    yield Shelter(dsn, execute, environment, domain)
    execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {domain.name} WITH (FORCE)")


def catch_up(app: App) -> None:
    serve(app, threading.Event(), until_idle=True)


def herd(app: App) -> list[tuple[Any, ...]]:
    assert all(check.clean for check in app.verify())
    return app.query("", "SELECT id, name, pets FROM herd ORDER BY id").rows


FIRST = [(1, "Ann", 2), (2, "Bob", 1)]
LATER = ("DELETE FROM pet WHERE id = 1", "DELETE FROM owner WHERE id = 2", "INSERT INTO owner VALUES (3, 'Cid')")
EXPECTED = [(1, "Ann", 1), (3, "Cid", 0)]


def test_a_gap_in_the_log_ends_with_a_snapshot(shelter: Shelter) -> None:
    """Events were removed before they were taken in: running stops; after the snapshot the tables are the source's."""
    with shelter.app() as app:
        catch_up(app)
        assert herd(app) == FIRST
        shelter.change(*LATER)
        from daemon.sources import open_capture

        open_capture(app, app.log).run_until_now(threading.Event())
        assert app.log.enforce_retention(app.name, age=timedelta(0), size=None, now_ms=1 << 50) > 0
        with pytest.raises(RetentionGapError, match="no longer in the log") as raised:
            catch_up(app)
        assert "rowtide init --snapshot" in raised.value.hint
        assert app.status()["state"] == "stopped"
        with pytest.raises(RowtideError, match="any table"):
            anew.ask(app, ["pet"])
        with connect(app.dsn) as connection:
            assert lead.try_lead(connection, app.name)
            with pytest.raises(RowtideError, match="A daemon works"):
                anew.ask(app, [])
        done = anew.ask(app, [])
        assert done[0] == "asked for a new snapshot of all tables"
        assert done[1].startswith(f"passed over the events of {app.name}/0")
        catch_up(app)
        assert herd(app) == EXPECTED
        assert app.status()["state"] == "idle"
        shelter.change("INSERT INTO pet VALUES (9, 3)")
        catch_up(app)
        assert herd(app) == [(1, "Ann", 1), (3, "Cid", 1)]


def test_a_rebuild_begins_at_the_newest_snapshot(shelter: Shelter) -> None:
    """The log's beginning is gone: a snapshot of all tables in it stands for that, where nothing is kept of what was."""
    shelter.change("INSERT INTO pet VALUES (8, 1)", "DELETE FROM pet WHERE id = 8")
    with shelter.app() as app:
        catch_up(app)
        shelter.change(*LATER)
        anew.ask(app, ["pet"])
        catch_up(app)
        assert app.log.enforce_retention(app.name, age=timedelta(0), size=None, now_ms=1 << 50) > 0
        anew.ask(app, [])
        catch_up(app)
        shelter.change("INSERT INTO pet VALUES (9, 3)")
        catch_up(app)
        expected = [(1, "Ann", 1), (3, "Cid", 1)]
        assert herd(app) == expected
        with pytest.raises(RowtideError, match="no longer has the beginning") as raised:
            app.rebuild()
        assert "history" in raised.value.hint
    model = shelter.domain / "models" / "herd.sql"
    model.write_text(model.read_text().replace("-- history: pets AS herd_history\n", ""))
    with shelter.app() as app:
        app.rebuild()
        assert herd(app) == expected
        shelter.change("INSERT INTO pet VALUES (10, 3)")
        catch_up(app)
        assert herd(app) == [(1, "Ann", 1), (3, "Cid", 2)]


def test_unchanged_rows_have_no_new_history(shelter: Shelter) -> None:
    """A snapshot over live rows is one step: histories get what differs, and nothing else."""
    with shelter.app() as app:
        catch_up(app)
        before = app.query("", "SELECT * FROM herd_history").rows
        anew.ask(app, [])
        catch_up(app)
        assert app.query("", "SELECT * FROM herd_history").rows == before
        anew.ask(app, ["pet"])
        shelter.change("DELETE FROM pet WHERE id = 2")
        catch_up(app)
        assert len(app.query("", "SELECT * FROM herd_history").rows) == len(before) + 1
        assert herd(app) == [(1, "Ann", 1), (2, "Bob", 1)]


def test_a_table_that_comes_is_read_after_the_rebuild(shelter: Shelter) -> None:
    """Declared later in source.sql: `rebuild` and `run` are all it takes; the rows it had before are there."""
    shelter.change("CREATE TABLE toy (id integer PRIMARY KEY, pet_id integer)", "INSERT INTO toy VALUES (1, 1), (2, 1)")
    with shelter.app() as app:
        catch_up(app)
    with (shelter.domain / "source.sql").open("a") as file:
        file.write("CREATE TABLE toy (id integer PRIMARY KEY, pet_id integer);\n")
    (shelter.domain / "models" / "toys.sql").write_text(
        "-- key: id\nSELECT p.id, count(t.id) AS toys FROM pet AS p LEFT JOIN toy AS t ON t.pet_id = p.id GROUP BY p.id"
    )
    if shelter.environment["ROWTIDE_SOURCE__DSN"].startswith("mysql"):
        from urllib.parse import urlsplit

        user = urlsplit(shelter.environment["ROWTIDE_SOURCE__DSN"]).username
        shelter.change(f"GRANT SELECT ON toy TO '{user}'@'%'")
    shelter.change("DELETE FROM toy WHERE id = 1")
    with shelter.app() as app:
        app.rebuild()
        catch_up(app)
        assert app.query("", "SELECT id, toys FROM toys ORDER BY id").rows == [(1, 1), (2, 0), (3, 0)]
        assert herd(app) == FIRST


def test_a_topic_that_was_replaced_is_filled_anew(shelter: Shelter, broker: KafkaBroker) -> None:
    """The cluster lost the topic, or its end: the daemon stops, and a snapshot into what is there now mends it."""
    shelter.environment.update(ROWTIDE_LOG__KIND="kafka", ROWTIDE_LOG__SERVERS=broker.servers)
    with shelter.app() as app:
        catch_up(app)
    client = AdminClient({"bootstrap.servers": broker.servers})
    client.delete_topics([shelter.domain.name])[shelter.domain.name].result()
    shelter.change(*LATER)
    with shelter.app() as app, pytest.raises((TopicReplacedError, LogTruncatedError)):
        catch_up(app)
    with shelter.app() as app:
        app.init()
        anew.ask(app, [])
    with shelter.app() as app:
        catch_up(app)
        assert herd(app) == EXPECTED
        assert app.status()["state"] == "idle"


def test_what_cannot_be_asked_for(shelter: Shelter) -> None:
    """Unknown tables, tables without the option, and a source that somebody else captures are told."""
    with shelter.app() as app, pytest.raises(RowtideError, match="declares no table dog"):
        anew.ask(app, ["dog"])
    runner = CliRunner(env={name: value for name, value in shelter.environment.items() if "SOURCE" not in name})
    named = runner.invoke(commands, ["--domain", str(shelter.domain), "init", "pet"])
    assert isinstance(named.exception, RowtideError)
    assert named.exception.hint == "rowtide init --snapshot pet"
    foreign = runner.invoke(commands, ["--domain", str(shelter.domain), "init", "--snapshot"])
    assert isinstance(foreign.exception, RowtideError)
    assert "does not capture" in foreign.exception.message
