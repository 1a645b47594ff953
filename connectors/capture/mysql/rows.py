"""Rows of the binlog as rows of a declared table: which columns are read, which are passed over."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from connectors.capture.mysql import types
from connectors.capture.mysql.charsets import Charsets
from connectors.capture.mysql.errors import BinlogBrokenError
from connectors.capture.mysql.events import RowsEvent
from connectors.capture.mysql.tablemap import TableMap
from connectors.capture.mysql.types import Convert
from connectors.capture.mysql.values import Read, reader, skipper
from connectors.capture.running import CaptureStoppedError
from connectors.table import Table

Row = tuple[str | None, ...]


class RowChange(NamedTuple):
    """One row's change; `before` is set where the key has changed, and for a deletion, and holds the key alone."""

    before: Row | None
    after: Row | None


class _Step(NamedTuple):
    bit: int  # in the bitmap of NULLs
    read: Read
    place: int  # among the declared columns; -1 for one to pass over
    convert: Convert | None


class RowReader:
    """Reads the rows of one table as one TABLE_MAP describes them.

    Raises CaptureStoppedError where a needed column is not there or its type cannot be what is declared.

    Args:
        catalogue: the columns that are plain bytes in the binlog and more in the source: name → `uuid` or `inet`.
    """

    def __init__(self, table: Table, described: TableMap, charsets: Charsets, catalogue: Mapping[str, str]) -> None:
        self.table = table
        self._width = len(described.columns)
        self._full = bytes([0xFF] * (self._width // 8) + ([(1 << self._width % 8) - 1] if self._width % 8 else []))
        if not described.named:
            raise CaptureStoppedError(
                "The source's binlog does not tell the names of columns (binlog_row_metadata is MINIMAL).",
                hint="Run SET GLOBAL binlog_row_metadata = 'FULL' in the source, and set it in its configuration. "
                "Then run `rowtide init --snapshot`, and start again.",
            )
        places = {name.lower(): place for place, name in enumerate(table.names)}
        found = {column.name.lower() for column in described.columns}
        missing = [c.name for c in table.columns if c.name.lower() not in found and not c.optional]
        if missing:
            raise lost_column(table, missing[0])
        self._steps: list[_Step] = []
        self._key_steps: list[_Step] = []  # of an old image: its key is all that matters
        for number, stored in enumerate(described.columns):
            place = places.get(stored.name.lower(), -1)
            try:
                read = reader(stored, charsets) if place >= 0 else skipper(stored)
                keyed = read if place in table.key_positions else skipper(stored)
            except KeyError:
                raise CaptureStoppedError(
                    f"The column {table.name}.{stored.name} has a type that capture does not know ({stored.kind}).",
                    hint="Upgrade Rowtide, or take the column out of the table.",
                ) from None
            convert = None
            if place >= 0:
                shape = types.stored_shape(stored, catalogue.get(stored.name.lower()))
                convert = types.target(shape, table.columns[place], table.name)
            self._steps.append(_Step(1 << number, read, place, convert))
            self._key_steps.append(
                _Step(1 << number, keyed, place, convert)
                if place in table.key_positions
                else _Step(1 << number, keyed, -1, None)
            )

    def changes(self, event: RowsEvent) -> Iterator[RowChange]:
        """The event's rows in order."""
        if event.width != self._width:
            raise BinlogBrokenError("rows have another number of columns than their table")
        if event.after != self._full or event.before != self._full:
            raise CaptureStoppedError(
                f"The source logged a change of {self.table.name} without some of its columns "
                "(binlog_row_image is not FULL).",
                hint="Run SET GLOBAL binlog_row_image = 'FULL' in the source, and set it in its configuration. "
                "Then run `rowtide init --snapshot`, and start again.",
            )
        data, at, end = event.data, event.at, len(event.data)
        keys = self.table.key_positions
        try:
            while at < end:
                if event.op == "c":
                    after, at = self._row(data, at, self._steps)
                    yield RowChange(None, after)
                    continue
                before, at = self._row(data, at, self._key_steps)
                if event.op == "d":
                    yield RowChange(before, None)
                    continue
                after, at = self._row(data, at, self._steps)
                moved = any(before[place] != after[place] for place in keys)
                yield RowChange(before if moved else None, after)
        except (IndexError, ValueError, struct.error, zlib.error) as error:
            raise BinlogBrokenError(f"rows of {self.table.name} are malformed") from error
        if at != end:
            raise BinlogBrokenError(f"rows of {self.table.name} are cut off")

    def _row(self, data: bytes, at: int, steps: Sequence[_Step]) -> tuple[Row, int]:
        begin = at + (self._width + 7) // 8
        nulls = int.from_bytes(data[at:begin], "little")
        at = begin
        row: list[str | None] = [None] * len(self.table.columns)
        for bit, read, place, convert in steps:
            if nulls & bit:
                continue
            value, at = read(data, at)
            if place >= 0:
                row[place] = cast(str, value) if convert is None else convert(value)
        return tuple(row), at


def key_of(table: Table, row: Row) -> Sequence[str]:
    """The row's key. A zero date in it reads as NULL, which the decoder refuses: such an event is parked."""
    return cast(Sequence[str], [row[place] for place in table.key_positions])


def lost_column(table: Table, column: str) -> CaptureStoppedError:
    """The error of a needed column that the source no longer has."""
    return CaptureStoppedError(
        f"The source's table {table.name} has lost the column {column} (dropped or renamed).",
        hint="Take it out of source.sql (or make it optional) and run `rowtide rebuild`.",
    )
