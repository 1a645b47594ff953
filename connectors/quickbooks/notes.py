"""The block of ours in a customer's Notes: fields that QuickBooks has no place for. What a person wrote around it stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

LIMIT = 2000
_BEGIN, _END = "[Rowtide]", "[/Rowtide]"
_BLOCK = re.compile(r"\n?\[Rowtide\]\n.*?(?:\[/Rowtide\]|\Z)", re.DOTALL)
_LINES = re.compile(r"\r\n?")
_VALUE = 500  # characters of one field: nobody reads more in a note


class Merged(NamedTuple):
    """Notes with the block in them, and the names of the fields for which there was no room."""

    text: str
    left_out: tuple[str, ...]


def merge(notes: str | None, fields: Mapping[str, str]) -> Merged:
    """The notes with the block of these fields in the place of the former block; at the end where there was none.

    Fields go in order as long as there is room; what stands outside the block is never touched.
    """
    present = plain(notes)
    match = _BLOCK.search(present)
    before, after = (present[: match.start()], present[match.end() :]) if match else (present, "")
    outside = len(before) + len(after)
    lines: list[str] = []
    left_out: list[str] = []
    for name, value in fields.items():
        line = f"{_one_line(name)}: {_one_line(value)}"
        if outside + len(_framed([*lines, line], before)) <= LIMIT:
            lines.append(line)
        else:
            left_out.append(name)
    return Merged(before + (_framed(lines, before) if lines else "") + after, tuple(left_out))


def fields_in(notes: str | None) -> dict[str, str]:
    """The fields of the block, by name; empty where there is no block."""
    match = _BLOCK.search(plain(notes))
    if match is None:
        return {}
    lines = match.group().strip("\n").split("\n")[1:]
    parts = (line.partition(": ") for line in lines if line != _END)
    return {name: value for name, mark, value in parts if mark}


def plain(notes: str | None) -> str:
    """Notes with one kind of line break, however QuickBooks returned them."""
    return _LINES.sub("\n", notes or "")


def _framed(lines: list[str], before: str) -> str:
    return ("\n" if before else "") + "\n".join([_BEGIN, *lines, _END])


def _one_line(text: str) -> str:
    """A name or value that cannot end the block."""
    kept = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(kept.replace(_BEGIN, "").replace(_END, "").split())[:_VALUE]
