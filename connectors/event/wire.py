"""What is known of how a value is written, and what is said where it cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from connectors.event.types import Value

Converter: TypeAlias = Callable[[Any], Value]


class WrongValueError(ValueError):
    """A value cannot be one of its type. The text names the kind of fault and never the value."""


class Wire(NamedTuple):
    """What the message tells of a column's values.

    Args:
        mysql: whether the source is MySQL or MariaDB.
        debezium: whether Debezium wrote it, not our own capture.
        name: the meaning by the column's schema (`io.debezium.time.Date`), where the message has one.
        type: the type by the column's schema (`int64`).
        scale: of a decimal in bytes.
        items: of an array's elements.
    """

    mysql: bool = False
    debezium: bool = False
    name: str = ""
    type: str = ""
    scale: int = 0
    items: Wire | None = None

    @property
    def told(self) -> bool:
        """Whether the message has a schema of the column."""
        return bool(self.name or self.type)


def string(value: Any) -> str:
    """The value, which has to be text."""
    if not isinstance(value, str):
        raise WrongValueError("something else where text is expected")
    return value
