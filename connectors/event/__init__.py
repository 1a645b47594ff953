"""Change events in Debezium's envelope: the only place that knows it.

Values are PostgreSQL input text: what `COPY` or a cast from `text` to the declared column's type accepts, so
that nothing downstream converts a value twice.
"""

from connectors.event.decode import Decoder
from connectors.event.encode import (
    Source,
    encode_boundary,
    encode_change,
    encode_foreign_keys,
    encode_heartbeat,
    encode_truncate,
)
from connectors.event.types import (
    SNAPSHOT,
    UNAVAILABLE,
    Boundary,
    Change,
    Event,
    EventRefusedError,
    ForeignKey,
    ForeignKeys,
    Heartbeat,
    Ignored,
    Truncate,
    Unavailable,
    Value,
)

__all__ = [
    "SNAPSHOT",
    "UNAVAILABLE",
    "Boundary",
    "Change",
    "Decoder",
    "Event",
    "EventRefusedError",
    "ForeignKey",
    "ForeignKeys",
    "Heartbeat",
    "Ignored",
    "Source",
    "Truncate",
    "Unavailable",
    "Value",
    "encode_boundary",
    "encode_change",
    "encode_foreign_keys",
    "encode_heartbeat",
    "encode_truncate",
]
