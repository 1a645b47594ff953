"""The one definition of the stack: versions, settings, names, users and ports.

`docker-compose.yml` says the same in Compose's words, and a test holds it to this module; the native stack reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# --- versions ---

# Kafka's and Debezium's are those of the poms beside this module; MariaDB's and PostgreSQL's minor versions are those
# that the native stack runs, Debian's package and the embedded server.
IMAGES: Mapping[str, str] = {
    "mariadb": "mariadb:10.11.19",
    "postgres": "postgres:18.4",
    "kafka": "apache/kafka:4.1.1",
    "connect": "quay.io/debezium/connect:3.5.0.Final",
}
PYTHON_IMAGE = "python:3.11.14-slim-bookworm"
UV = "0.13.8"

# --- names ---

DOMAIN = "rental"
TOPIC = "dvdrental"  # where the connector sends everything, in commit order; the domain reads it
OWN_TOPIC = "rowtide.rental"  # what Rowtide itself records for the domain
CONNECTOR = "rental"
SHOP = "shop"  # the source's database
STATE = "rowtide"  # the state database and its owner
CAPTURE_USER = "rowtide"  # reads the source
SHOP_USER = "shop"  # the shop's own programs

# --- settings ---

# What capture needs of MariaDB, and what keeps a small server small.
MARIADB: Mapping[str, str] = {
    "log_bin": "binlog",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "character_set_server": "utf8mb4",
    "skip_name_resolve": "ON",
    "innodb_buffer_pool_size": "128M",
    "innodb_log_file_size": "64M",
    "performance_schema": "OFF",
    "max_allowed_packet": "64M",
}

# One of each: there is one node. The internal topics are small, because creating fifty partitions takes seconds.
KAFKA: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "message.max.bytes": "33554432",
    "replica.fetch.max.bytes": "33554432",
    "log.retention.ms": "-1",
    # Each request wakes threads in turn: of many, every one has to be fetched back into a small machine's caches.
    "num.network.threads": "2",
    "num.io.threads": "3",
    # Cleared whole before every look at a compacted topic; the default is 128 MiB, for topics of millions of keys.
    "log.cleaner.dedupe.buffer.size": "4194304",
    # A killed broker's registration must run out before the same node may register again.
    "broker.session.timeout.ms": "2500",
    "broker.heartbeat.interval.ms": "500",
}

# One copy of each internal topic: there is one broker. Secrets reach connectors by these providers alone.
CONNECT: Mapping[str, str] = {
    "group.id": "connect",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "config.storage.topic": "connect-configs",
    "config.storage.replication.factor": "1",
    "offset.storage.topic": "connect-offsets",
    "offset.storage.replication.factor": "1",
    "offset.storage.partitions": "1",
    "status.storage.topic": "connect-status",
    "status.storage.replication.factor": "1",
    "status.storage.partitions": "1",
    "plugin.discovery": "service_load",
    "config.providers": "env,file",
    "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
    "offset.flush.interval.ms": "1000",
    # A killed worker's connectors are taken up by the next one as soon as the group has missed it.
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "1000",
    "scheduled.rebalance.max.delay.ms": "0",
}

# --- addresses ---


@dataclass(frozen=True)
class Address:
    """Where a server listens, as its clients reach it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Addresses:
    """Where the servers of one stack are."""

    mariadb: Address
    kafka: Address
    connect: Address
    page: Address
    quickbooks: Address


# Between the containers, by the services' names.
CONTAINERS = Addresses(
    mariadb=Address("mariadb", 3306),
    kafka=Address("kafka", 9092),
    connect=Address("connect", 8083),
    page=Address("rowtide", 8470),
    quickbooks=Address("quickbooks", 8473),
)
STATE_CONTAINER = Address("postgres", 5432)
# On this machine: what Compose publishes, and what the native stack takes where it is free.
LOOPBACK = Addresses(
    mariadb=Address("127.0.0.1", 13306),
    kafka=Address("127.0.0.1", 19092),
    connect=Address("127.0.0.1", 18083),
    page=Address("127.0.0.1", 8470),
    quickbooks=Address("127.0.0.1", 8473),
)


def rowtide(addresses: Addresses, *, secrets: str) -> dict[str, str]:
    """The daemon's settings as environment variables.

    Args:
        addresses: where the servers are, as the daemon reaches them.
        secrets: the folder in which `deploy.stack.passwords` has laid the secrets down.
    """
    here = addresses.page.host == "127.0.0.1"
    settings = {
        "ROWTIDE_DOMAIN": DOMAIN,
        "ROWTIDE_STATE__DSN_FILE": f"{secrets}/state/dsn",
        # Debezium captures; the source's address is for the connector, the foreign keys, the flags and verify.
        "ROWTIDE_SOURCE__KIND": "none",
        "ROWTIDE_SOURCE__DSN_FILE": f"{secrets}/source/dsn",
        "ROWTIDE_SOURCE__WRITE_BACK": "true",
        "ROWTIDE_LOG__KIND": "kafka",
        "ROWTIDE_LOG__SERVERS": str(addresses.kafka),
        "ROWTIDE_WEB__PORT": str(addresses.page.port),
        "ROWTIDE_LOG_FORMAT": "json",
    }
    if not here:
        # Inside the containers' own network, of which only this machine's loopback sees the page.
        settings |= {
            "ROWTIDE_LOG__ALLOW_PLAINTEXT": "true",
            "ROWTIDE_WEB__HOST": "0.0.0.0",  # noqa: S104
            "ROWTIDE_WEB__ALLOW_REMOTE": "true",
        }
    return settings


def register(addresses: Addresses, *, secrets: str) -> list[str]:
    """The command of `rowtide` that registers the connector; Connect finds the password in a file.

    Args:
        addresses: where the servers are.
        secrets: the folder of the secrets, as Connect's worker sees it.
    """
    place = f"file:{secrets}/source/connect.properties:password"
    return ["debezium", "register", "--connect", f"http://{addresses.connect}", "--password-from", place]


def simulate(address: Address) -> list[str]:
    """The command of `rowtide` that runs a simulator of QuickBooks Online.

    Args:
        address: where others reach it.
    """
    types = ["--customer-type", "Applicant", "--customer-type", "Student"]
    command = ["quickbooks", "simulate", "--port", str(address.port), *types]
    # Inside the containers' own network, of which only this machine's loopback sees it.
    return command if address.host == "127.0.0.1" else [*command, "--host", "0.0.0.0", "--allow-remote"]  # noqa: S104
