"""The floor: the least that any consumer must do with the same records, to hold every ratio against.

Decode, then per batch one transaction: COPY the last image of each row into a temporary table, upsert from there,
delete what went. Same decoder, same tables and indexes, same session settings as the engine; no models, no keys.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import psycopg

from connectors.event import Change, Decoder, Event
from connectors.log import Record
from connectors.table import Table
from consumers.engine.engine import SESSION
from consumers.engine.sqltext import quote, quoted

SCHEMA = "floor"
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


class Floor:
    """A mirror alone, beside the instance's own.

    Args:
        connection: of its own, not in a transaction.
        source: the schema of the mirror to copy, with its rows, indexes and settings.
    """

    def __init__(
        self,
        connection: psycopg.Connection[tuple[object, ...]],
        tables: Mapping[str, Table],
        source: str,
        decoder: Decoder,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._decoder = decoder
        self.seconds = {"decode": 0.0, "copy": 0.0, "upsert": 0.0, "commit": 0.0}
        self.events = 0
        connection.execute(SESSION)
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
        connection.execute(f"SET search_path = {SCHEMA}")
        for name in tables:
            origin = f"{quote(source)}.{quote(name)}"
            connection.execute(f"CREATE TABLE {quote(name)} (LIKE {origin} INCLUDING ALL) WITH (fillfactor = 80)")
            connection.execute(f"INSERT INTO {quote(name)} SELECT * FROM {origin}")
            connection.execute(f"CREATE TEMP TABLE {quote('stage_' + name)} (LIKE {origin}) ON COMMIT DELETE ROWS")
        connection.commit()

    def apply(self, records: Sequence[Record]) -> None:
        """Decode one batch and bring it into the mirror; the clock runs from the records in memory to the commit."""
        began = time.perf_counter()
        events = [self._decoder.decode(record.key, record.value) for record in records]
        self._spent("decode", began)
        for name, rows in self._last_images(events).items():
            self._write(self._tables[name], rows)
        began = time.perf_counter()
        self._connection.commit()
        self._spent("commit", began)

    def _last_images(self, events: Sequence[Event]) -> dict[str, dict[tuple[str, ...], Change]]:
        began = time.perf_counter()
        pending: dict[str, dict[tuple[str, ...], Change]] = {}
        for event in events:
            if isinstance(event, Change):
                self.events += 1
                pending.setdefault(event.table, {})[event.key] = event
        self._spent("copy", began)
        return pending

    def _write(self, table: Table, changes: Mapping[tuple[str, ...], Change]) -> None:
        began = time.perf_counter()
        stage, columns = quote("stage_" + table.name), quoted(table.names)
        lines = [
            "\t".join("\\N" if value is None else str(value).translate(_ESCAPES) for value in change.row)
            for change in changes.values()
            if change.row is not None
        ]
        cursor = self._connection.cursor()
        if lines:
            with cursor.copy(f"COPY {stage} ({columns}) FROM STDIN") as copy:
                copy.write("\n".join(lines) + "\n")
        self._spent("copy", began)
        began = time.perf_counter()
        if lines:
            others = [name for name in table.names if name not in table.key]
            action = ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in others)
            cursor.execute(
                f"INSERT INTO {quote(table.name)} SELECT {columns} FROM {stage} ON CONFLICT ({quoted(table.key)}) DO "
                + (f"UPDATE SET {action}" if others else "NOTHING"),
                prepare=True,
            )
        gone = [key for key, change in changes.items() if change.row is None]
        if gone:
            marks = " AND ".join(f"{quote(name)} = %s" for name in table.key)
            cursor.executemany(f"DELETE FROM {quote(table.name)} WHERE {marks}", gone)
        self._spent("upsert", began)

    def _spent(self, part: str, began: float) -> None:
        self.seconds[part] += time.perf_counter() - began
