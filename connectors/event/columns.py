"""How the rows of one declared table are read out of an envelope: by column name, with a converter for each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from connectors.event.types import EventRefusedError, Value
from connectors.event.values import Converter, WrongValueError
from connectors.table import Table

Raw = msgspec.Raw
_UNSET = msgspec.UNSET
FAULTS = (ValueError, TypeError, OverflowError, AttributeError, ArithmeticError, RecursionError)
# Numbers with a fraction keep all their digits; text that is JSON itself is passed on as it is written.
any_value = msgspec.json.Decoder(float_hook=Decimal)
_FINDABLE = re.compile(r"[^\x00-\x1f\"\\\\]+")
_raw_fields = msgspec.json.Decoder(dict[str, Raw])


def refused(table: str, column: str, reason: str) -> EventRefusedError:
    """The refusal of a value; the reason tells the kind of fault, never the value."""
    return EventRefusedError(
        f"An event of {table} has in {column} {reason}.",
        hint=f"Check the type of {table}.{column} in source.sql against the source's.",
    )


class Columns:
    """Reads rows and keys of one table in one form of messages."""

    def __init__(self, table: Table, converters: Sequence[Converter]) -> None:
        self.table = table
        self.converters = tuple(converters)
        self._required = [n for n, c in enumerate(table.columns) if not (c.nullable or c.optional)]
        self._raw = tuple(column.type in ("json", "jsonb") for column in table.columns)
        names = [f"c{number}" for number in range(len(table.columns))]
        kinds = [Raw | msgspec.UnsetType if raw else Any for raw in self._raw]
        shape = msgspec.defstruct(
            "Row",
            [(name, kind, _UNSET) for name, kind in zip(names, kinds, strict=True)],
            # A name that the decoder cannot look for is found among the others of its row, by `_filled`.
            rename={n: c if _FINDABLE.fullmatch(c) else f"\uffff{n}" for n, c in zip(names, table.names, strict=True)},
            gc=False,
        )
        self._rows = msgspec.json.Decoder(shape, float_hook=Decimal)
        self._lower = {name.lower(): position for position, name in enumerate(table.names)}

    def row(self, raw: Raw) -> tuple[Value, ...]:
        """All columns' values. Raises EventRefusedError, msgspec.DecodeError."""
        values = msgspec.structs.astuple(self._rows.decode(raw))
        if _UNSET in values:
            values = self._filled(raw, values)
        row: list[Value] = []
        try:
            for value, convert in zip(values, self.converters, strict=True):
                row.append(None if value is None else convert(value))
        except FAULTS as error:
            raise refused(self.table.name, self.table.names[len(row)], _fault(error)) from None
        if None in row:
            for position in self._required:
                if row[position] is None:
                    raise refused(self.table.name, self.table.names[position], "NULL in a column declared NOT NULL")
        return tuple(row)

    def _filled(self, raw: Raw, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values with those that are spelled in another case; optional columns that are absent are NULL."""
        found = {name.lower(): value for name, value in _raw_fields.decode(raw).items()}
        filled = list(values)
        for name, position in self._lower.items():
            if filled[position] is _UNSET:
                column = self.table.columns[position]
                if name not in found and not column.optional:
                    raise EventRefusedError(
                        f"An event of {self.table.name} lacks the declared column {column.name}.",
                        hint="Remove the column from source.sql, or add it under [source.optional] in domain.toml.",
                    )
                part = found.get(name)
                if part is None:
                    filled[position] = None
                else:
                    filled[position] = part if self._raw[position] else any_value.decode(part)
        return tuple(filled)

    def key_of_row(self, row: Sequence[Value]) -> tuple[str, ...]:
        """The key's values in a row. Raises EventRefusedError."""
        key: list[str] = []
        for position in self.table.key_positions:
            part = row[position]
            if not isinstance(part, str):
                raise refused(self.table.name, self.table.names[position], "no value in the key")
            key.append(part)
        return tuple(key)

    def key(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The key's values by column name. Raises EventRefusedError."""
        lower = {str(name).lower(): value for name, value in values.items()}
        key: list[str] = []
        for position in self.table.key_positions:
            name = self.table.names[position]
            value = values.get(name, lower.get(name.lower()))
            if value is None:
                raise EventRefusedError(
                    f"An event of {self.table.name} has no value for the key column {name}.",
                    hint="The PRIMARY KEY in source.sql must be the source table's own.",
                )
            try:
                text = self.converters[position](value)
            except FAULTS as error:
                raise refused(self.table.name, name, _fault(error)) from None
            if not isinstance(text, str):
                raise refused(self.table.name, name, "no value in the key")
            key.append(text)
        return tuple(key)


def _fault(error: Exception) -> str:
    """The converters tell what is wrong without the value; what other code says may quote it."""
    return str(error) if isinstance(error, WrongValueError) else "a value that its type cannot hold"
