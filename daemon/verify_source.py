"""Verify against the source: proves that the mirror equals the source's tables, while both move.

Ranges of the key are compared by sums that each side computes for itself. Where they differ, the rows of the range are
read as capture reads them and compared one by one, by hashes. What differs then may only be on its way, so it is
judged again: behind the place of the source's log at which it was read, and only if neither side has changed it since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg

from connectors.errors import RowtideError
from connectors.event import Change, Truncate
from connectors.log import Record, TopicPartition
from connectors.source_rows import IncomparableError, Key, Keys, Range, SourceRows, Written
from connectors.state import connect
from connectors.table import Table
from consumers.engine import instance, rebuild
from consumers.engine.mirror_rows import MirrorRows
from consumers.engine.units import Parked
from consumers.reader import decode
from daemon.settings import Settings

if TYPE_CHECKING:
    from daemon.app import App

REFUSED = "refused"  # stands for a row that cannot be in the mirror: its event would be parked
_ROUNDS = 6  # how often a row that moves is looked at again
_PENDING = 10_000  # rows that seem to differ before they are judged
_NEVER = "never"  # what no hash is
_POLL = 0.05  # seconds between two looks at how far the mirror is


@dataclass(frozen=True)
class Request:
    """What is to be compared, and how.

    Args:
        tables: by name; all where empty.
        rows: of a range.
        pace: rows of the source a second at most; None: no limit.
        patience: seconds that the mirror may need to pass the source's place.
        grace: seconds after which another's capture (Debezium) is trusted to have brought what was committed.
        limit: keys that are told of each table.
        wait: how a pause is made, in seconds.
    """

    tables: Sequence[str] = ()
    rows: int = 2000
    pace: float | None = None
    patience: float = 60.0
    limit: int = 20
    on_progress: Callable[[str, int], None] | None = None
    grace: float = 5.0
    wait: Callable[[float], object] = time.sleep


@dataclass
class SourceCheck:
    """What was found of a table.

    Args:
        rows: of the source.
        ranges: compared; `by_rows` of them row by row.
        missing, unexpected, different: rows that only the source has, that only the mirror has, that differ.
        moving: rows that changed each time they were looked at, and were not judged.
        keys: of the first rows that differ, with what is wrong.
        refused: why the table could not be compared; empty where it was.
    """

    name: str
    rows: int = 0
    ranges: int = 0
    by_rows: int = 0
    missing: int = 0
    unexpected: int = 0
    different: int = 0
    moving: int = 0
    keys: list[dict[str, Any]] = field(default_factory=list)
    refused: str = ""

    @property
    def clean(self) -> bool:
        """Whether the mirror is known to have the source's rows."""
        return not (self.missing or self.unexpected or self.different or self.refused)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass
class Result:
    """The tables, and whether the mirror had passed the source's place whenever rows were judged."""

    tables: list[SourceCheck]
    settled: bool = True

    @property
    def clean(self) -> bool:
        """Whether all tables are."""
        return all(table.clean for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"clean": self.clean, "settled": self.settled, "tables": [table.as_dict() for table in self.tables]}


