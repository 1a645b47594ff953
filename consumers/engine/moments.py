"""Moments of business time: microseconds since the epoch, and their text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_datetime(moment: datetime) -> int:
    """An aware datetime as microseconds since the epoch."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def to_datetime(moment: int) -> datetime:
    """Microseconds since the epoch as an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=moment)


def to_text(moment: int) -> str:
    """As PostgreSQL reads it."""
    minute, rest = divmod(moment, 60_000_000)
    return f"{_minute(minute)}{rest / 1_000_000:09.6f}+00:00"


@lru_cache(maxsize=1024)
def _minute(number: int) -> str:
    """The text up to the seconds; moments that are written together share it."""
    return to_datetime(number * 60_000_000).isoformat()[:17]
