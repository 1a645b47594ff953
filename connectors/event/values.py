"""Values: from the form they have on the wire to PostgreSQL input text, checked against the declared type.

What comes out of here PostgreSQL accepts for the column; what it would refuse raises ValueError, whose text names
the kind of fault and never the value.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from connectors.event.types import UNAVAILABLE, Value

Converter: TypeAlias = Callable[[Any], Value]

PLACEHOLDER = "__debezium_unavailable_value"
PLACEHOLDER_BASE64 = base64.b64encode(PLACEHOLDER.encode()).decode()
PLACEHOLDER_UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a"
PLACEHOLDERS = frozenset({PLACEHOLDER, PLACEHOLDER_BASE64, PLACEHOLDER_UUID})
PLACEHOLDER_BYTES = list(PLACEHOLDER.encode())

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive timestamps are counted from a naive epoch
_EPOCH_DAY = _EPOCH.date().toordinal()
# PostgreSQL's dates end in 5874897, its timestamps in 294276; Python's end in 9999. Debezium sends infinity as a
# number far outside of both.
_FAR = 100_000 * 366 * 86_400_000_000
_RANGES = {"smallint": 15, "integer": 31, "bigint": 63}
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|NaN|[+-]?Infinity")
_TIME = re.compile(r"(\d{2}):(\d{2})(?::(\d{2})(\.\d{1,9})?)?")
_ZONE = re.compile(r"(Z|[+-]\d{2}(?::?\d{2}){0,2})$")
_INTERVAL = re.compile(r"[-+0-9a-zA-Z.: ]{1,120}|P[-+0-9YMWDTHS.,]{1,80}")


def converter(
    type_: str, zone: ZoneInfo, semantic: str | None = None, parameters: Mapping[str, str] | None = None
) -> Converter:
    """The converter for a column of the declared type; `semantic` is the schema's name where the event has one."""
    return _guarded(_convert(type_, zone, semantic or "", parameters or {}))


def _guarded(inner: Converter) -> Converter:
    def convert(value: Any) -> Value:
        if value is None:
            return None
        if (isinstance(value, str) and value in PLACEHOLDERS) or (
            isinstance(value, list)
            and value
            and (value[0] in PLACEHOLDERS if isinstance(value[0], str) else value == PLACEHOLDER_BYTES)
        ):
            return UNAVAILABLE
        return inner(value)

    return convert


def _convert(type_: str, zone: ZoneInfo, semantic: str, parameters: Mapping[str, str]) -> Converter:
    base, _, size = type_.partition("(")
    base = base.strip()
    if type_.endswith("[]"):
        return _array(_convert(type_[:-2], zone, "", {}))
    limit = int(size.split(")")[0].split(",")[0]) if size else None
    if base in _RANGES:
        return _integer(_RANGES[base], semantic)
    if base == "numeric":
        return _numeric(type_, semantic, parameters)
    if base in ("real", "double precision"):
        return _float
    if base == "boolean":
        return _boolean
    if base in ("character varying", "character"):
        return _limited_text(limit)
    if base == "bytea":
        return _bytes
    if base == "date":
        return lambda value: _date(value, semantic)
    if base.startswith("timestamp"):
        unit = _unit(semantic, limit)
        if "with time zone" in type_:
            return lambda value: _instant(value, unit, zone)
        return lambda value: _timestamp(value, unit, zone)
    if base.startswith("time"):
        unit = _unit(semantic, limit)
        return lambda value: _time(value, unit, with_zone="with time zone" in type_)
    if base == "interval":
        return _interval
    if base in ("json", "jsonb"):
        return _json
    if base == "uuid":
        return lambda value: str(UUID(_string(value)))
    if base in ("bit", "bit varying"):
        return _bits(limit if limit is not None else 1, varying=base == "bit varying")
    return lambda value: _plain(_string(value)) if isinstance(value, str) else _plain(_text(value))


def _unit(semantic: str, precision: int | None) -> int:
    """Microseconds of one unit of a bare integer: told by the schema, else by the column's precision."""
    for name, unit in (("NanoTimestamp", 0), ("NanoTime", 0), ("MicroTimestamp", 1), ("MicroTime", 1)):
        if semantic.endswith(name):
            return unit
    if semantic.endswith((".Timestamp", ".Time")):
        return 1000
    return 1000 if precision is not None and precision <= 3 else 1


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where text is expected")
    return value


def _plain(value: str) -> str:
    if "\x00" in value:
        raise ValueError("a NUL character, which PostgreSQL's text cannot hold")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no character") from None
    return value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"a {type(value).__name__} where text is expected")


