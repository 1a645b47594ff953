"""Numbers, bits and bytes: from the form they have on the wire to PostgreSQL input text."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any

from connectors.event.wire import Converter, Wire, WrongValueError, string

RANGES = {"smallint": 15, "integer": 31, "bigint": 63}
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?|NaN|[+-]?Infinity", re.ASCII)
_INTEGER = re.compile(r"\s*[+-]?\d{1,40}(?:\.0*)?\s*", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
# PostgreSQL's numeric: at most so many digits before and behind the point.
_BEFORE_POINT, _BEHIND_POINT = 131_072, 16_383
_EXACT = Context(prec=_BEFORE_POINT + _BEHIND_POINT + 2, Emin=-999_999_999, Emax=999_999_999)


def integer(bits: int, wire: Wire) -> Converter:
    """For smallint, integer and bigint, of `bits` bits beside the sign."""
    low, high = -(1 << bits), (1 << bits) - 1
    decimal = numeric("numeric", wire) if wire.name.endswith("Decimal") else None

    plain = not wire.name.endswith("Bits")

    def convert(value: Any) -> str:
        if plain and value.__class__ is int and low <= value <= high:
            return str(value)
        if decimal is not None and not isinstance(value, int):
            value = decimal(value)
        elif wire.name.endswith("Bits"):
            value = int.from_bytes(decoded(value), "little")
        return str(_checked(_whole(value)))

    def _checked(number: int) -> int:
        if not low <= number <= high:
            raise WrongValueError(f"a number outside of the {bits + 1} bits of its type")
        return number

    return convert


def _whole(value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            raise WrongValueError("text that is no integer")
        return int(value.strip().partition(".")[0])
    if (
        isinstance(value, Decimal)
        and value.is_finite()
        and value.adjusted() < 40
        and value == value.to_integral_value()
    ):
        return int(value)
    raise WrongValueError(f"{kind(value)} where an integer is expected")


# What is no number, as Debezium's PostgreSQL connector calls it in text.
_NAMED = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}


def numeric(type_: str, wire: Wire) -> Converter:
    """For numeric of any size, exactly."""
    size = re.search(r"\((\d+)(?:,(-?\d+))?\)", type_)
    scale = int(size[2] or 0) if size else None
    digits = int(size[1]) - int(size[2] or 0) if size else _BEFORE_POINT
    # How BIGINT UNSIGNED is declared: its upper half comes as a negative 64-bit integer.
    unsigned = wire.mysql and size is not None and size[1] == "20" and scale == 0
    # Debezium writes a decimal as text with all digits of its scale: without a point it is the bytes.
    pointed = wire.debezium and not wire.told and scale is not None and scale > 0

    def convert(value: Any) -> str:
        if isinstance(value, Mapping):
            if not _is_number(value.get("scale")) or "value" not in value:
                raise WrongValueError("an object that is no decimal")
            text = _unscaled(value["value"], int(value["scale"]))
        elif isinstance(value, str) and wire.name.endswith("Decimal") and wire.type != "string":
            text = _unscaled(value, wire.scale)
        elif isinstance(value, str):
            text = value.strip()
            text = _NAMED.get(text, text)
            if pointed and text.isdigit() and len(text) % 4 == 0:
                raise WrongValueError("a decimal in bytes without its scale: set decimal.handling.mode=string")
        elif isinstance(value, bool):
            text = "1" if value else "0"
        elif isinstance(value, int):
            number = value + (1 << 64) if unsigned and -(1 << 63) <= value < 0 else value
            text = str(Decimal(number))
        elif isinstance(value, Decimal):
            text = str(value)
        else:
            raise WrongValueError(f"{kind(value)} where a decimal is expected")
        return fitting(text)

    def fitting(text: str) -> str:
        if not _DECIMAL.fullmatch(text):
            if not wire.told and _BASE64.fullmatch(text):
                raise WrongValueError("a decimal in bytes without its scale: set decimal.handling.mode=string")
            raise WrongValueError("text that is no decimal")
        if "N" in text or "I" in text:
            if size and "I" in text:
                raise WrongValueError("infinity, which a numeric with precision cannot hold")
            return text
        if len(text) <= min(digits, _BEHIND_POINT) and "e" not in text and "E" not in text:
            return text
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise WrongValueError("text that is no decimal") from None
        exponent = number.as_tuple().exponent
        if number.adjusted() > _BEFORE_POINT or (isinstance(exponent, int) and -exponent > _BEHIND_POINT):
            raise WrongValueError("more digits than any numeric holds")
        if scale is not None:
            number = number.quantize(Decimal((0, (1,), -scale)), ROUND_HALF_UP, _EXACT)
        if number and number.adjusted() + 1 > digits:
            raise WrongValueError("more digits before the point than its type has")
        return text

    return convert


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unscaled(value: Any, scale: int) -> str:
    """A decimal from base64 of a big-endian two's complement, exactly: contexts round beyond 28 digits."""
    number = int.from_bytes(decoded(value), "big", signed=True)
    if not -20000 < scale < 20000:
        raise WrongValueError("a decimal with a scale that no type has")
    sign, digits = ("-" if number < 0 else ""), str(Decimal(abs(number)))
    if scale <= 0:
        return sign + digits + "0" * -scale
    digits = digits.rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def decoded(value: Any) -> bytes:
    """The bytes of base64 text."""
    try:
        return base64.b64decode(string(value), validate=True)
    except (binascii.Error, ValueError):
        raise WrongValueError("text that is not base64") from None


