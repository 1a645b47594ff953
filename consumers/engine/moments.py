"""Moments of business time: microseconds since the epoch, and their text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_datetime(moment: datetime) -> int:
    """An aware datetime as microseconds since the epoch."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def to_datetime(moment: int) -> datetime:
    """Microseconds since the epoch as an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=moment)


def to_text(moment: int) -> str:
    """As PostgreSQL reads it."""
    return to_datetime(moment).isoformat()