def _limited_text(limit: int | None) -> Converter:
    def convert(value: Any) -> str:
        text = _plain(_text(value))
        if limit is not None and len(text) > limit and len(text.rstrip(" ")) > limit:
            raise ValueError(f"longer than {limit} characters")
        return text

    return convert


def _integer(bits: int, semantic: str) -> Converter:
    low, high = -(1 << bits), (1 << bits) - 1
    if semantic.endswith("Decimal"):
        decimal = _numeric("numeric", semantic, {"scale": "0"})
        return lambda value: _integer(bits, "")(int(Decimal(str(decimal(value)))))

    def convert(value: Any) -> str:
        if isinstance(value, bool):
            return "1" if value else "0"
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise ValueError("text that is no integer") from None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int):
            raise ValueError(f"a {type(value).__name__} where an integer is expected")
        if not low <= value <= high:
            raise ValueError(f"outside of the {bits + 1} bits of its type")
        return str(value)

    return convert


def _numeric(type_: str, semantic: str, parameters: Mapping[str, str]) -> Converter:
    size = re.search(r"\((\d+)(?:,(-?\d+))?\)", type_)
    digits = int(size[1]) - int(size[2] or 0) if size else 131072
    scale = int(size[2] or 0) if size else None

    def convert(value: Any) -> str:
        if isinstance(value, Mapping):
            if not isinstance(value.get("scale"), int) or "value" not in value:
                raise ValueError("an object that is no decimal")
            text = _unscaled(value["value"], value["scale"])
        elif isinstance(value, str) and semantic.endswith("Decimal"):
            text = _unscaled(value, int(parameters.get("scale", "0")))
        elif isinstance(value, str):
            text = value.strip()
        elif isinstance(value, bool):
            text = "1" if value else "0"
        elif isinstance(value, int):
            text = str(value)
        elif isinstance(value, float):
            text = repr(value)
        else:
            raise ValueError(f"a {type(value).__name__} where a decimal is expected")
        return _fitting(text)

    def _fitting(text: str) -> str:
        if not _DECIMAL.fullmatch(text):
            if semantic == "" and _BASE64.fullmatch(text):
                raise ValueError("a decimal in bytes without its scale: set decimal.handling.mode=string")
            raise ValueError("text that is no decimal")
        if "N" in text or "I" in text:
            if size and "I" in text:
                raise ValueError("infinity, which a numeric with precision cannot hold")
            return text
        if len(text) <= digits and "e" not in text and "E" not in text:
            return text
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise ValueError("text that is no decimal") from None
        if number and number.adjusted() + 1 > digits:
            raise ValueError("more digits before the point than its type has")
        if number and number.adjusted() < -16000:
            return "0"
        if scale is not None and number and number.adjusted() + 1 == digits:
            with_room = number.copy_abs()
            if with_room >= Decimal(1).scaleb(digits) - Decimal(5).scaleb(-scale - 1):
                raise ValueError("more digits before the point than its type has, once rounded")
        return text

    return convert


