"""Rebuild: fills a new instance beside the live one, then swaps them in one transaction.

The new instance, `<name>_next`, begins empty and takes in the whole log, or it begins as a copy of the live one and
takes in once more what lies behind a position. What it is made from stands in its own row, so that one that was
interrupted is gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from connectors.errors import RowtideError
from connectors.log import TopicPartition
from connectors.pipe import Pipe
from consumers.engine import instance, schema
from consumers.engine.analysis import Analysis
from consumers.engine.foreignkeys import links, load
from consumers.engine.parking import MISSING
from consumers.engine.relations import schemas
from consumers.engine.sqltext import quote, quoted

Connection = psycopg.Connection[tuple[Any, ...]]
Positions = Mapping[TopicPartition, int]


class CopyRefusedError(RowtideError):
    """A new instance cannot begin as a copy of the live one."""


@dataclass(frozen=True)
class Plan:
    """What a new instance is made from.

    Args:
        origin: what the operator asked for, in a form that compares.
        topic_ids: which topics the positions are about.
        start: from where the log is taken in; empty: from the beginning.
        until: up to where the copy has taken it in before.
        recomputed: whether the copy is past that point and its models were refreshed.
        bare: whether the tables begin empty though the log is not taken in from its beginning: a snapshot stands there.
    """

    origin: str
    topic_ids: Mapping[str, str]
    start: Positions = field(default_factory=dict)
    until: Positions = field(default_factory=dict)
    recomputed: bool = False
    bare: bool = False

    @property
    def copies(self) -> bool:
        """Whether the new instance begins as a copy of the live one."""
        return bool(self.start) and not self.bare


def fresh_name(name: str) -> str:
    """The name of the instance that is filled beside the live one."""
    return name + instance.NEXT


def begin(connection: Connection, name: str, analysis: Analysis, plan: Plan) -> list[str]:
    """Make the new instance, in one transaction; what there was of one goes.

    Returns the models that begin anew although the rest is copied, because the live ones have another shape. Raises
    CopyRefusedError.
    """
    fresh = fresh_name(name)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        instance.remove(connection, fresh)
        instance.create(connection, fresh, analysis)
        anew: list[str] = []
        if plan.copies:
            plan = _from(connection, name, plan)
            _refuse_cascades(connection, name, analysis, plan)
            anew = _copy(connection, name, analysis)
            _copy_records(connection, name, plan.start)
        elif plan.start:
            _place(connection, fresh, plan.start)
        _store(connection, fresh, plan)
    return anew


def find_plan(connection: Connection, name: str, analysis: Analysis) -> Plan | None:
    """What the new instance that is there was made from; None where there is none that fits the domain's files."""
    fresh = fresh_name(name)
    found = instance.find(connection, fresh)
    if found is None or found.fingerprint != analysis.domain.fingerprint or not schema.exists(connection, fresh):
        return None
    row = connection.execute("SELECT definition -> 'plan' FROM rowtide.instance WHERE name = %s", [fresh]).fetchone()
    stored = row[0] if row else None
    if stored is None:
        return None
    return Plan(
        stored["origin"],
        stored["topic_ids"],
        _read(stored["start"]),
        _read(stored["until"]),
        stored["recomputed"],
        stored.get("bare", False),
    )


def store_recomputed(connection: Connection, name: str, plan: Plan) -> None:
    """Note that the copy has taken in again what it was to, and its models were refreshed.

    An update without all values, of a row that was deleted later, finds no row in a copy that is past both: nothing
    is missing there, unless the live instance had parked it too.
    """
    connection.execute(
        "DELETE FROM rowtide.parked_event AS n WHERE n.instance = %s AND n.reason = %s AND NOT EXISTS (SELECT 1 FROM "
        "rowtide.parked_event AS o WHERE o.instance = %s AND (o.topic, o.partition, o.offset) = (n.topic, n.partition, n.offset))",
        [fresh_name(name), MISSING, name],
    )
    _store(connection, fresh_name(name), Plan(plan.origin, plan.topic_ids, plan.start, plan.until, recomputed=True))


def discard(connection: Connection, name: str) -> bool:
    """Remove the new instance. Returns whether there was one."""
    there = instance.find(connection, fresh_name(name)) is not None
    instance.remove(connection, fresh_name(name))
    return there


def positions(connection: Connection, name: str) -> dict[TopicPartition, int]:
    """The next offset of each partition that an instance will take in."""
    rows = connection.execute(
        "SELECT topic, partition, next_offset FROM rowtide.position WHERE instance = %s", [name]
    ).fetchall()
    return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}


def analyze(connection: Connection, analysis: Analysis, name: str) -> None:
    """Let the new instance's plans know how large its tables are."""
    models, source = schemas(fresh_name(name))
    for model in analysis.models:
        connection.execute(f"ANALYZE {quote(models)}.{quote(model.name)}")
    for table in analysis.domain.mirror_tables:
        connection.execute(f"ANALYZE {quote(source)}.{quote(table)}")


# --- the copy ---


