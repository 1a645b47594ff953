"""Texts of values: one spelling for each, so that equal values are found as equal texts."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_FRACTION = re.compile(r"(\.\d*?)0+(?=\D|$)")


def canonical(type_: str, text: str) -> str:
    """The one spelling of a value of the declared type: no zeros that do not count, no padding."""
    base = type_.partition("(")[0]
    if base in ("smallint", "integer", "bigint", "numeric"):
        if text.isdigit() and (text[0] != "0" or text == "0"):
            return text
        try:
            number = format(Decimal(text), "f")
        except InvalidOperation:
            return text
        number = number.rstrip("0").rstrip(".") if "." in number else number
        return "0" if number == "-0" else number
    if base == "character":
        return text.rstrip(" ")
    if base.startswith("time") and "." in text:
        return _FRACTION.sub(r"\1", text, count=1).replace(".+", "+").replace(".-", "-").removesuffix(".")
    return text
