"""What the capture rules ask of a source, and what they watch a capture with.

A kind of source is a class with the methods of `Source`, over a real server; its tests subclass
`capture_rules.CaptureRules` with a fixture `source`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from connectors.event import (
    UNAVAILABLE,
    Boundary,
    Change,
    Decoder,
    Event,
    Heartbeat,
    Ignored,
    Truncate,
    Value,
)
from connectors.log import Log, Message, Record, TopicPartition
from connectors.table import Column, Table

DEADLINE = 30.0


class Capture(Protocol):
    """A capture under test."""

    def run(self, stop: threading.Event) -> None: ...
    def run_until_now(self, stop: threading.Event) -> None: ...


class Session(Protocol):
    """One connection of an application, in a transaction of its own."""

    def execute(self, statement: str) -> object: ...


class Link(Protocol):
    """The way between the capture and its source."""

    def cut(self) -> None:
        """Break what is open and let nothing through until healed."""

    def heal(self) -> None: ...


@dataclass(frozen=True)
class TypeCase:
    """A column type: how the source declares it, how source.sql does, and values as SQL with the text expected."""

    source_type: str
    declared: str
    values: Sequence[tuple[str, str | None]]

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "_", f"{self.source_type}_as_{self.declared}").strip("_")


class Source(Protocol):
    """A database of one test on a real server; statements are portable SQL, run as the owner.

    Attributes:
        link: between the captures made by `capture` and the server.
        types: every column type that must come through alike by snapshot and by stream.
        password: of the capturing user: it must never be told.
        faults: ways to be refused, by name: `wrong password`, `absent database`; what makes the dsn wrong.
    """

    link: Link
    types: Sequence[TypeCase]
    password: str

    def execute(self, *statements: str) -> None:
        """Run each statement in a transaction of its own."""

    def transaction(self) -> AbstractContextManager[Session]:
        """A transaction: committed at the end, rolled back by an exception."""

    def rows(self, table: Table) -> dict[tuple[str, ...], tuple[str | None, ...]]:
        """The table as it is, values as text; for integers and texts."""

    def allow(self, tables: Sequence[Table]) -> None:
        """Give the capturing user what `grants` prints, and no more."""

    def forbid(self, table: Table) -> None:
        """Take the right to read the table from the capturing user."""

    def capture(self, tables: Sequence[Table], log: Log, topic: str, **options: Any) -> Capture:
        """A capture by the capturing user over the link. `fault` names what is wrong with its dsn."""

    def restart(self) -> None:
        """Stop the server hard and start it again."""

    def forget(self, table: Table) -> None:
        """Make the server lose changes that the capture has not read: drop the slot, purge the binlog."""


# --- tables of the rules ---

INTEGER, TEXT = "integer", "character varying(200)"


def table(name: str, key: str, /, **columns: str) -> Table:
    """A table whose columns are of the given types, the key first and not null."""
    keys = tuple(key.split(","))
    return Table(name, tuple(Column(n, t, nullable=n not in keys) for n, t in columns.items()), keys)


ITEM = table("item", "id", id=INTEGER, name=TEXT, amount=INTEGER)
LINE = table("line", "item_id,no", item_id=INTEGER, no=INTEGER, note=TEXT)
ITEM_SQL = "CREATE TABLE item (id integer NOT NULL, name varchar(200), amount integer, PRIMARY KEY (id))"
LINE_SQL = (
    "CREATE TABLE line (item_id integer NOT NULL, no integer NOT NULL, note varchar(200), PRIMARY KEY (item_id, no))"
)


# --- watching ---


class Watched:
    """A log that remembers how large its appends were, and can be told to fail."""

    def __init__(self, inner: Log) -> None:
        self._inner = inner
        self.sizes: list[int] = []
        self.before_append: Callable[[list[Message]], None] = lambda messages: None

    def append(self, topic: str, messages: Iterable[Message], **options: Any) -> int:
        held = list(messages)
        self.before_append(held)
        self.sizes.append(len(held))
        return self._inner.append(topic, held, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Topic:
    """A topic of a log, decoded.

    Args:
        log: a log; the topic is made.
    """

    def __init__(self, log: Log, name: str, tables: Sequence[Table]) -> None:
        self.log = log
        self.name = name
        self.tables = {t.name: t for t in tables}
        self._decoder = Decoder(tables)
        self._place = TopicPartition(name, 0)
        self._records: list[Record] = []
        self._events: list[Event] = []
        log.create_topic(name)

    def events(self) -> list[Event]:
        """All events so far, in their order."""
        while batch := self.log.read({self._place: len(self._records)}, limit=10_000):
            self._records += batch
            self._events += [self._decoder.decode(record.key, record.value) for record in batch]
        return self._events

    def records(self) -> list[Record]:
        self.events()
        return self._records

    def changes(self, name: str | None = None) -> list[Change]:
        return [e for e in self.events() if isinstance(e, Change) and name in (None, e.table)]

    def snapshot_done(self) -> bool:
        """Whether the snapshot's unit has ended."""
        return any(
            isinstance(e, Boundary) and e.status == "END" and e.transaction.startswith("snapshot:")
            for e in self.events()
        )

    def heartbeats(self) -> list[Heartbeat]:
        return [e for e in self.events() if isinstance(e, Heartbeat)]

    def transactions(self) -> list[list[Change | Truncate]]:
        """The streamed transactions: what lies between BEGIN and END, whose ids agree. Snapshots are left out."""
        found: list[list[Change | Truncate]] = []
        open_as: str | None = None
        for event in self.events():
            if isinstance(event, Boundary) and not event.transaction.startswith("snapshot:"):
                if event.status == "BEGIN":
                    assert open_as is None, "a transaction begins within another"
                    open_as = event.transaction
                    found.append([])
                else:
                    assert open_as == event.transaction, "a transaction ends that has not begun"
                    open_as = None
            elif isinstance(event, Change | Truncate) and not (isinstance(event, Change) and event.op == "r"):
                assert open_as is not None, "a change outside of a transaction"
                assert event.transaction in (None, open_as)
                found[-1].append(event)
        assert open_as is None, "a transaction is open at the end"
        return found

    def mirror(self, name: str) -> dict[tuple[str, ...], tuple[Value, ...]]:
        """The table that the events make."""
        rows: dict[tuple[str, ...], tuple[Value, ...]] = {}
        for event in self.events():
            if isinstance(event, Heartbeat | Boundary | Ignored) or getattr(event, "table", None) != name:
                continue
            if isinstance(event, Truncate):
                rows.clear()
            elif isinstance(event, Change) and event.row is None:
                rows.pop(event.key, None)
            elif isinstance(event, Change):
                assert event.row is not None
                old = rows.get(event.key)
                if old is None and UNAVAILABLE in event.row:
                    continue  # nobody knows that row; what follows says why
                before = old or event.row
                rows[event.key] = tuple(b if v is UNAVAILABLE else v for v, b in zip(event.row, before, strict=True))
        return rows

    def wait(self, reached: Callable[[], object], what: str, running: Running | None = None) -> None:
        """Block until `reached()` is true; fails after a deadline, or when the capture ends."""
        deadline = time.monotonic() + DEADLINE
        while not reached():
            assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
            if running is not None and running.ended:
                running.stop()  # tells the error
                assert reached(), f"the capture ended before: {what}"
                return
            self.log.wait(0.1)

    def wait_equal(self, source: Source, running: Running | None = None) -> None:
        """Block until every table that the events make equals the source's."""
        self.wait(
            lambda: all(self.mirror(name) == source.rows(t) for name, t in self.tables.items()),
            "the mirror equals the source",
            running,
        )


