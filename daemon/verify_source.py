"""Verify against the source: proves that the mirror equals the source's tables, while both move.

Ranges of the key are compared by sums that each side computes for itself. Where they differ, the rows of the range are
read as capture reads them and compared one by one, by hashes. What differs then may only be on its way, so it is
judged again: behind the place of the source's log at which it was read, and only if neither side has changed it since.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from connectors.errors import RowtideError
from connectors.source_rows import IncomparableError, Key, Keys, Range, SourceRows
from connectors.state import connect
from connectors.table import Table
from consumers.engine import instance
from consumers.engine.mirror_rows import MirrorRows
from daemon.settings import Settings
from daemon.source_check import Request, Result, SourceCheck
from daemon.source_judge import Judge
from daemon.source_sides import Sides, differing

if TYPE_CHECKING:
    from daemon.app import App

_PENDING = 10_000  # rows that seem to differ before they are judged


def verify_source(app: App, request: Request) -> Result:
    """Compare the mirror with the source. Raises what a person must act on."""
    tables = _chosen(app, request.tables)
    with connect(app.dsn) as connection, open_rows(app.settings, tables, app.name) as source:
        instance.require(connection, app.name, app.analysis)
        sides = Sides(source, MirrorRows(connection, app.name), app.decoder())
        judge = Judge(app, request, sides, connection)
        checks = _Comparison(request, sides, judge).compare(tables)
    return Result(checks, judge.settled)


def _chosen(app: App, names: Sequence[str]) -> list[Table]:
    unknown = [name for name in names if name not in app.domain.tables]
    if unknown:
        raise RowtideError(
            f"The domain {app.name} declares no table {unknown[0]}.",
            hint=f"It declares: {', '.join(sorted(app.domain.tables))}.",
        )
    return [table for name, table in app.domain.tables.items() if not names or name in names]


@contextmanager
def open_rows(settings: Settings, tables: Sequence[Table], name: str) -> Iterator[SourceRows]:
    """The rows of the source that the settings name."""
    given = settings.source
    if given.dsn is None:
        raise RowtideError(
            "There is no source to compare with.",
            hint="Set source.dsn, also where Debezium captures it: a user who may read its tables is enough.",
        )
    dsn = given.dsn.get_secret_value()
    rows: SourceRows
    if given.kind == "mysql" or dsn.startswith(("mysql://", "mariadb://")):
        from connectors.source_rows.mysql import MySQLRows  # noqa: PLC0415 - each family brings its own driver

        rows = MySQLRows(dsn, tables, name=name)
    else:
        from connectors.source_rows.postgres import PostgresRows  # noqa: PLC0415

        rows = PostgresRows(dsn, tables, name=name, schema=given.db_schema)
    with closing(rows):
        yield rows


class _Comparison:
    """Compares tables one after the other."""

    def __init__(self, request: Request, sides: Sides, judge: Judge) -> None:
        self._request = request
        self._sides = sides
        self._judge = judge
        self._read = 0
        self._began = time.monotonic()

    def compare(self, tables: Sequence[Table]) -> list[SourceCheck]:
        """Table by table, range by range; what seems to differ is judged together."""
        checks = {table.name: SourceCheck(table.name) for table in tables}
        pending: dict[str, set[Key]] = {}
        for table in tables:
            check = checks[table.name]
            orderly = self._sides.source.is_orderly(table)
            try:
                for suspects in self._ranges(table, check) if orderly else self._pages(table, check):
                    pending.setdefault(table.name, set()).update(suspects)
                    if sum(map(len, pending.values())) >= _PENDING:
                        self._judge.judge(pending, checks)
                        pending = {}
                    if self._request.on_progress is not None:
                        self._request.on_progress(table.name, check.rows)
            except IncomparableError as error:
                check.refused = error.message
                pending.pop(table.name, None)
        self._judge.judge(pending, checks)
        for check in checks.values():
            check.keys.sort(key=lambda entry: repr(entry["key"]))
        return list(checks.values())

    def _pace(self, rows: int) -> None:
        """Wait until so many more rows may have been read."""
        self._read += rows
        if self._request.pace:
            early = self._began + self._read / self._request.pace - time.monotonic()
            if early > 0:
                self._request.wait(early)

    # --- ranges and pages ---

    def _ranges(self, table: Table, check: SourceCheck) -> Iterator[set[Key]]:
        """Keys that seem to differ, range by range, where keys have one order on both sides."""
        low: Key | None = None
        texts = self._sides.source.mirrored(table)
        while True:
            ends = [side.last_of(table, low, self._request.rows) for side in (self._sides.source, self._sides.mirror)]
            high = min((end for end in ends if end is not None), key=_order, default=None)
            yield self._range(table, Range(low, high), texts, check)
            if high is None:
                return
            low = high

    def _range(self, table: Table, segment: Range, texts: Sequence[str] | None, check: SourceCheck) -> set[Key]:
        check.ranges += 1
        there = None if texts is None else self._sides.source.digest(table, segment)
        if texts is not None and there is not None and there == self._sides.mirror.digest(table, segment, texts):
            check.rows += there.rows
            self._pace(there.rows)
            return set()
        check.by_rows += 1
        hashes = self._sides.hashes(table, self._sides.source.rows(table, segment))
        check.rows += len(hashes)
        self._pace(len(hashes))
        return differing(hashes, self._sides.mirror.hashes(table, segment))

    def _pages(self, table: Table, check: SourceCheck) -> Iterator[set[Key]]:
        """The same where each side has its own order: the source's rows in its order, then the mirror's keys in theirs."""
        after: Sequence[str] | None = None
        while True:
            rows, after = self._sides.source.page(table, after, self._request.rows)
            hashes = self._sides.hashes(table, rows)
            check.ranges += 1
            check.by_rows += 1
            check.rows += len(hashes)
            self._pace(len(hashes))
            yield differing(hashes, self._sides.mirror.hashes(table, Keys(list(hashes))))
            if after is None:
                break
        last: Key | None = None
        while keys := self._sides.mirror.page(table, last, min(self._request.rows, 1000)):
            there = self._sides.hashes(table, self._sides.source.rows(table, Keys(keys)))
            self._pace(len(there))
            yield {key for key in keys if key not in there}
            last = keys[-1]


def _order(key: Key) -> tuple[Any, ...]:
    """Keys of whole numbers, dates and UUIDs in their order."""
    return tuple(int(part) if part.lstrip("-").isdigit() else part for part in key)
