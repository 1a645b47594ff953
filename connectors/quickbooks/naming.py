"""Names as QuickBooks takes them: what may not be in them is replaced, and what is too long is cut.

A display name is unique among customers, vendors and employees of a company, without regard to case.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

DISPLAY_NAME = 500
NAME_PART = 100

_SPACES = re.compile(r"\s+")


class Cleaned(NamedTuple):
    """A text as it may be sent, and whether something of it had to be left out."""

    text: str
    cut: bool


def clean(text: str | None, limit: int) -> Cleaned:
    """A name or a part of one: no colon, no tab, no line break, no control character, single spaces, at most `limit`."""
    kept = "".join(_replaced(character) for character in text or "")
    single = _SPACES.sub(" ", kept).strip()
    return Cleaned(single[:limit].rstrip(), len(single) > limit)


def _replaced(character: str) -> str:
    if character == ":":
        return "-"
    # Control characters, lone surrogates and what has no meaning: a database may hold them, no person wrote them.
    # A joiner inside a word is a letter's form, not a control.
    if unicodedata.category(character) in ("Cc", "Cs", "Cn", "Zl", "Zp"):
        return " "
    return character


def key(name: str) -> str:
    """The name as it is compared: two names with one key cannot both be in a company."""
    return _SPACES.sub(" ", unicodedata.normalize("NFC", name)).strip().casefold()


def candidates(real: str, suffix: str | None, record: str, record_id: str) -> list[str]:
    """The display names that a record may take, in the order in which they are tried; never empty.

    The real name; with the suffix; with the suffix and the record's id, which no other record of its kind has.
    """
    last = clean(record_id, 40).text or clean(record, 40).text
    told = clean(suffix, 100).text
    name = clean(real, DISPLAY_NAME).text or clean(record, DISPLAY_NAME).text
    endings = ["", *([f" ({told})"] if told else []), f" ({told}/{last})" if told else f" ({last})"]
    found: dict[str, str] = {}
    for ending in endings:
        full = name[: DISPLAY_NAME - len(ending)].rstrip() + ending
        found.setdefault(key(full), full)
    return list(found.values())
