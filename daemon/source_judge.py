"""Judges rows that seem to differ: behind the place of the source's log at which they were read, while both sides move."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psycopg

from connectors.event import Change, Truncate
from connectors.log import TopicPartition
from connectors.source_rows import Key
from connectors.table import Table
from consumers.engine import rebuild
from consumers.reader import decode
from daemon.source_check import Request, SourceCheck
from daemon.source_sides import Sides

if TYPE_CHECKING:
    from daemon.app import App

_ROUNDS = 6  # how often a row that moves is looked at again
_NEVER = "never"  # what no hash is
_POLL = 0.05  # seconds between two looks at how far the mirror is


class Judge:
    """Tells what is wrong from what is on its way; `settled` is False once the mirror did not catch up in time."""

    def __init__(
        self, app: App, request: Request, sides: Sides, connection: psycopg.Connection[tuple[Any, ...]]
    ) -> None:
        self._app = app
        self._request = request
        self._sides = sides
        self._connection = connection
        self._children = _children(connection, app.name)
        self.settled = True

    def judge(self, pending: Mapping[str, set[Key]], checks: Mapping[str, SourceCheck]) -> None:
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
        before = {name: self._sides.there(tables[name], keys) for name, keys in suspects.items()}
        settled = self._pass()
        mirrored = {name: self._sides.here(tables[name], keys) for name, keys in suspects.items()}
        after = {name: self._sides.there(tables[name], keys) for name, keys in suspects.items()}
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
        mark = self._sides.source.mark()
        captured = [topic for topic in self._app.domain.topics if self._app.log.source_position(topic) is not None]
        while captured and not all(
            self._sides.source.has_passed(mark, self._app.log.source_position(topic) or "") for topic in captured
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
                event = decode(self._sides.decoder, record)
                if isinstance(event, Truncate):
                    emptied.add(event.table)
                elif isinstance(event, Change) and event.table in found:
                    found[event.table].add(event.key)
            if not records:
                break
        return {
            name: None if name in emptied else self._sides.mirror.keys_of(tables[name], list(keys))
            for name, keys in found.items()
        }


def _children(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> set[str]:
    """The tables, in lower case, whose rows change by foreign keys without an event of their own."""
    rows = connection.execute('SELECT DISTINCT lower("table") FROM rowtide.foreign_key WHERE instance = %s', [name])
    return {row[0] for row in rows.fetchall()}
