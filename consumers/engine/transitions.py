"""Which transitions the units of a batch bring about: the history keys and rows that each touches.

Two units that touch the same must not be refreshed as one, or the state between them would be lost (`waves`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.event import UNAVAILABLE, Truncate
from connectors.pipe import Pipe
from connectors.table import Table
from consumers.engine.picking import picker
from consumers.engine.tokens import Tokens
from consumers.engine.units import Unit

Key = tuple[str | None, ...]
# What a unit touches: (a history's model, its key) or (a table, a row's key).
Token = tuple[Any, Key]
Lookup = Callable[
    [Pipe, str, Sequence[tuple[str, ...]], Sequence[str], Callable[[tuple[str, ...], tuple[str | None, ...]], object]],
    None,
]


class _Feeding:
    """A table that feeds histories: the columns that tell their keys, and which of these make up which key."""

    def __init__(self, table: Table, tokens: Tokens) -> None:
        wanted = sorted({column for _, columns in tokens.columns for column in columns})
        self.columns = wanted
        self.pick = picker(tuple(table.names.index(column) for column in wanted))
        self.keys = [(model, picker(tuple(wanted.index(c) for c in columns))) for model, columns in tokens.columns]
        self.barrier = tokens.barrier


class Transitions:
    """Tells what units touch.

    Args:
        tables: the mirror's.
        tokens: how changes of the tables that feed histories touch these.
        lookup: reads columns of rows by key from the mirror as it is.
    """

    def __init__(self, tables: Mapping[str, Table], tokens: Mapping[str, Tokens], lookup: Lookup) -> None:
        self._feeding = {name: _Feeding(tables[name], tokens[name]) for name in tokens}
        self._lookup = lookup

    def touched(self, pipe: Pipe, units: Sequence[Unit]) -> list[set[Token] | None]:
        """What each unit touches of histories and of the rows that feed them; None: anything, a barrier."""
        known = self._known(pipe, units)
        result: list[set[Token] | None] = []
        for unit in units:
            tokens: set[Token] = set()
            barrier = False
            for placed in unit.changes:
                event = placed.event
                feeding = self._feeding.get(event.table)
                if feeding is None:
                    continue
                if feeding.barrier:
                    barrier = True
                if isinstance(event, Truncate):
                    barrier = True
                    known[event.table] = {}
                    continue
                key, rows = event.key, known[event.table]
                tokens.add((event.table, key))
                before, row, after = rows.get(key), event.row, None
                if row is not None:
                    after = feeding.pick(row)
                    if UNAVAILABLE in after:
                        old = before or (None,) * len(after)
                        after = tuple([o if v is UNAVAILABLE else v for v, o in zip(after, old, strict=True)])
                rows[key] = after
                for model, of in feeding.keys:
                    if before is not None:
                        tokens.add((model, of(before)))
                    if after is not None and after != before:
                        tokens.add((model, of(after)))
            result.append(None if barrier else tokens)
        return result

    def _known(self, pipe: Pipe, units: Sequence[Unit]) -> dict[str, dict[tuple[str, ...], Key | None]]:
        """The columns that tell history keys, of the rows that the units change, as the mirror has them now."""
        keys: dict[str, set[tuple[str, ...]]] = {name: set() for name in self._feeding}
        for unit in units:
            for placed in unit.changes:
                event = placed.event
                if event.table in keys and not isinstance(event, Truncate):
                    keys[event.table].add(event.key)
        known: dict[str, dict[tuple[str, ...], Key | None]] = {}
        for table, wanted in keys.items():
            columns = self._feeding[table].columns
            known[table] = {}
            if columns and wanted:
                self._lookup(pipe, table, list(wanted), columns, known[table].__setitem__)
        pipe.flush()
        return known
