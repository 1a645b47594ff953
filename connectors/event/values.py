"""Values: from the form they have on the wire to PostgreSQL input text, checked against the declared type.

What comes out of here PostgreSQL accepts for the column; what it would refuse raises WrongValueError, whose text
names the kind of fault and never the value.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from connectors.event import numbers, times
from connectors.event.types import UNAVAILABLE, Value
from connectors.event.wire import Converter, Wire, WrongValueError, string

__all__ = ["PLACEHOLDER", "Converter", "Wire", "WrongValueError", "converter"]

PLACEHOLDER = "__debezium_unavailable_value"
_BYTES = PLACEHOLDER.encode()
_UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a"
_DISGUISES = frozenset({PLACEHOLDER, base64.b64encode(_BYTES).decode(), _BYTES.hex(), _UUID})
_BYTE_LIST = list(_BYTES)
_PLAIN = Wire()
# In JSON text: NUL and halves of surrogate pairs, written as escapes.
_NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# PostgreSQL's text of an array of one dimension.
_ITEM = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s",{}\\]+', re.DOTALL)
_ARRAY = re.compile(rf"\{{(?:(?:{_ITEM.pattern})(?:,(?:{_ITEM.pattern}))*)?\}}", re.DOTALL)
_JSON_DIGITS = 131_072


def converter(type_: str, zone: ZoneInfo, wire: Wire = _PLAIN) -> Converter:
    """The converter for a column of the declared type. It takes `msgspec.Raw` for json and jsonb as well."""
    inner = _convert(type_, zone, wire)

    def convert(value: Any) -> Value:
        kind = value.__class__
        if kind is int:
            return inner(value)
        if kind is msgspec.Raw:
            value = _unwrapped(value)
        if value is None:
            return None
        if (value.__class__ is str and value in _DISGUISES) or (
            isinstance(value, list | dict) and value and _is_unavailable(value)
        ):
            return UNAVAILABLE
        return inner(value)

    return convert


def _is_unavailable(value: list[Any] | dict[Any, Any]) -> bool:
    if isinstance(value, dict):
        return PLACEHOLDER in value
    return value == _BYTE_LIST or (isinstance(value[0], str) and value[0] in _DISGUISES)


def _unwrapped(raw: msgspec.Raw) -> Any:
    """JSON in text, as sources send it, is that text; JSON as such is its own text."""
    text = bytes(raw)
    if text[:1] == b'"':
        return msgspec.json.decode(text)
    if text == b"null":
        return None
    if text[:1] == b"{" and PLACEHOLDER.encode() in text:
        return msgspec.json.decode(text)
    return text.decode()


def _convert(type_: str, zone: ZoneInfo, wire: Wire) -> Converter:
    base, _, size = type_.partition("(")
    base = base.strip()
    if type_.endswith("[]"):
        return _array(_convert(type_[:-2], zone, wire.items or _PLAIN), wire)
    limit = int(size.split(")")[0].split(",")[0]) if size else None
    if base in numbers.RANGES:
        return numbers.integer(numbers.RANGES[base], wire)
    if base == "numeric":
        return numbers.numeric(type_, wire)
    if base.startswith("timestamp"):
        if "with time zone" in type_:
            return times.instant(wire, limit, zone)
        return times.timestamp(wire, limit, zone)
    if base.startswith("time"):
        return times.clock_time(wire, limit, with_zone="with time zone" in type_)
    makers: dict[str, Callable[[], Converter]] = {
        "real": lambda: numbers.floating(single=True),
        "double precision": lambda: numbers.floating(single=False),
        "boolean": lambda: numbers.boolean(wire),
        "bytea": lambda: numbers.binary,
        "bit": lambda: numbers.bits(limit if limit is not None else 1, varying=False),
        "bit varying": lambda: numbers.bits(limit if limit is not None else 1 << 31, varying=True),
        "date": lambda: times.day(wire),
        "interval": lambda: times.duration(wire),
        "json": lambda: _json,
        "jsonb": lambda: _json,
        "uuid": lambda: _uuid,
    }
    maker = makers.get(base)
    return maker() if maker is not None else _text(limit if base.startswith("character") else None, wire)


def _plain(value: str) -> str:
    if "\x00" in value:
        raise WrongValueError("a NUL character, which PostgreSQL's text cannot hold")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongValueError("half of a surrogate pair, which is no character") from None
    return value


def _text(limit: int | None, wire: Wire) -> Converter:
    escaped = wire.name.endswith("data.Enum")  # its choices are told with their commas escaped, and so is its value

    def convert(value: Any) -> str:
        if isinstance(value, str):
            text = _plain(value.replace("\\,", ",") if escaped else value)
        elif isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, int | Decimal):
            text = str(value)
        else:
            raise WrongValueError(f"{numbers.kind(value)} where text is expected")
        if limit is not None and len(text) > limit and len(text.rstrip(" ")) > limit:
            raise WrongValueError(f"text longer than {limit} characters")
        return text

    return convert


def _uuid(value: Any) -> str:
    try:
        return str(UUID(string(value)))
    except ValueError:
        raise WrongValueError("text that is no UUID") from None


def _json(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=float)
    try:
        json.loads(text, parse_constant=_no_constant, parse_float=_checked_number)
    except (ValueError, ArithmeticError, RecursionError):
        raise WrongValueError("text that is not JSON") from None
    if "\x00" in text or _NUL_ESCAPE.search(text):
        raise WrongValueError("a NUL character, which PostgreSQL's JSON cannot hold")
    if "\\ud" in text.lower():
        text = json.dumps(json.loads(text), ensure_ascii=False)
    return _plain(text)


def _no_constant(_: str) -> None:
    raise ValueError


def _checked_number(text: str) -> Decimal:
    number = Decimal(text)
    if abs(number.adjusted()) > _JSON_DIGITS // 10:
        raise ValueError
    return number


def _item(text: str) -> str | None:
    """An element of PostgreSQL's text of an array."""
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return None if text.upper() == "NULL" else text


def _array(element: Converter, wire: Wire) -> Converter:
    def convert(value: Any) -> Value:
        if isinstance(value, str):
            if value.startswith("{{") and value.endswith("}}"):
                return _plain(value)  # of more than one dimension: PostgreSQL wrote it, and reads it
            if _ARRAY.fullmatch(value):
                value = [_item(found[0]) for found in _ITEM.finditer(value, 1, len(value) - 1)]
            elif not wire.mysql and not wire.name.endswith("EnumSet"):
                raise WrongValueError("text that is no array")
            else:
                value = value.split(",") if value else []  # MySQL's SET
        if not isinstance(value, list):
            raise WrongValueError(f"{numbers.kind(value)} where an array is expected")
        parts = []
        for item in value:
            text = None if item is None else element(item)
            if text is None:
                parts.append("NULL")
            else:
                parts.append('"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"')
        return "{" + ",".join(parts) + "}"

    return convert
