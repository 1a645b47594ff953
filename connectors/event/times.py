"""Dates, times and durations: from the form they have on the wire to PostgreSQL input text."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from connectors.event.wire import Converter, Wire, WrongValueError, string

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive timestamps are counted from a naive epoch
_EPOCH_DAY = _EPOCH.date().toordinal()
# Infinity as Debezium's PostgreSQL connector sends it: at the very ends of 64 bits, whatever the unit; as a day
# beyond every date, of which one, for the positive infinity, has overflown.
_INFINITE = 9_223_372_036_000_000_000
_INFINITE_DAY, _OVERFLOWN_DAY = 2_000_000_000, -2_147_472_692
_INFINITE_YEAR = re.compile(r"([+-])(\d{6,12})-\d{2}-\d{2}(?:Z|T.*)?", re.DOTALL | re.ASCII)
_INFINITE_TIMESTAMP = "+294247-01-10T04:00:"  # where 64 bits of microseconds end, inside PostgreSQL's own range
# The dates among them as text: that day, and the negative one of a snapshot, which has lost that it is before Christ.
_INFINITE_DATES = {"-5877611-06-21": "infinity", "+292269055-12-02": "-infinity"}
_INFINITIES = ("infinity", "-infinity")
# PostgreSQL's own text beyond the years that Python knows, and where PostgreSQL's years end.
_FAR = re.compile(
    r"(\d{4,7})-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])( (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?)?(\+00)?( BC)?",
    re.ASCII,
)
_LAST_YEAR_OF_DATES, _LAST_YEAR_OF_TIMESTAMPS, _FIRST_YEAR_BC = 5_874_896, 294_275, 4712
_LAST_YEAR_BC = 4713  # PostgreSQL knows no earlier one
_TIME = re.compile(r"(\d{2}):(\d{2})(?::(\d{2})(\.\d{1,9})?)?", re.ASCII)
_ZONE = re.compile(r"(Z|[+-]\d{2}(?::?\d{2}){0,2})$", re.ASCII)
_PART = r"(?:-?\d{1,8}(?:\.\d{1,9})?"
_DURATION = re.compile(
    r"(?:[-+]?\d{1,8} (?:years?|mons?|days?)(?: |$))*(?:[-+]?\d{1,9}:[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)?"
    rf"|P(?=[-\dT]){_PART}Y)?{_PART}M)?{_PART}W)?{_PART}D)?(?:T(?=[-\d]){_PART}H)?{_PART}M)?{_PART}S)?)?",
    re.ASCII,
)
_DAY_MICROS = 86_400_000_000
_NAMED_UNITS = (("NanoTimestamp", 0), ("NanoTime", 0), ("MicroTimestamp", 1), ("MicroTime", 1), ("MicroDuration", 1))


def _unit(wire: Wire, precision: int | None, *, clock: bool) -> int | None:
    """Microseconds of one unit of a number (0: nanoseconds); None: it cannot be known."""
    for name, unit in _NAMED_UNITS:
        if wire.name.endswith(name):
            return unit
    if wire.name.endswith((".Timestamp", ".Time")):
        return 1000
    if wire.mysql:
        if clock:
            return 1
        return None if precision is None else (1000 if precision <= 3 else 1)
    return 1000 if precision is not None and precision <= 3 else 1


def _micros(value: int, unit: int | None) -> int:
    if unit is None and value:
        raise WrongValueError(
            "a number of unknown unit: set time.precision.mode=isostring, or declare the column's precision, "
            "as in timestamp(0)"
        )
    return value // 1000 if unit == 0 else value * (unit or 1)


def _number_or_text(value: Any, what: str) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise WrongValueError(f"no {what}")
    return value.strip() if isinstance(value, str) else value


def _special(text: str, last_year: int) -> str | None:
    """PostgreSQL's text of an infinity, or of a moment that Python does not know; None for all others."""
    if text in _INFINITIES:
        return text
    if infinite := _INFINITE_YEAR.fullmatch(text):
        last = _LAST_YEAR_BC if infinite[1] == "-" else last_year + 1
        if int(infinite[2]) <= last and not text.startswith(_INFINITE_TIMESTAMP):
            raise WrongValueError("a moment outside of the years 1 to 9999")
        return "-infinity" if infinite[1] == "-" else "infinity"
    if far := _FAR.fullmatch(text):
        year = int(far[1])
        if (1 <= year <= _FIRST_YEAR_BC) if far[4] else (10_000 <= year <= last_year and far[1][0] != "0"):
            return text
    return None


def day(wire: Wire) -> Converter:
    """For date."""

    def convert(value: Any) -> str:
        value = _number_or_text(value, "date")
        if isinstance(value, str):
            return _day_text(value)
        if wire.name.endswith("connect.data.Date") and abs(value) > 10_000_000:
            value //= 86_400_000
        if value == _OVERFLOWN_DAY or abs(value) > _INFINITE_DAY:
            return "-infinity" if value < 0 and value != _OVERFLOWN_DAY else "infinity"
        ordinal = value + _EPOCH_DAY
        if not 1 <= ordinal <= date.max.toordinal():
            raise WrongValueError("a date outside of the years 1 to 9999")
        return date.fromordinal(ordinal).isoformat()

    return convert


