"""A partition that lost its end while nobody read, and grew again beyond the position: only its records tell."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from domain_folder import write_domain

from connectors.embedded import EmbeddedPostgres
from connectors.log import LogTruncatedError, Message, Record, TopicPartition, UnknownTopicError, marks
from connectors.log.kafka import KafkaLog
from daemon import anew
from daemon.app import App, open_app
from daemon.service import serve
from daemon.settings import load_settings
from deploy.stack.kafka import KafkaBroker


@pytest.fixture
def own(kafka_jars: None) -> Iterator[KafkaBroker]:
    """A broker whose disk may be tampered with."""
    with KafkaBroker() as running:
        yield running


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    return write_domain(
        tmp_path / f"regrown_{uuid.uuid4().hex[:8]}",
        "CREATE TABLE pet (id integer PRIMARY KEY, name varchar(40));",
        {"names": "-- key: name\nSELECT name, count(*) AS pets FROM pet GROUP BY name"},
    )


@pytest.fixture
def source(server: EmbeddedPostgres, domain: Path) -> Iterator[str]:
    dsn = server.ensure_database(domain.name)
    execute(dsn, "CREATE TABLE pet (id integer PRIMARY KEY, name varchar(40))", "INSERT INTO pet VALUES (1, 'Rex')")
    yield dsn
    execute(
        dsn, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
    )
    execute(server.dsn(), f"DROP DATABASE {domain.name} WITH (FORCE)")


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def catch_up(app: App) -> None:
    serve(app, threading.Event(), until_idle=True)


def lose(broker: KafkaBroker, place: TopicPartition) -> None:
    """What an empty disk, or an unclean election, leaves of a partition: its topic's id, and nothing else."""
    broker.stop()
    (folder,) = broker.folder.glob(f"**/{place.topic}-{place.partition}")
    for path in folder.iterdir():
        if path.name != "partition.metadata":
            path.unlink()
    broker.start()


def test_a_log_that_has_grown_again_stops_the_daemon(
    own: KafkaBroker, domain: Path, source: str, database: str
) -> None:
    """Same topic, same id, an end behind the position: the daemon stops before it skips what it never saw."""
    environment = {
        "ROWTIDE_STATE__DSN": database,
        "ROWTIDE_SOURCE__DSN": source,
        "ROWTIDE_LOG__KIND": "kafka",
        "ROWTIDE_LOG__SERVERS": own.servers,
        "ROWTIDE_WEB__ENABLED": "false",
    }
    settings = load_settings(None, environment, {"domain": str(domain)}).settings
    place = TopicPartition(domain.name, 0)
    with open_app(settings) as app:
        catch_up(app)
        execute(source, "INSERT INTO pet VALUES (2, 'Rex')")
        catch_up(app)
        before = app.log.topic_ids([domain.name])
        taken = app.log.read({place: 0}, limit=1000)
    with open_app(settings) as app:
        catch_up(app)  # a restart over the same records stops nothing
    lose(own, place)
    log = KafkaLog(own.servers)
    assert log.topic_ids([domain.name]) == before
    assert log.extents([domain.name])[place].end == 0
    again = [Message(record.key, record.value, record.ts_ms) for record in taken]
    log.append(domain.name, [*again[1:], *again[:1], *again])
    assert log.extents([domain.name])[place].end > taken[-1].offset + 1
    log.close()
    with open_app(settings) as app:
        with pytest.raises(LogTruncatedError, match="is not the one that was taken in") as raised:
            catch_up(app)
        assert "rowtide init --snapshot" in raised.value.hint
        assert app.status()["state"] == "stopped"
        execute(source, "INSERT INTO pet VALUES (3, 'Ada')", "DELETE FROM pet WHERE id = 1")
        assert any(done.startswith(f"passed over the events of {domain.name}/0") for done in anew.ask(app, []))
        catch_up(app)
        assert app.query("", "SELECT name, pets FROM names ORDER BY name").rows == [("Ada", 1), ("Rex", 1)]
        assert all(check.clean for check in app.verify())
        assert app.status()["state"] == "idle"


def test_what_is_gone_is_no_other_record(own: KafkaBroker) -> None:
    """Retention and compaction remove the marked record: the log is taken for the same."""
    log = KafkaLog(own.servers)
    log.create_topic("kept")
    place = TopicPartition("kept", 0)

    def append(value: bytes) -> Record:
        start = log.extents(["kept"])[place].end
        log.append("kept", [Message(b"k", value, 1)])
        return log.read({place: start}, limit=1)[0]

    first = append(b"one")
    second = append(b"two")
    marks.check(log, {place: marks.mark_of(first)})
    with pytest.raises(LogTruncatedError):
        marks.check(log, {place: marks.mark_of(second._replace(ts_ms=2))})
    with pytest.raises(LogTruncatedError):
        marks.check(log, {place: marks.mark_of(second._replace(offset=second.offset + 1))})
    assert log.enforce_retention("kept", age=None, size=0, now_ms=1) == 2
    marks.check(log, {place: marks.mark_of(first._replace(ts_ms=2))})
    assert not log.leaves_out("kept")
    with pytest.raises(UnknownTopicError):
        marks.check(log, {TopicPartition("absent", 0): marks.mark_of(first)})
    log.close()