_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def _unscaled(value: Any, scale: int) -> str:
    """A decimal from base64 of a big-endian two's complement, exactly: contexts round beyond 28 digits."""
    number = int.from_bytes(_decoded(value), "big", signed=True)
    if not -20000 < scale < 20000:
        raise ValueError("a decimal with a scale that no type has")
    sign, digits = ("-" if number < 0 else ""), str(abs(number))
    if scale <= 0:
        return sign + digits + "0" * -scale
    digits = digits.rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(_string(value), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("text that is not base64") from None


def _float(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        return repr(value) if isinstance(value, float) else _checked_float(str(value))
    text = _string(value).strip()
    if text in ("NaN", "Infinity", "-Infinity"):
        return text
    return _checked_float(text)


def _checked_float(text: str) -> str:
    try:
        number = float(text)
    except (ValueError, OverflowError):
        raise ValueError("text that is no number") from None
    if number in (float("inf"), float("-inf")) or "_" in text:
        raise ValueError("outside of the range of its type")
    return repr(number)


def _boolean(value: Any) -> str:
    if value is True or value == 1:
        return "true"
    if value is False or value == 0:
        return "false"
    if isinstance(value, str) and value.lower() in ("t", "true", "f", "false", "1", "0"):
        return "true" if value.lower() in ("t", "true", "1") else "false"
    raise ValueError("neither true nor false")


def _bytes(value: Any) -> str:
    if isinstance(value, str) and value.startswith("\\x"):
        try:
            return "\\x" + bytes.fromhex(value[2:]).hex()
        except ValueError:
            raise ValueError("text that is not hexadecimal") from None
    return "\\x" + _decoded(value).hex()


def _bits(width: int, *, varying: bool) -> Converter:
    def convert(value: Any) -> str:
        if isinstance(value, bool):
            text = "1" if value else "0"
        elif isinstance(value, str) and re.fullmatch(r"[01]*", value) and (varying or len(value) == width):
            text = value
        else:
            number = int.from_bytes(_decoded(value), "little")
            text = format(number, "b").rjust(width, "0") if width else ""
        if len(text) > width or (not varying and len(text) != width):
            raise ValueError(f"not {width} bits")
        return text

    return convert


def _json(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValueError("text that is not JSON") from None
    if "\\u0000" in text or "\x00" in text:
        raise ValueError("a NUL character, which PostgreSQL's JSON cannot hold")
    if "\\ud" in text.lower():
        text = json.dumps(json.loads(text), ensure_ascii=False)
    return _plain(text)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _date(value: Any, semantic: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("no date")
    if isinstance(value, str):
        text = value.strip()
        if text in ("infinity", "-infinity"):
            return text
        return _day_text(text.removesuffix("Z")[:10] if "T" in text else text.removesuffix("Z"))
    days = value // 86_400_000 if semantic.endswith("connect.data.Date") and abs(value) > 10_000_000 else value
    if abs(days) > 5_000_000:
        return "infinity" if days > 0 else "-infinity"
    ordinal = days + _EPOCH_DAY
    if not 1 <= ordinal <= date.max.toordinal():
        raise ValueError("a date outside of the years 1 to 9999")
    return date.fromordinal(ordinal).isoformat()


def _day_text(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("text that is no date") from None


def _moment(value: Any, unit: int) -> datetime | str:
    """A wire value as a datetime, naive or aware; 'infinity' as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("no timestamp")
    if isinstance(value, int):
        micros = value // 1000 if unit == 0 else value * unit
        if abs(micros) > _FAR:
            return "infinity" if micros > 0 else "-infinity"
        try:
            return _EPOCH + timedelta(microseconds=micros)
        except OverflowError:
            raise ValueError("a timestamp outside of the years 1 to 9999") from None
    text = value.strip()
    if text in ("infinity", "-infinity"):
        return text
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("text that is no timestamp") from None


def _timestamp(value: Any, unit: int, zone: ZoneInfo) -> str:
    moment = _moment(value, unit)
    if isinstance(moment, str):
        return moment
    if moment.tzinfo is not None:
        try:
            moment = moment.astimezone(zone).replace(tzinfo=None)
        except OverflowError:
            raise ValueError("a timestamp outside of the years 1 to 9999") from None
    return moment.isoformat(" ")


def _instant(value: Any, unit: int, zone: ZoneInfo) -> str:
    moment = _moment(value, unit)
    if isinstance(moment, str):
        return moment
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC if isinstance(value, int) else zone)
    try:
        return moment.astimezone(UTC).isoformat(" ").replace("+00:00", "+00")
    except OverflowError:
        raise ValueError("a timestamp outside of the years 1 to 9999") from None


def _time(value: Any, unit: int, *, with_zone: bool) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("no time of day")
    if isinstance(value, int):
        micros = value // 1000 if unit == 0 else value * unit
        if not 0 <= micros <= 86_400_000_000:
            raise ValueError("a time outside of one day: declare the column as interval")
        seconds, micros = divmod(micros, 1_000_000)
        text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return text + (f".{micros:06}".rstrip("0") if micros else "") + ("+00" if with_zone else "")
    text = value.strip()
    zone = _ZONE.search(text)
    clock = _TIME.fullmatch(text[: zone.start()] if zone else text)
    if clock is None or int(clock[1]) > 23 or int(clock[2]) > 59 or int(clock[3] or 0) > 59:
        raise ValueError("text that is no time of day")
    if zone and zone[1] != "Z" and int(zone[1][1:3]) > 15:
        raise ValueError("text that is no time of day")
    return clock[0] + ((("+00" if zone[1] == "Z" else zone[1]) if zone else "+00") if with_zone else "")


def _interval(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > 10**17:
            raise ValueError("an interval out of range")
        sign = "-" if value < 0 else ""
        seconds, micros = divmod(abs(value), 1_000_000)
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"
    text = _string(value).strip()
    if not _INTERVAL.fullmatch(text) or not any(character.isdigit() for character in text):
        raise ValueError("text that is no interval")
    return text


def _array(element: Converter) -> Converter:
    def convert(value: Any) -> Value:
        if isinstance(value, str):
            if not (value.startswith("{") and value.endswith("}")):
                raise ValueError("text that is no array")
            return _plain(value)
        if not isinstance(value, list):
            raise ValueError(f"a {type(value).__name__} where an array is expected")
        parts = []
        for item in value:
            text = None if item is None else element(item)
            if text is None:
                parts.append("NULL")
            else:
                parts.append('"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"')
        return "{" + ",".join(parts) + "}"

    return convert