def _day_text(text: str) -> str:
    if infinite := _INFINITE_DATES.get(text.removesuffix("Z")):
        return infinite
    special = _special(text, _LAST_YEAR_OF_DATES)
    if special is not None and ":" not in special and "+" not in special:
        return special
    try:
        return date.fromisoformat(text[:10] if "T" in text or " " in text else text.removesuffix("Z")).isoformat()
    except ValueError:
        raise WrongValueError("text that is no date") from None


def _moment(value: Any, unit: int | None) -> datetime | str:
    """A wire value as a datetime, naive or aware; 'infinity' and what only PostgreSQL knows as text."""
    found = _number_or_text(value, "timestamp")
    if isinstance(found, int):
        if abs(found) >= _INFINITE or abs(micros := _micros(found, unit)) >= _INFINITE:
            return "infinity" if found > 0 else "-infinity"
        try:
            return _EPOCH + timedelta(microseconds=micros)
        except OverflowError:
            raise WrongValueError("a timestamp outside of the years 1 to 9999") from None
    special = _special(found, _LAST_YEAR_OF_TIMESTAMPS)
    if special is not None:
        return special
    try:
        return datetime.fromisoformat(found)
    except ValueError:
        raise WrongValueError("text that is no timestamp") from None


def timestamp(wire: Wire, precision: int | None, zone: ZoneInfo) -> Converter:
    """For timestamp without time zone: an instant becomes local time of the zone."""
    unit = _unit(wire, precision, clock=False)
    # With isostring, Debezium puts a Z behind local times too. Where no schema tells, the declared type does.
    local = wire.name.endswith("IsoTimestamp") or (wire.debezium and not wire.told)

    def convert(value: Any) -> str:
        if (
            value.__class__ is str
            and len(value) == 19
            and value[4] == "-" == value[7]
            and value[13] == ":" == value[16]
        ):
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise WrongValueError("text that is no timestamp") from None
            return f"{value[:10]} {value[11:]}"  # what most are: in the form that comes out below
        moment = _moment(value, unit)
        if isinstance(moment, str):
            if "+" in moment:
                raise WrongValueError("a timestamp outside of the years 1 to 9999")
            return moment
        if moment.tzinfo is not None:
            try:
                moment = moment if local and moment.tzinfo is UTC else moment.astimezone(zone)
            except OverflowError:
                raise WrongValueError("a timestamp outside of the years 1 to 9999") from None
        return moment.replace(tzinfo=None).isoformat(" ")

    return convert


def instant(wire: Wire, precision: int | None, zone: ZoneInfo) -> Converter:
    """For timestamp with time zone: text without a zone is local time of the zone."""
    unit = _unit(wire, precision, clock=False)

    def convert(value: Any) -> str:
        moment = _moment(value, unit)
        if isinstance(moment, str):
            return moment
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC if isinstance(value, int) else zone)
        try:
            return moment.astimezone(UTC).isoformat(" ").replace("+00:00", "+00")
        except OverflowError:
            raise WrongValueError("a timestamp outside of the years 1 to 9999") from None

    return convert


def clock_time(wire: Wire, precision: int | None, *, with_zone: bool) -> Converter:
    """For time."""
    unit = _unit(wire, precision, clock=True)

    def convert(value: Any) -> str:
        value = _number_or_text(value, "time of day")
        if isinstance(value, int):
            micros = _micros(value, unit)
            if not 0 <= micros <= _DAY_MICROS:
                raise WrongValueError("a time outside of one day: declare the column as interval")
            return _clock_text(micros) + ("+00" if with_zone else "")
        zone = _ZONE.search(value)
        clock = _TIME.fullmatch(value[: zone.start()] if zone else value)
        if clock is None:
            raise WrongValueError("no time of one day: declare the column as interval")
        parts = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        ending = parts == (24, 0, 0) and not (clock[4] or "").strip(".0")
        if not ending and (parts[0] > 23 or parts[1] > 59 or parts[2] > 59):
            raise WrongValueError("no time of one day: declare the column as interval")
        if not with_zone:
            return clock[0]
        if zone is None or zone[1] == "Z":
            return clock[0] + "+00"
        if any(int(part) > limit for part, limit in zip(re.findall(r"\d{2}", zone[1]), (15, 59, 59), strict=False)):
            raise WrongValueError("text that is no time of day")
        return clock[0] + zone[1]

    return convert


def _clock_text(micros: int) -> str:
    seconds, micros = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return text + (f".{micros:06}".rstrip("0") if micros else "")


def duration(wire: Wire) -> Converter:
    """For interval, which is also what holds MySQL's TIME beyond 24 hours."""
    unit = _unit(wire, None, clock=True)

    def convert(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            micros = _micros(value, unit)
            if abs(micros) > 10**17:
                raise WrongValueError("an interval out of range")
            return ("-" if micros < 0 else "") + _clock_text(abs(micros))
        text = string(value).strip()
        if _TIME.fullmatch(text.removesuffix("Z")):
            text = text.removesuffix("Z")
        if not text or not _DURATION.fullmatch(text):
            raise WrongValueError("text that is no interval")
        return text

    return convert
