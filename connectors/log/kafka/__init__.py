"""The log on a Kafka cluster.

Positions are the caller's: partitions are assigned, never subscribed to, and no offset is ever reset. What Kafka's own
groups are told is a hint for its tools.
"""

from connectors.log.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