def verify_source(app: App, request: Request) -> Result:
    """Compare the mirror with the source. Raises what a person must act on."""
    tables = _chosen(app, request.tables)
    with connect(app.dsn) as connection, open_rows(app.settings, tables, app.name) as source:
        instance.require(connection, app.name, app.analysis)
        mirror = MirrorRows(connection, app.name)
        comparison = _Comparison(app, request, source, mirror, connection)
        checks = comparison.compare(tables)
    return Result(checks, comparison.settled)


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

    def __init__(
        self,
        app: App,
        request: Request,
        source: SourceRows,
        mirror: MirrorRows,
        connection: psycopg.Connection[tuple[Any, ...]],
    ) -> None:
        self._app = app
        self._request = request
        self._source = source
        self._mirror = mirror
        self._connection = connection
        self._decoder = app.decoder()
        self._read = 0
        self._began = time.monotonic()
        self.settled = True
        self._children = _children(connection, app.name)

    def compare(self, tables: Sequence[Table]) -> list[SourceCheck]:
        """Table by table, range by range; what seems to differ is judged together."""
        checks = {table.name: SourceCheck(table.name) for table in tables}
        pending: dict[str, set[Key]] = {}
        for table in tables:
            check = checks[table.name]
            orderly = self._source.is_orderly(table)
            try:
                for suspects in self._ranges(table, check) if orderly else self._pages(table, check):
                    pending.setdefault(table.name, set()).update(suspects)
                    if sum(map(len, pending.values())) >= _PENDING:
                        self._judge(pending, checks)
                        pending = {}
                    if self._request.on_progress is not None:
                        self._request.on_progress(table.name, check.rows)
            except IncomparableError as error:
                check.refused = error.message
                pending.pop(table.name, None)
        self._judge(pending, checks)
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
        texts = self._source.mirrored(table)
        while True:
            ends = [side.last_of(table, low, self._request.rows) for side in (self._source, self._mirror)]
            high = min((end for end in ends if end is not None), key=_order, default=None)
            yield self._range(table, Range(low, high), texts, check)
            if high is None:
                return
            low = high

    def _range(self, table: Table, segment: Range, texts: Sequence[str] | None, check: SourceCheck) -> set[Key]:
        check.ranges += 1
        there = None if texts is None else self._source.digest(table, segment)
        if texts is not None and there is not None and there == self._mirror.digest(table, segment, texts):
            check.rows += there.rows
            self._pace(there.rows)
            return set()
        check.by_rows += 1
        hashes = self._hashes(table, self._source.rows(table, segment))
        check.rows += len(hashes)
        self._pace(len(hashes))
        return _differing(hashes, self._mirror.hashes(table, segment))

    def _pages(self, table: Table, check: SourceCheck) -> Iterator[set[Key]]:
        """The same where each side has its own order: the source's rows in its order, then the mirror's keys in theirs."""
        after: Sequence[str] | None = None
        while True:
            rows, after = self._source.page(table, after, self._request.rows)
            hashes = self._hashes(table, rows)
            check.ranges += 1
            check.by_rows += 1
            check.rows += len(hashes)
            self._pace(len(hashes))
            yield _differing(hashes, self._mirror.hashes(table, Keys(list(hashes))))
            if after is None:
                break
        last: Key | None = None
        while keys := self._mirror.page(table, last, min(self._request.rows, 1000)):
            there = self._hashes(table, self._source.rows(table, Keys(keys)))
            self._pace(len(there))
            yield {key for key in keys if key not in there}
            last = keys[-1]

    # --- rows ---

    def _hashes(self, table: Table, rows: Sequence[Written]) -> dict[Key, str]:
        """The source's rows as the mirror would have them, by the way that events take."""
        decoded: list[Change] = []
        hashes: dict[Key, str] = {}
        for row in rows:
            event = decode(self._decoder, Record("", 0, 0, 0, row.key, row.value))
            if isinstance(event, Change):
                decoded.append(event)
            elif isinstance(event, Parked):
                hashes |= dict.fromkeys(self._mirror.keys_of(table, [_raw_key(table, row)]), REFUSED)
        texts = [[v if isinstance(v, str) else None for v in event.row or ()] for event in decoded]
        for event, found in zip(decoded, self._mirror.hashes_of(table, texts), strict=True):
            if found is None:
                hashes |= dict.fromkeys(self._mirror.keys_of(table, [event.key]), REFUSED)
            else:
                hashes[found[0]] = found[1]
        return hashes

    def _both(self, table: Table, keys: Sequence[Key]) -> dict[Key, str]:
        return self._hashes(table, [w for part in _parts(keys) for w in self._source.rows(table, Keys(part))])

    # --- judging ---

    def _judge(self, pending: Mapping[str, set[Key]], checks: Mapping[str, SourceCheck]) -> None:
        """Look again at what seems to differ, behind the source's place at which it was read."""
        confirmed: dict[tuple[str, Key], str | None] = {}
        suspects = {name: keys for name, keys in pending.items() if keys}
        for _ in range(_ROUNDS):
            if not suspects:
                return
            suspects = self._round(suspects, checks, confirmed)
        for name, keys in suspects.items():
            checks[name].moving += len(keys)

    def _round(
        self,
        suspects: Mapping[str, set[Key]],
        checks: Mapping[str, SourceCheck],
        confirmed: dict[tuple[str, Key], str | None],
    ) -> dict[str, set[Key]]:
        """Judge what stands still; returns what moves.

        A row stands still if the source tells it twice alike and the log tells nothing of it in between. What foreign
        keys do to a row, the log does not tell: such a row must be found wrong twice in the same way.
        """
        tables = {name: self._app.domain.tables[name] for name in suspects}
        begin = self._ends()
        before = {name: self._both(tables[name], sorted(keys)) for name, keys in suspects.items()}
        settled = self._pass()
        mirrored = {
            name: {
                k: h for part in _parts(sorted(keys)) for k, h in self._mirror.hashes(tables[name], Keys(part)).items()
            }
            for name, keys in suspects.items()
        }
        after = {name: self._both(tables[name], sorted(keys)) for name, keys in suspects.items()}
        moved, wrong = dict[str, set[Key]](), dict[str, set[Key]]()
        for name, keys in suspects.items():
            moved[name] = {key for key in keys if before[name].get(key) != after[name].get(key)}
            wrong[name] = {key for key in keys - moved[name] if before[name].get(key) != mirrored[name].get(key)}
        if any(wrong.values()):
            settled = self._pass() and settled
            touched = self._touched({name: tables[name] for name, keys in wrong.items() if keys}, begin)
            for name, told in touched.items():
                again = wrong[name] if told is None else wrong[name] & told
                if name.lower() in self._children:
                    seen = mirrored[name]
                    unconfirmed = {k for k in wrong[name] if confirmed.get((name, k), _NEVER) != seen.get(k)}
                    confirmed.update({(name, key): seen.get(key) for key in unconfirmed})
                    again |= unconfirmed
                moved[name] |= again
                wrong[name] -= again
        self.settled = self.settled and (settled or (not any(wrong.values()) and not any(moved.values())))
        for name, keys in wrong.items():
            for key in sorted(keys):
                self._tell(checks[name], tables[name], key, key in before[name], key in mirrored[name])
        return {name: keys for name, keys in moved.items() if keys}

    def _tell(self, check: SourceCheck, table: Table, key: Key, there: bool, here: bool) -> None:
        kind = "missing" if not here else "unexpected" if not there else "different"
        setattr(check, kind, getattr(check, kind) + 1)
        if len(check.keys) < self._request.limit:
            check.keys.append({"key": dict(zip(table.key, key, strict=True)), "is": kind})

    def _ends(self) -> dict[TopicPartition, int]:
        return {place: extent.end for place, extent in self._app.log.extents(self._app.domain.topics).items()}

    def _pass(self) -> bool:
        """Wait until the mirror has all that the source has committed by now; False where it does not in time."""
        deadline = time.monotonic() + self._request.patience
        mark = self._source.mark()
        captured = [topic for topic in self._app.domain.topics if self._app.log.source_position(topic) is not None]
        while captured and not all(
            self._source.has_passed(mark, self._app.log.source_position(topic) or "") for topic in captured
        ):
            if time.monotonic() > deadline:
                return False
            self._request.wait(_POLL)
        if not captured:
            self._request.wait(self._request.grace)
        ends = self._ends()
        while self._behind(ends):
            if time.monotonic() > deadline:
                return False
            self._request.wait(_POLL)
        return True

    def _behind(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether the mirror has events before these ends still to take in."""
        positions = rebuild.positions(self._connection, self._app.name)
        for place, end in ends.items():
            position = positions.get(place, 0)
            if position < end:
                records = self._app.log.read({place: position}, limit=1)
                if records and records[0].offset < end:
                    return True
        return False

    def _touched(self, tables: Mapping[str, Table], begin: Mapping[TopicPartition, int]) -> dict[str, set[Key] | None]:
        """The keys of each table of which the log tells since; None: of all."""
        found: dict[str, set[Key]] = {name: set() for name in tables}
        emptied: set[str] = set()
        positions, ends = dict(begin), self._ends()
        while any(positions[place] < ends.get(place, 0) for place in positions):
            records = self._app.log.read(positions, limit=5000)
            for record in records:
                positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                event = decode(self._decoder, record)
                if isinstance(event, Truncate):
                    emptied.add(event.table)
                elif isinstance(event, Change) and event.table in found:
                    found[event.table].add(event.key)
            if not records:
                break
        return {
            name: None if name in emptied else self._mirror.keys_of(tables[name], list(keys))
            for name, keys in found.items()
        }


def _differing(there: dict[Key, str], here: dict[Key, str]) -> set[Key]:
    return {key for key in there.keys() | here.keys() if there.get(key) != here.get(key)}


def _raw_key(table: Table, row: Written) -> Key:
    """The key of a row that is refused as an event, from the message's own."""
    found = msgspec.json.decode(row.key or b"{}")
    return tuple(str(found.get(name)) for name in table.key)


def _children(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> set[str]:
    """The tables, in lower case, whose rows change by foreign keys without an event of their own."""
    rows = connection.execute('SELECT DISTINCT lower("table") FROM rowtide.foreign_key WHERE instance = %s', [name])
    return {row[0] for row in rows.fetchall()}


def _parts(keys: Sequence[Key], size: int = 500) -> Iterator[list[Key]]:
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])


def _order(key: Key) -> tuple[Any, ...]:
    """Keys of whole numbers, dates and UUIDs in their order."""
    return tuple(int(part) if part.lstrip("-").isdigit() else part for part in key)
