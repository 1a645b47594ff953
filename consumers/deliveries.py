"""Deliveries of an instance in the state database: what its pending models ask for, and what came of it.

The pending rows say what to do, at every moment and after every crash; a delivery only remembers how it went with one
of them, so that what was refused is not tried in every round. It goes when its pending row goes.

    available   to be done again at once: somebody asked for it
    running     taken up; after a crash it is taken up again
    retryable   to be tried again, not before `due_at`
    completed   done: the mirror will tell. Looked at again at `due_at`, should it not
    discarded   somebody wrote a newer value, or the row has gone: the mirror will tell. Looked at again as above
    parked      refused: a person, or another decision of the model, must come
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from connectors.writeback import Outcome, Target, Update
from consumers.engine.analysis import Analysis
from consumers.engine.sqltext import quote
from consumers.writeback import WriteBack, WriteBackError

Connection = psycopg.Connection[tuple[Any, ...]]

STATES = ("available", "running", "retryable", "completed", "discarded", "parked")
PAGE = 2000  # pending rows looked at in one statement
_LOOK_AGAIN = (5.0, 300.0)  # seconds, first and longest: how long the mirror is given to tell what was done
_TRY_AGAIN = (1.0, 60.0)

_LONG = 5  # attempts after which a row that is tried again is worth a word

_BY_OUTCOME = {"done": "completed", "newer": "discarded", "gone": "discarded", "busy": "retryable", "refused": "parked"}


class Due(NamedTuple):
    """A pending row that is to be delivered."""

    key: str
    decision: str
    update: Update


class Page(NamedTuple):
    """Pending rows in the order of their key.

    Args:
        due: those to be delivered.
        last: where the next page begins; None: there are no more.
        rows: how many pending rows it has.
    """

    due: list[Due]
    last: tuple[Any, ...] | None
    rows: int


@dataclass(frozen=True)
class Sink:
    """One `[write_back]` entry over an instance's tables.

    Args:
        instance: whose models are read.
        entry: as declared.
    """

    instance: str
    entry: WriteBack

    @property
    def name(self) -> str:
        """As recorded in `rowtide.delivery`."""
        return f"write_back.{self.entry.name}"

    @property
    def target(self) -> Target:
        """Where its updates go."""
        return Target(self.entry.table.name, self.entry.table.key, tuple(self.entry.set), tuple(self.entry.guard))

    @property
    def _model(self) -> str:
        return f"{quote(self.instance)}.{quote(self.entry.model)}"

    @property
    def _key(self) -> str:
        """The key as text, as recorded."""
        return f"jsonb_build_array({', '.join('p.' + quote(name) for name in self.entry.table.key)})::text"

    def _typed(self, columns: Sequence[tuple[str, str]]) -> list[str]:
        """The model's columns in the types that source.sql declares for what they are compared with."""
        types = {column.name: column.type for column in self.entry.table.columns}
        return [f"p.{quote(output)}::{types[column]}" for column, output in columns]

    def page(self, connection: Connection, after: tuple[Any, ...] | None) -> Page:
        """The next pending rows behind a key, those that are due picked out. One statement, one snapshot."""
        entry, key = self.entry, self.entry.table.key
        columns = [
            *self._typed([(name, name) for name in key]),
            *self._typed(list(entry.set.items())),
            *self._typed(list(entry.guard.items())),
        ]
        ordered = ", ".join("p." + quote(name) for name in key)
        behind = f"WHERE ({ordered}) > ({', '.join(['%s'] * len(key))})" if after is not None else ""
        decision = ", ".join(columns[len(key) :])
        rows = connection.execute(
            f"SELECT q.*, d.key IS NULL OR d.decision <> q.decision OR d.state IN ('available', 'running') "
            "OR (d.state <> 'parked' AND d.due_at <= now()) "
            f"FROM (SELECT {', '.join(f'{text} AS c{n}' for n, text in enumerate(columns))}, {self._key} AS key, "
            f"md5(jsonb_build_array({decision})::text) AS decision "
            f"FROM {self._model} AS p {behind} ORDER BY {ordered} LIMIT {PAGE}) AS q "
            "LEFT JOIN rowtide.delivery AS d ON d.instance = %s AND d.sink = %s AND d.key = q.key "
            f"ORDER BY {', '.join(f'q.c{n}' for n in range(len(key)))}",
            [*(after or ()), self.instance, self.name],
        ).fetchall()
        first, second = len(key), len(key) + len(entry.set)
        due = [Due(row[-3], row[-2], Update(row[:first], row[first:second], row[second:-3])) for row in rows if row[-1]]
        return Page(due, tuple(rows[-1][:first]) if len(rows) == PAGE else None, len(rows))

    def take_up(self, connection: Connection, due: Sequence[Due]) -> None:
        """Record that the deliveries are under way. An attempt at another decision is the first one again."""
        connection.execute(
            "INSERT INTO rowtide.delivery AS d (instance, sink, key, decision, state, attempts) "
            "SELECT %s, %s, key, decision, 'running', 1 FROM unnest(%s::text[], %s::text[]) AS u(key, decision) "
            "ON CONFLICT (instance, sink, key) DO UPDATE SET state = 'running', reason = NULL, updated_at = now(), "
            "attempts = CASE WHEN d.decision = excluded.decision THEN d.attempts + 1 ELSE 1 END, "
            "decision = excluded.decision",
            [self.instance, self.name, [d.key for d in due], [d.decision for d in due]],
        )

    def record(self, connection: Connection, due: Sequence[Due], outcomes: Sequence[Outcome]) -> None:
        """Record what came of deliveries taken up, and when each is to be looked at again."""
        states = [_BY_OUTCOME[outcome.state] for outcome in outcomes]
        connection.execute(
            "UPDATE rowtide.delivery AS d SET state = u.state, reason = u.reason, updated_at = now(), due_at = now() "
            "+ least(u.longest, u.first * power(2, least(d.attempts, 20) - 1)) * interval '1 second' "
            "FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[]) "
            "AS u(key, decision, state, reason, first, longest) "
            "WHERE d.instance = %s AND d.sink = %s AND d.key = u.key AND d.decision = u.decision",
            [
                [d.key for d in due],
                [d.decision for d in due],
                states,
                [outcome.reason for outcome in outcomes],
                *([waits[n] for waits in map(_waits, states)] for n in range(2)),
                self.instance,
                self.name,
            ],
        )

    def put_back(self, connection: Connection, due: Sequence[Due], reason: str) -> None:
        """The source is away: nothing was tried that counts. Taken up again with the next round."""
        connection.execute(
            "UPDATE rowtide.delivery SET state = 'retryable', reason = %s, attempts = greatest(attempts - 1, 0), "
            "due_at = now(), updated_at = now() WHERE instance = %s AND sink = %s AND key = ANY(%s)",
            [reason, self.instance, self.name, [d.key for d in due]],
        )

    def forget_settled(self, connection: Connection) -> int:
        """Remove deliveries whose pending row has gone: the mirror has told. Returns how many."""
        return connection.execute(
            "DELETE FROM rowtide.delivery AS d WHERE d.instance = %s AND d.sink = %s "
            f"AND NOT EXISTS (SELECT 1 FROM {self._model} AS p WHERE {self._key} = d.key)",
            [self.instance, self.name],
        ).rowcount

    def next_due(self, connection: Connection) -> float | None:
        """Seconds until a delivery is to be looked at again; None where none is."""
        row = connection.execute(
            "SELECT extract(epoch FROM min(due_at) - now())::float8 FROM rowtide.delivery "
            "WHERE instance = %s AND sink = %s AND state IN ('retryable', 'completed', 'discarded')",
            [self.instance, self.name],
        ).fetchone()
        return None if row is None or row[0] is None else max(0.0, float(row[0]))

    def pending(self, connection: Connection) -> int:
        """How many rows the pending model has."""
        row = connection.execute(f"SELECT count(*) FROM {self._model}").fetchone()
        return int(row[0]) if row else 0