def kind(value: Any) -> str:
    """What a JSON value is."""
    names = {str: "text", bool: "a boolean", int: "a number", Decimal: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "a value")


def floating(*, single: bool) -> Converter:
    """For real and double precision."""

    def convert(value: Any) -> str:
        if isinstance(value, bool):
            return "1" if value else "0"
        text = str(value) if isinstance(value, int | Decimal) else string(value).strip()
        if text in ("NaN", "Infinity", "-Infinity"):
            return text
        if not _DECIMAL.fullmatch(text):
            raise WrongValueError("text that is no number")
        number = float(text)
        infinite = number in (float("inf"), float("-inf"))
        if not infinite and single and number:
            try:
                infinite = struct.unpack("<f", struct.pack("<f", number))[0] == 0
            except OverflowError:
                infinite = True
        if infinite:
            raise WrongValueError("a number outside of the range of its type")
        return repr(number)

    return convert


def boolean(wire: Wire) -> Converter:
    """For boolean: also 0 and 1, and MySQL's BIT(1)."""

    def convert(value: Any) -> str:
        if wire.name.endswith("Bits") and isinstance(value, str):
            return "true" if any(decoded(value)) else "false"
        if value is True or value is False:
            return "true" if value else "false"
        if isinstance(value, int | Decimal) and value in (0, 1):
            return "true" if value else "false"
        if isinstance(value, str) and value.lower() in ("t", "true", "f", "false", "1", "0"):
            return "true" if value.lower() in ("t", "true", "1") else "false"
        raise WrongValueError("neither true nor false")

    return convert


def binary(value: Any) -> str:
    """For bytea: base64, or PostgreSQL's own hexadecimal form."""
    if isinstance(value, str) and value.startswith("\\x"):
        try:
            return "\\x" + bytes.fromhex(value[2:]).hex()
        except ValueError:
            raise WrongValueError("text that is not hexadecimal") from None
    return "\\x" + decoded(value).hex()


def bits(width: int, *, varying: bool) -> Converter:
    """For bit and bit varying: text of 0 and 1, or little-endian bytes."""

    def convert(value: Any) -> str:
        if isinstance(value, bool):
            text = "1" if value else "0"
        elif isinstance(value, str) and re.fullmatch(r"[01]*", value) and (varying or len(value) == width):
            text = value
        elif varying:
            raise WrongValueError("bits as bytes, which do not tell how many they are: leave the column out")
        else:
            text = format(int.from_bytes(decoded(value), "little"), "b").rjust(width, "0")
        if len(text) > width or (not varying and len(text) != width):
            raise WrongValueError(f"not {width} bits")
        return text

    return convert