def _from(connection: Connection, name: str, plan: Plan) -> Plan:
    """The plan with where the copy stands, as this transaction sees it."""
    until = {place: offset for place, offset in positions(connection, name).items() if place.topic in plan.topic_ids}
    start = {place: min(plan.start.get(place, offset), offset) for place, offset in until.items()}
    return Plan(plan.origin, plan.topic_ids, start, until)


def _refuse_cascades(connection: Connection, name: str, analysis: Analysis, plan: Plan) -> None:
    """What a foreign key did untold cannot be done again on rows that have moved on since."""
    own = analysis.domain.own_topic
    if all(offset == plan.until[place] for place, offset in plan.start.items() if place.topic != own):
        return
    followed, _ = links(analysis.domain.mirror_tables, load(Pipe(connection), name))
    if followed:
        link = followed[0]
        raise CopyRefusedError(
            f"Events of {name} cannot be taken in twice: a foreign key of {link.child.name} on {link.parent.name} changes "
            "rows that the source's log does not tell of, and would do so again to rows that have come since.",
            hint="Take in the whole log: `rowtide replay --from earliest`.",
        )


def _columns(connection: Connection, schema_: str, table: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [f"{quote(schema_)}.{quote(table)}"],
    ).fetchall()
    return dict(rows)


def _copy(connection: Connection, name: str, analysis: Analysis) -> list[str]:
    """Fill the new instance's tables from the live ones; returns the models whose tables differ in shape."""
    (models, source), (new_models, new_source) = schemas(name), schemas(fresh_name(name))

    def same(old: str, new: str, table: str) -> bool:
        return _columns(connection, old, table) == _columns(connection, new, table)

    def copy(old: str, new: str, table: str) -> None:
        columns = quoted(_columns(connection, new, table))
        connection.execute(
            f"INSERT INTO {quote(new)}.{quote(table)} ({columns}) SELECT {columns} FROM {quote(old)}.{quote(table)}"
        )

    for table in analysis.domain.mirror_tables:
        if not same(source, new_source, table):
            raise CopyRefusedError(
                f"The table {table} is declared otherwise than the live one was made: its rows cannot be copied.",
                hint="Take in the whole log: `rowtide replay --from earliest`.",
            )
        copy(source, new_source, table)
    connection.execute(f"DELETE FROM {quote(new_source)}.clock")
    copy(source, new_source, "clock")
    anew = []
    for model in analysis.models:
        if model.file.keep:
            if _columns(connection, models, model.file.keep) and not same(models, new_models, model.file.keep):
                raise CopyRefusedError(
                    f"The rows that {model.name} keeps have another shape now, and only the whole log can tell them.",
                    hint="Take in the whole log: `rowtide replay --from earliest`.",
                )
            if _columns(connection, models, model.file.keep):
                copy(models, new_models, model.file.keep)
        tables = [model.name, *([model.file.history.name] if model.file.history else [])]
        if not all(same(models, new_models, table) for table in tables):
            anew.append(model.name)
            continue
        for table in tables:
            copy(models, new_models, table)
    return anew


def _copy_records(connection: Connection, name: str, start: Positions) -> None:
    """Copy what the state database keeps of the instance besides; what was parked behind the start is tried again."""
    fresh = fresh_name(name)
    connection.execute(
        "UPDATE rowtide.instance AS n SET clock = o.clock FROM rowtide.instance AS o WHERE n.name = %s AND o.name = %s",
        [fresh, name],
    )
    connection.execute(
        'INSERT INTO rowtide.foreign_key (instance, name, "table", columns, parent, parent_columns, on_delete, on_update) '
        'SELECT %s, name, "table", columns, parent, parent_columns, on_delete, on_update FROM rowtide.foreign_key '
        "WHERE instance = %s",
        [fresh, name],
    )
    _place(connection, fresh, start)
    for place, offset in start.items():
        connection.execute(
            'INSERT INTO rowtide.parked_event (instance, topic, partition, "offset", ts, key, value, reason, parked_at) '
            'SELECT %s, topic, partition, "offset", ts, key, value, reason, parked_at FROM rowtide.parked_event '
            'WHERE instance = %s AND topic = %s AND partition = %s AND "offset" < %s',
            [fresh, name, place.topic, place.partition, offset],
        )


def _place(connection: Connection, fresh: str, start: Positions) -> None:
    """Have the new instance take the log in from there."""
    for place, offset in start.items():
        connection.execute(
            "INSERT INTO rowtide.position (instance, topic, partition, next_offset) VALUES (%s, %s, %s, %s)",
            [fresh, place.topic, place.partition, offset],
        )


# --- the plan, stored ---


def _store(connection: Connection, fresh: str, plan: Plan) -> None:
    stored = {
        "origin": plan.origin,
        "topic_ids": dict(plan.topic_ids),
        "start": _written(plan.start),
        "until": _written(plan.until),
        "recomputed": plan.recomputed,
        "bare": plan.bare,
    }
    connection.execute(
        "UPDATE rowtide.instance SET definition = jsonb_build_object('plan', %s::jsonb) WHERE name = %s",
        [json.dumps(stored), fresh],
    )


def _written(places: Positions) -> list[list[Any]]:
    return [[place.topic, place.partition, offset] for place, offset in sorted(places.items())]


def _read(written: Sequence[Sequence[Any]]) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): offset for topic, partition, offset in written}
