"""Character sets: text that the binlog has in a column's own set, as the server itself would show it in UTF-8."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import TypeAlias

from connectors.capture.mysql.connection import Connection, rows, value
from connectors.capture.running import CaptureStoppedError

Decode: TypeAlias = Callable[[bytes], str]

# Sets with characters of several bytes that Python knows as the server does. Those of one byte are asked of the server.
_CODECS = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "ascii": "latin-1",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "gbk": "gbk",
    "gb2312": "gb2312",
    "gb18030": "gb18030",
    "big5": "big5",
    "euckr": "cp949",
    "sjis": "shift_jis",
    "cp932": "cp932",
    "ujis": "euc_jp",
    "eucjpms": "euc_jis_2004",
}


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class Charsets:
    """The source's collations, by number, and how to read text in each."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._decoders: dict[int, Decode] = {}

    def knows(self, numbers: set[int]) -> bool:
        """Whether text in all of the collations can be read."""
        return numbers <= self._decoders.keys()

    def load(self, connection: Connection, numbers: set[int]) -> None:
        """Learn to read text in the collations of these numbers. Raises CaptureStoppedError for unknown ones."""
        missing = numbers - self._decoders.keys()
        if not missing:
            return
        if not self._names:
            self._names = _names(connection)
        for number in missing:
            name = self._names.get(number)
            if name is None:
                raise CaptureStoppedError(
                    f"The source does not know the collation number {number} that its own binlog names.",
                    hint="The binlog was written by another version: run `rowtide init --snapshot`.",
                )
            self._decoders[number] = self._decoder(connection, name)

    def decoder(self, number: int) -> Decode:
        """How to read text of the collation."""
        return self._decoders.get(number, _utf8)

    def _decoder(self, connection: Connection, name: str) -> Decode:
        codec = _CODECS.get(name)
        if codec == "utf-8":
            return _utf8
        if codec is not None:
            return lambda data: data.decode(codec, "replace")
        width = value(
            connection, "SELECT MAXLEN FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME = %s", [name]
        )
        if width != "1" or not name.isalnum():
            raise CaptureStoppedError(
                f"Text in the character set {name} cannot be captured.",
                hint="Convert the column in the source: ALTER TABLE ... MODIFY ... CHARACTER SET utf8mb4.",
            )
        listed = ", ".join(f"CONVERT(_{name} x'{byte:02x}' USING utf8mb4)" for byte in range(256))
        table = "".join((text or "�")[:1] for text in rows(connection, f"SELECT {listed}")[0])
        return lambda data: codecs.charmap_decode(data, "replace", table)[0]


def _names(connection: Connection) -> dict[int, str]:
    """The character set of each collation's number."""
    found = rows(connection, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL")
    names = {int(number): name for number, name in found if number and name}
    if "FULL_COLLATION_NAME" in {
        column
        for (column,) in rows(
            connection,
            "SELECT UPPER(COLUMN_NAME) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema' "
            "AND TABLE_NAME = 'COLLATION_CHARACTER_SET_APPLICABILITY'",
        )
    }:
        listed = rows(
            connection, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
        )
        names |= {int(number): name for number, name in listed if number and name}
    return names