class Running:
    """A capture running in a thread; a context manager that stops it."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="capture-under-test", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._capture.run(self._stop)
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self._error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def error(self) -> BaseException:
        """Wait until the capture stops by itself; its error."""
        self._thread.join(DEADLINE)
        assert self.ended, "the capture goes on"
        assert self._error is not None, "the capture ended without an error"
        return self._error

    def stop(self) -> None:
        """Stop, and raise what made it stop before."""
        self._stop.set()
        self._thread.join(DEADLINE)
        assert self.ended, "the capture does not stop"
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE)


class Traffic:
    """Applications that write until told to stop: each inserts its own numbers, updates, deletes and moves keys.

    Every `entry` inserted is new, so that each must be in a topic exactly once.
    """

    ENTRY = table("entry", "id", id=INTEGER, worker=INTEGER)
    ENTRY_SQL = "CREATE TABLE entry (id integer NOT NULL, worker integer, PRIMARY KEY (id))"

    def __init__(self, source: Source, workers: int = 2, pause: float = 0.002) -> None:
        self._source = source
        self._pause = pause
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self.committed: list[list[int]] = [[] for _ in range(workers)]
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(workers)]

    def _work(self, worker: int) -> None:
        number = 0
        try:
            while not self._stop.wait(self._pause):
                number += 1
                entry = worker * 1_000_000 + number
                item = worker * 1000 + number % 50
                try:
                    with self._source.transaction() as session:
                        session.execute(f"INSERT INTO entry VALUES ({entry}, {worker})")
                        session.execute(f"DELETE FROM item WHERE id IN ({item}, {item + 500})")
                        session.execute(f"INSERT INTO item VALUES ({item}, 'w{number}', {number})")
                        if number % 3 == 0:
                            session.execute(f"UPDATE item SET amount = NULL WHERE id = {item}")
                        if number % 5 == 0:
                            session.execute(f"UPDATE item SET id = {item + 500} WHERE id = {item}")
                        if number % 7 == 0:
                            raise _RolledBackError  # noqa: TRY301 - an exception is what rolls back
                except _RolledBackError:
                    continue
                self.committed[worker].append(entry)
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self._errors.append(error)

    def count(self) -> int:
        return sum(map(len, self.committed))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        if kind is None and self._errors:
            raise self._errors[0]

    def check(self, topic: Topic) -> None:
        """Every commit is in the topic once, each worker's in its order; what was rolled back is not."""
        seen = [int(change.key[0]) for change in topic.changes("entry")]
        for worker, committed in enumerate(self.committed):
            mine = [entry for entry in seen if entry // 1_000_000 == worker]
            assert sorted(mine) == committed, "lost, repeated or rolled back"
            streamed = [int(c.key[0]) for c in topic.changes("entry") if c.op == "c"]
            assert [e for e in streamed if e // 1_000_000 == worker] == [e for e in mine if e in set(streamed)]


class _RolledBackError(Exception):
    pass


def declared(cases: Sequence[TypeCase]) -> Mapping[str, Table]:
    """A table for each type case."""
    return {case.name: table(case.name, "id", id=INTEGER, value=case.declared) for case in cases}