def _waits(state: str) -> tuple[float, float]:
    return _TRY_AGAIN if state == "retryable" else _LOOK_AGAIN


def sinks(analysis: Analysis, instance: str) -> list[Sink]:
    """The domain's sinks over an instance. Raises WriteBackError for what only the models understood can tell."""
    models = {model.name: model for model in analysis.models}
    found = []
    for entry in analysis.domain.write_back.values():
        model = models[entry.model]
        place = f"{analysis.domain.folder / 'domain.toml'}: [write_back.{entry.name}]"
        for output in [*entry.set.values(), *entry.guard.values()]:
            if output not in model.outputs:
                raise WriteBackError(
                    f"{place} names the column “{output}”, which the model {model.name} does not have.",
                    hint=f"It has: {', '.join(model.outputs)}.",
                )
        if doubtful := sorted(set(entry.table.key) - model.never_null):
            raise WriteBackError(
                f"{place}: the key {doubtful[0]} of the model {model.name} can be NULL.",
                hint=f"Take it from the table {entry.table.name} itself, or add WHERE {doubtful[0]} IS NOT NULL.",
            )
        found.append(Sink(instance, entry))
    return found


def forget_foreign(connection: Connection, instance: str, known: Sequence[Sink]) -> None:
    """Remove deliveries of sinks that the domain no longer has."""
    connection.execute(
        "DELETE FROM rowtide.delivery WHERE instance = %s AND sink LIKE 'write\\_back.%%' AND NOT sink = ANY(%s)",
        [instance, [sink.name for sink in known]],
    )


def count(connection: Connection, instance: str) -> dict[str, dict[str, int]]:
    """Deliveries by sink and state; states without any are left out."""
    found: dict[str, dict[str, int]] = {}
    for sink, state, number in connection.execute(
        "SELECT sink, state, count(*) FROM rowtide.delivery WHERE instance = %s GROUP BY 1, 2 ORDER BY 1, 2", [instance]
    ).fetchall():
        found.setdefault(sink, {})[state] = number
    return found


def why_waiting(connection: Connection, instance: str) -> str | None:
    """Why deliveries do not get on: refused ones, a source that is away or blocks, rows held for long; else None."""
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE state = 'parked'), "
        "(array_agg(reason ORDER BY state = 'parked', updated_at DESC))[1] "
        "FROM rowtide.delivery WHERE instance = %s AND (state = 'parked' "
        f"OR (state = 'retryable' AND (attempts = 0 OR attempts >= {_LONG})))",
        [instance],
    ).fetchone()
    if row is None or not row[0]:
        return None
    return f"{row[0]} deliveries do not get on ({row[1]} parked): {row[2]}"


def listed(connection: Connection, instance: str, limit: int) -> list[Mapping[str, Any]]:
    """Deliveries that are not completed, the parked ones first."""
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        cursor.execute(
            "SELECT sink, key, state, attempts, reason, due_at, updated_at FROM rowtide.delivery "
            "WHERE instance = %s AND state <> 'completed' ORDER BY state <> 'parked', updated_at DESC, key LIMIT %s",
            [instance, limit],
        )
        return list(cursor.fetchall())


def retry(connection: Connection, instance: str) -> int:
    """Have parked and waiting deliveries tried at once. Returns how many."""
    return connection.execute(
        "UPDATE rowtide.delivery SET state = 'available', due_at = now(), attempts = 0, updated_at = now() "
        "WHERE instance = %s AND state IN ('parked', 'retryable', 'discarded')",
        [instance],
    ).rowcount
