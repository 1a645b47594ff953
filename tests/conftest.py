"""Parts every tier shares: one embedded PostgreSQL for the run, a fresh database for each test that asks."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from xdist.scheduler import LoadFileScheduling

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from deploy.stack.connect import KafkaConnect
from deploy.stack.jars import missing
from deploy.stack.kafka import KafkaBroker
from deploy.stack.mariadb import MariaDB, ensure_installed
from deploy.stack.process import ServerFailedError

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """A command run in this process sets up how it logs; the next test begins without that."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """A real PostgreSQL 18 with wal_level=logical, in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="rowtide-test-"))
    with EmbeddedPostgres(folder / "pg") as running:
        with psycopg.connect(running.dsn(), autocommit=True) as connection:
            # The machine's disk is not what is tested here; the fault tests kill processes, not the machine.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _numbers() -> Iterator[int]:
    return count()


@pytest.fixture
def database(server: EmbeddedPostgres, _numbers: Iterator[int]) -> Iterator[str]:
    """The connection string of a fresh, empty database."""
    name = f"test_{next(_numbers)}"
    yield server.ensure_database(name)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s AND NOT active",
            [name],
        )
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a state database whose schema is up to date."""
    migrate(database)
    with psycopg.connect(database) as opened:
        yield opened


@pytest.fixture(scope="session")
def kafka_jars() -> None:
    """What a broker runs from is there; skips where Java or Maven is absent, except in CI."""
    lacking = missing()
    if lacking is not None and not os.environ.get("CI"):
        pytest.skip(f"no Kafka: {lacking}")


@pytest.fixture(scope="session")
def broker(kafka_jars: None) -> Iterator[KafkaBroker]:
    """A real Kafka broker for the run. Ask for topics of your own."""
    with KafkaBroker() as running:
        yield running


@pytest.fixture(scope="session")
def connect(broker: KafkaBroker) -> Iterator[KafkaConnect]:
    """A real worker of Kafka Connect with Debezium for the run; register connectors of your own."""
    with KafkaConnect(broker.servers) as running:
        yield running


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A real MariaDB with its binlog on, installed where it may be; skips where not, and fails in CI."""
    try:
        ensure_installed()
    except ServerFailedError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    # The machine's disk is not what is tested here: the tests kill processes, not the machine.
    with MariaDB(settings={"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}) as running:
        yield running


@pytest.fixture(scope="session")
def sakila() -> Path:
    """The folder of the real Sakila data set; skips where ../shared is absent."""
    folder = SHARED / "data" / "sakila"
    if not folder.exists():
        pytest.skip(f"{folder} is absent: the real data set is not on this machine")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--batches", type=int, default=300, help="random batches for each synthetic domain")
    parser.addoption("--huge", type=int, default=100_000, help="rows of a huge transaction; a million takes minutes")
    parser.addoption("--kills", type=int, default=100, help="how often the worker is killed")


# These share one Kafka Connect, whose start takes longer than most tests.
_SHARING = {f"tests/integration/test_{name}.py" for name in ("debezium", "debezium_postgres", "routes")}


class _Files(LoadFileScheduling):
    """The tests of a file go to one process, those of the files that share something as if they were one file."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "sharing" if file in _SHARING else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return _Files(config, log) if config.getoption("dist") == "loadfile" else None


# What a test stands on, that which takes longest first.
_SLOW = ("connect", "kafka_jars", "mariadb", "sakila", "server")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the longest tests come first, so that the processes which share them end at about the same time."""
    ranks: dict[Path, int] = {}
    for item in items:
        names = getattr(item, "fixturenames", ())
        rank = next((rank for rank, name in enumerate(_SLOW) if name in names), len(_SLOW))
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


@pytest.fixture
def batches(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--batches")


@pytest.fixture
def huge(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--huge")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--kills")


@pytest.fixture
def seed() -> int:
    """A new seed at each run, told where a test fails; ROWTIDE_SEED repeats one."""
    return int(os.environ.get("ROWTIDE_SEED") or random.SystemRandom().randrange(10**6))
