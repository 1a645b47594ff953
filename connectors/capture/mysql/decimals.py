"""DECIMAL as the servers store it: nine digits to four bytes, the sign in the first bit, negatives inverted."""

from __future__ import annotations

from collections.abc import Callable

_DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # bytes of so many decimal digits
_INVERTED = bytes(255 - byte for byte in range(256))
_from_bytes = int.from_bytes


def decimal_reader(precision: int, scale: int) -> Callable[[bytes, int], tuple[str, int]]:
    """How to read values of a column of so many digits, `scale` of them behind the point, exactly."""
    whole, rest = divmod(precision - scale, 9)
    fraction, tail = divmod(scale, 9)
    sizes = [_DIGITS[rest]] * (rest > 0) + [4] * whole
    widths = [rest] * (rest > 0) + [9] * whole
    parts = [4] * fraction + [_DIGITS[tail]] * (tail > 0)
    places = [9] * fraction + [tail] * (tail > 0)
    size = sum(sizes) + sum(parts)

    def decimal(data: bytes, at: int) -> tuple[str, int]:
        end = at + size
        first = data[at]
        negative = not first & 0x80
        body = bytes((first ^ 0x80,)) + data[at + 1 : end]
        if negative:
            body = body.translate(_INVERTED)
        place = 0
        text = ""
        for width, digits in zip(sizes, widths, strict=True):
            text += f"{_from_bytes(body[place : place + width], 'big'):0{digits}}"
            place += width
        text = text.lstrip("0") or "0"
        if scale:
            text += "."
            for width, digits in zip(parts, places, strict=True):
                text += f"{_from_bytes(body[place : place + width], 'big'):0{digits}}"
                place += width
        return ("-" + text if negative else text), end

    return decimal
