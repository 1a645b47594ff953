"""The same domain over the same daemon, whichever log and source the settings name: Kafka, MariaDB."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
from domain_folder import write_domain

from connectors.capture.mysql import grants
from connectors.log import TopicReplacedError
from consumers.domain import load_domain
from daemon.app import App, open_app
from daemon.service import serve
from daemon.settings import load_settings

TABLES = (
    "CREATE TABLE owner (id int PRIMARY KEY, name varchar(40) NOT NULL)",
    "CREATE TABLE pet (id int PRIMARY KEY, owner_id int NOT NULL, weight decimal(6,2))",
)


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    """A domain whose name, and so whose topics, no other test has."""
    return write_domain(
        tmp_path / f"pets_{uuid.uuid4().hex[:8]}",
        "CREATE TABLE owner (id integer PRIMARY KEY, name varchar(40) NOT NULL);\n"
        "CREATE TABLE pet (id integer PRIMARY KEY, owner_id integer NOT NULL, weight numeric(6,2));\n",
        {"herd": "-- key: id\nSELECT o.id, o.name, count(p.id) AS pets, sum(p.weight) AS weight "
                 "FROM owner AS o LEFT JOIN pet AS p ON p.owner_id = o.id GROUP BY o.id, o.name"},
    )  # fmt: skip


@pytest.fixture
def shelter(mariadb: Any, domain: Path) -> tuple[str, Any]:
    """A database in MariaDB: the dsn of a user with just the rights that `grants` prints, and a way to change rows."""
    name = f"shelter_{uuid.uuid4().hex[:8]}"
    mariadb.create_database(name)
    mariadb.execute(
        *TABLES,
        "INSERT INTO owner VALUES (1, 'Ann'), (2, 'Bob')",
        "INSERT INTO pet VALUES (1, 1, 4.50), (2, 1, 0.25)",
        database=name,
    )
    tables = list(load_domain(str(domain)).tables.values())

    def change(*statements: str) -> None:
        mariadb.execute(*statements, database=name)

    return mariadb.create_capture_user(tables, database=name, user=f"rowtide_{name[-8:]}"), change


def app_for(domain: Path, database: str, **environment: str) -> Any:
    given = {"ROWTIDE_STATE__DSN": database, "ROWTIDE_WEB__ENABLED": "false", **environment}
    return open_app(load_settings(None, given, {"domain": str(domain)}).settings)


def herd(app: App) -> list[tuple[Any, ...]]:
    return [tuple(map(str, row)) for row in app.query("", "SELECT name, pets, weight FROM herd ORDER BY id").rows]


def catch_up(app: App) -> None:
    serve(app, threading.Event(), until_idle=True)


def test_mariadb_to_the_models(domain: Path, database: str, shelter: tuple[str, Any]) -> None:
    """Snapshot, then changes, from the binlog; status tells that the source answers."""
    dsn, change = shelter
    with app_for(domain, database, ROWTIDE_SOURCE__DSN=dsn) as app:
        catch_up(app)
        assert herd(app) == [("Ann", "2", "4.75"), ("Bob", "0", "None")]
        change("UPDATE pet SET owner_id = 2 WHERE id = 1", "DELETE FROM pet WHERE id = 2")
        catch_up(app)
        assert herd(app) == [("Ann", "0", "None"), ("Bob", "1", "4.50")]
        assert all(check.clean for check in app.verify())
        source = app.status(probe=True)["source"]
        assert (source["reachable"], source["server"].split()[0]) == (True, "MariaDB")


def test_what_mariadb_cascades_is_followed(domain: Path, database: str, shelter: tuple[str, Any]) -> None:
    """Rows that a foreign key removes without a word in the binlog leave the models too."""
    dsn, change = shelter
    change("ALTER TABLE pet ADD CONSTRAINT kept_by FOREIGN KEY (owner_id) REFERENCES owner (id) ON DELETE CASCADE")
    with app_for(domain, database, ROWTIDE_SOURCE__DSN=dsn) as app:
        catch_up(app)
        change("DELETE FROM owner WHERE id = 1")
        catch_up(app)
        assert herd(app) == [("Bob", "0", "None")]
        assert app.query("", "SELECT id FROM pet").rows == []


def test_the_grants_of_the_dsns_kind(domain: Path, database: str, shelter: tuple[str, Any]) -> None:
    """`grants` speaks the source's language, told by the dsn."""
    from daemon.sources import grants as printed

    with app_for(domain, database, ROWTIDE_SOURCE__DSN=shelter[0]) as app:
        name = shelter[0].rpartition("/")[2].partition("?")[0]
        tables = list(app.domain.tables.values())
        expected = grants(tables, user="rowtide", database=name)
        assert printed(app.settings, app.domain, user="rowtide", schema=None, mysql=False) == expected


def test_capture_over_kafka_to_the_models(domain: Path, database: str, shelter: tuple[str, Any], broker: Any) -> None:
    """MariaDB to Kafka to the tables; rebuild reads the same topics; Kafka's own tools see how far we are."""
    dsn, change = shelter
    kafka = {"ROWTIDE_LOG__KIND": "kafka", "ROWTIDE_LOG__SERVERS": broker.servers, "ROWTIDE_SOURCE__DSN": dsn}
    with app_for(domain, database, **kafka) as app:
        catch_up(app)
        change("INSERT INTO pet VALUES (3, 2, 1.00)")
        catch_up(app)
        expected = [("Ann", "2", "4.75"), ("Bob", "1", "1.00")]
        assert herd(app) == expected
        app.rebuild()
        assert herd(app) == expected
        assert all(check.clean for check in app.verify())
        status = app.status()
        assert status["state"] == "idle"
        assert set(status["topics"]) == {f"{app.name}/0", f"rowtide.{app.name}/0"}
        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT count(*) FROM rowtide.log_topic").fetchone() == (0,)
    client = AdminClient({"bootstrap.servers": broker.servers})
    group = f"rowtide-{domain.name}"
    offsets = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result()
    told = {f"{p.topic}/{p.partition}": p.offset for p in offsets.topic_partitions}
    assert told == {name: entry["position"] for name, entry in status["topics"].items()}


def test_a_topic_created_anew_is_not_taken_for_the_old_one(domain: Path, database: str, broker: Any) -> None:
    """Positions of a topic that was deleted and created again mean nothing: the daemon stops and says so."""
    kafka = {"ROWTIDE_LOG__KIND": "kafka", "ROWTIDE_LOG__SERVERS": broker.servers}
    with app_for(domain, database, **kafka) as app:
        catch_up(app)
        client = AdminClient({"bootstrap.servers": broker.servers})
        client.delete_topics([app.domain.own_topic])[app.domain.own_topic].result()
    with app_for(domain, database, **kafka) as app:
        with pytest.raises(TopicReplacedError):
            catch_up(app)
        assert app.status()["state"] == "stopped"
