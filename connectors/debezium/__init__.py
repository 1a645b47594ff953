"""Debezium from the outside: the configuration of its connectors, and the REST interface of Kafka Connect."""

from connectors.debezium.config import Kind, Origin, class_of, configuration, notification_topic, topics
from connectors.debezium.connect import Connect, ConnectError, ConnectorState
from connectors.debezium.grants import grants
from connectors.debezium.snapshot import Following, Progress

__all__ = [
    "Connect",
    "ConnectError",
    "ConnectorState",
    "Following",
    "Kind",
    "Origin",
    "Progress",
    "class_of",
    "configuration",
    "grants",
    "notification_topic",
    "topics",
]
