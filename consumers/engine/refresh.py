"""Refresh: brings models in step with their queries for the keys that changes have reached, level by level."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg

from connectors.errors import RowtideError
from connectors.pipe import Pipe, Rows
from consumers.engine.analysis import Analysis, Model
from consumers.engine.differences import Plan, coming_columns, coming_rows, difference_sql, images_rows
from consumers.engine.mirror import Image, Row
from consumers.engine.pending import Key, Pending, by_pattern
from consumers.engine.picking import picker
from consumers.engine.relations import Relation
from consumers.engine.scoped import Pattern
from consumers.engine.sqltext import array_literal, parameter_type
from consumers.engine.statements import Input, Refresh, Route, due_sql, image_texts, refresh_sql

MOST_KEYS = 50_000  # held in memory for one model; beyond it the model is refreshed early or whole
KEYS_AT_ONCE = 10_000
IMAGES_AT_ONCE = 5_000


class ModelFailedError(RowtideError):
    """A model's query failed on the data: the domain must stop, nothing of the batch is kept."""


class ForetoldError(Exception):
    """What was done ahead of the mirror failed: without it the error, if there is one, shows where it belongs."""


class Causes:
    """What a refresh writes beside each transition: business time and cause, for all keys or for each.

    Args:
        at: the moment's text, for keys that are not listed.
        cause: what caused it, likewise.
        by_key: position of a model -> key -> (at, cause).
    """

    def __init__(self, at: str, cause: str, by_key: Mapping[int, Mapping[Key, tuple[str, str]]] | None = None) -> None:
        self.at = at
        self.cause = cause
        self._by_key = by_key or {}

    def of(self, model: int, keys: Sequence[Key]) -> tuple[list[str], list[str]]:
        """Times and causes beside the keys."""
        known = self._by_key.get(model)
        if known is None:
            return [self.at] * len(keys), [self.cause] * len(keys)
        pairs = [known.get(key, (self.at, self.cause)) for key in keys]
        return [at for at, _ in pairs], [cause for _, cause in pairs]


@dataclass
class _Foretold:
    """What is done for rows of a table before the mirror has told what they were.

    Args:
        differences: the models that have taken theirs.
        keys: by model, those for which it is refreshed with the rows as they will be.
    """

    table: str
    differences: set[int] = field(default_factory=set)
    keys: dict[int, set[Key]] = field(default_factory=dict)


_NOTHING = _Foretold("")


class Refresher:
    """Collects affected keys and refreshes models. Holds the keys pending within one transaction.

    Args:
        exact: positions of the models whose every state counts: never refreshed early.
    """

    def __init__(
        self,
        analysis: Analysis,
        inputs: Mapping[str, Input],
        relations: Mapping[str, Relation],
        exact: Collection[int],
        plans: Mapping[str, Plan],
    ) -> None:
        self._analysis = analysis
        self._inputs = inputs
        self._relations = relations
        self._exact = frozenset(exact)
        self._types = [[relations[m.name].base[s] for s in m.scope] for m in analysis.models]
        self._solid = [[n for n, s in enumerate(m.scope) if s in m.never_null] for m in analysis.models]
        self._plans = plans
        self._tables = analysis.domain.mirror_tables
        self._difference_sql: dict[tuple[int, bool], str] = {}
        self._statements: dict[tuple[int, Pattern | None, bool], Refresh] = {}
        self._asking = {name for name, entry in inputs.items() if any(route.direct is None for route in entry.routes)}
        positions = {model.name: n for n, model in enumerate(analysis.models)}
        above = [
            {positions[name] for name in analysis.upstream(model.name) if name in positions} - {n}
            for n, model in enumerate(analysis.models)
        ]
        by_difference = {
            n: [parameter_type(relations[plan.table].columns[c]) for c in plan.columns]
            for n, model in enumerate(analysis.models)
            if (plan := plans.get(model.name)) is not None
        }
        asking = [self.asks(model.name) for model in analysis.models]
        self._pending = Pending(above, by_difference, asking)
        self._readers = [inputs[model.name].readers() for model in analysis.models]
        self._one_row = [n for n, model in enumerate(analysis.models) if not model.scope]
        self._open = {n for n in by_difference if plans[analysis.models[n].name].may_ask_ever}
        self._closing: set[int] = set()  # models that go behind what they read, whose answers need not tell of them
        self._foretellable = {name: self._certain_routes(name) for name in self._tables}
        self._foretold: _Foretold | None = None
        self._awaited = False  # an answer that may have more done, or object
        self.started: set[int] = set()  # the models that may have changed in this transaction
        self.refreshed: dict[str, int] = {}

    def forget(self) -> None:
        """Drop what is pending: the transaction was rolled back or committed."""
        self._pending.clear()
        self._closing.clear()
        self._foretold = None
        self.started.clear()
        self.refreshed = {}

    def begin(self) -> None:
        """The clock has its first time: models of one row have it from then on, whatever their inputs hold."""
        self._pending.whole |= {number for number, model in enumerate(self._analysis.models) if not model.scope}

    def all(self) -> None:
        """Nothing is known of any table: every model is to be refreshed whole."""
        self._pending.whole |= set(range(len(self._analysis.models)))

    def asks(self, name: str) -> bool:
        """Whether changed rows of a table or model lead to keys by way of other tables, as these are at that moment."""
        return name in self._asking

    def _certain_routes(self, table: str) -> list[Route]:
        """The ways from a table to keys that its rows as they will be tell, of models that need not wait for others.

        What a row was may lead to another key, which is refreshed when that is known.
        """
        models = self._analysis.models
        return [
            route
            for route in self._inputs[table].routes
            if route.direct is not None
            and not self.asks(models[route.model].name)
            and not any(table in models[above].reads for above in self._pending.above[route.model])
        ]

    def foretell(self, pipe: Pipe, name: str, rows: Sequence[Row]) -> None:
        """Take a few rows of a table, with all their values, that are about to be written; it has no reader that asks.

        What is certain already need not wait for the mirror's answer. `route` must follow, and then `refresh`.
        """
        entry, table = self._inputs[name], self._tables[name]
        told = self._foretold = _Foretold(name)
        values = dict(zip(table.names, zip(*rows, strict=True), strict=True))
        for carried in entry.differences:
            if carried.model not in self._pending.whole:
                plan = self._plans[self._analysis.models[carried.model].name]
                columns = [(values[c], entry.relation.columns[c]) for c in coming_columns(plan, table.key)]
                arrays = [array_literal(column, parameter_type(type_)) for column, type_ in columns]
                self._run_differences(pipe, carried.model, arrays, coming=True)
                told.differences.add(carried.model)
        for route in self._foretellable[name]:
            above = self._pending.above[route.model]
            if route.model not in self._pending.whole and not any(map(self._pending.has, above)):
                keys = set(zip(*(values[entry.images[place]] for place in route.direct or ()), strict=True))
                self._pending.keys[route.model] |= keys
                told.keys.setdefault(route.model, set()).update(keys)

    def route(self, pipe: Pipe, name: str, images: Sequence[Image] | None) -> None:
        """Take the changed rows of a table or model; None: nothing is known of them, all its readers are concerned.

        Where `asks`, flush the pipe before anything else is written.
        """
        entry, told = self._inputs[name], _NOTHING
        if self._foretold is not None and self._foretold.table == name:
            told, self._foretold = self._foretold, None
        if images is None:
            self._pending.whole |= entry.readers() - self._closing
            return
        if not images:
            return
        for model, mask in entry.whole:
            if model not in self._closing and any(image[0] & mask for image in images):
                self._pending.whole.add(model)
        for carried in entry.differences:
            if carried.model not in self._pending.whole and carried.model not in told.differences:
                pending = self._pending.differences[carried.model]
                pending.add(carried, images)
                if len(pending) > MOST_KEYS:
                    self._early(pipe, carried.model)
        for route in entry.routes:
            if route.model not in self._pending.whole:
                self._add(pipe, route, images, told.keys.get(route.model, ()))

    def _add(self, pipe: Pipe, route: Route, images: Sequence[Image], done: Collection[Key]) -> None:
        mask, keys = route.mask, self._pending.keys[route.model]
        concerned = [image for image in images if image[0] & mask]
        if not concerned:
            return
        if route.direct is not None:
            pick = picker(route.direct)
            found = {pick(row) for image in concerned for row in image[1:] if row is not None}
            keys |= found.difference(done)
        else:
            pick = picker(route.positions)
            rows = list({pick(row) for image in concerned for row in image[1:] if row is not None})
            for start in range(0, len(rows), IMAGES_AT_ONCE):
                part = rows[start : start + IMAGES_AT_ONCE]
                arrays = [
                    array_literal(column, parameter_type(type_))
                    for column, type_ in zip(zip(*part, strict=True), route.types, strict=True)
                ]
                pipe.later(route.sql, arrays, partial(self._found, pipe, route.model))
        if len(keys) > MOST_KEYS:
            self._overflow(pipe, route.model)

    def _found(self, pipe: Pipe, model: int, keys: Rows) -> None:
        """Take the keys that a query has found."""
        if model not in self._pending.whole:
            self._pending.keys[model].update(keys)
            if len(self._pending.keys[model]) > MOST_KEYS:
                self._overflow(pipe, model)

    def _overflow(self, pipe: Pipe, model: int) -> None:
        """More keys than are held: refresh them now if the table is much larger, else the model whole at the end.

        Refreshing early is sound: it is one more step, and whatever changes later is reached again.
        """
        name = self._analysis.models[model].name
        rows = pipe.now("SELECT reltuples FROM pg_class WHERE oid = $1::regclass", [name])
        if model in self._exact or not rows or rows[0][0] < 4 * MOST_KEYS:
            self._pending.become_whole(model)
        else:
            self._early(pipe, model)

    def _early(self, pipe: Pipe, model: int) -> None:
        while self._pending.has(model):
            self._start(pipe, model, Causes("-infinity", ""))
            pipe.flush()

    def due(self, pipe: Pipe, models: Iterable[int], moment: str) -> None:
        """Take the rows of these models that fall due at or before the moment."""
        for number in models:
            pipe.later(due_sql(self._analysis.models[number]), [moment], partial(self._fallen_due, number))
        pipe.flush()

    def _fallen_due(self, number: int, found: Rows) -> None:
        if not found:
            return
        if not self._analysis.models[number].scope:
            self._pending.whole.add(number)
        elif number not in self._pending.whole:
            self._pending.keys[number].update(found)
            if len(self._pending.keys[number]) > 20 * MOST_KEYS:
                self._pending.become_whole(number)

    def refresh(
        self,
        pipe: Pipe,
        causes: Causes,
        only: Collection[str] | None = None,
        last: Callable[[], object] | None = None,
    ) -> None:
        """Refresh what is pending, in dependency order; `only` restricts it to models of these names.

        Models that do not read each other go together. `last` gives statements to be sent behind all of them: it is
        called when nothing that is still to be answered can have more done, or object.
        """
        if self._foretold is not None:
            for number in sorted(self._foretold.keys):
                self._start(pipe, number, causes)
        pipe.flush()
        wanted = [n for n, model in enumerate(self._analysis.models) if only is None or model.name in only]
        while group := self._pending.ready(wanted):
            self._awaited = False
            self._closing = {number for number in self._one_row if number in wanted and self._is_closing(number, group)}
            for number in group:
                self._start(pipe, number, causes)
            self._pending.whole |= self._closing
            for number in sorted(self._closing):
                self._start(pipe, number, causes)
            if last is not None and not self._awaited and not self._pending.ready(wanted):
                last()
                last = None
            pipe.flush()
            self._closing.clear()
        if last is not None:
            last()
            pipe.flush()

    def _is_closing(self, number: int, group: Sequence[int]) -> bool:
        """Whether all that a model of one row reads is as it will be, once this group has gone: it needs no keys."""
        above = self._pending.above[number]
        return (
            number not in group
            and number not in self._exact
            and not above.isdisjoint(group)
            and not any(self._readers[each] & above for each in group)
            and not any(self._pending.has(each) for each in above if each not in group)
            and not any(each in self._open or self._pending.asks[each] for each in above if each in group)
        )

    def _start(self, pipe: Pipe, number: int, causes: Causes) -> None:
        """Send the statements of a pending model. Where differences open keys, it is pending again."""
        model = self._analysis.models[number]
        self.started.add(number)
        if number in self._pending.whole:
            self._pending.drop(number)
            self._run(pipe, number, None, [], causes)
        elif pending := self._pending.differences.get(number):
            self._run_differences(pipe, number, pending.take())
        else:
            wanted, self._pending.keys[number] = self._pending.keys[number], set()
            self._count(model, len(wanted))
            for pattern, keys in by_pattern(wanted):
                if any(pattern[place] for place in self._solid[number]):
                    continue  # no row has NULL there
                for start in range(0, len(keys), KEYS_AT_ONCE):
                    self._run(pipe, number, pattern, keys[start : start + KEYS_AT_ONCE], causes)
                    if self.asks(model.name):
                        pipe.flush()

    def _count(self, model: Model, keys: int) -> None:
        self.refreshed[model.name] = self.refreshed.get(model.name, 0) + keys

    def _run(self, pipe: Pipe, number: int, pattern: Pattern | None, keys: Sequence[Key], causes: Causes) -> None:
        model = self._analysis.models[number]
        entry = self._inputs[model.name]
        # Rows of a model refreshed whole may be too many to carry; its readers are refreshed whole as well.
        read = bool(self._readers[number])
        images = read and (pattern is not None or not model.scope)
        statement = self._statements.get((number, pattern, images))
        if statement is None:
            statement = self._statements[number, pattern, images] = refresh_sql(model, entry, pattern, images=images)
        parameters: list[Any] = []
        if pattern is not None:
            columns = zip(zip(*keys, strict=True), self._types[number], pattern, strict=True)
            parameters = [array_literal(column, type_) for column, type_, null in columns if not null]
        if model.file.history:
            if statement.per_key:
                at, cause = causes.of(number, keys)
                parameters += [array_literal(at, "timestamptz"), array_literal(cause, "text")]
            elif keys:
                at, cause = causes.of(number, keys)
                parameters += [at[0], cause[0]]
            else:
                parameters += [causes.at, causes.cause]
        self._awaited |= statement.counted or not self._readers[number] <= self._closing
        then = partial(self._ran, pipe, model, statement, images=images, read=read)
        failed = partial(_failed, model)
        # Plans for keys look rows up one by one, however many there are, and are made once. A large model refreshed
        # whole is worth a plan of its own.
        if pattern is not None or not model.scope:
            pipe.later(statement.sql, parameters, then, failed=failed)
        else:
            pipe.later("SET LOCAL enable_seqscan = on", prepare=False)
            pipe.later(statement.sql, parameters, then, failed=failed, prepare=False)
            pipe.later("SET LOCAL enable_seqscan = off", prepare=False)

    def _ran(self, pipe: Pipe, model: Model, statement: Refresh, rows: Rows, *, images: bool, read: bool) -> None:
        """Pass on what a refresh has changed."""
        if statement.counted and any(row[-1] for row in rows):
            raise _several(model)
        if images:
            width = len(self._inputs[model.name].images)
            changed = [
                (row[0], row[3 : 3 + width] if row[1] else None, row[3 + width : 3 + 2 * width] if row[2] else None)
                for row in rows
            ]
            self.route(pipe, model.name, changed)
        elif read and rows and (statement.counted or rows[0][0]):
            self.route(pipe, model.name, None)

    def _run_differences(self, pipe: Pipe, number: int, parameters: Sequence[str], *, coming: bool = False) -> None:
        """Bring differences into a model, of changed rows or of those to come. The keys left open are pending then."""
        model = self._analysis.models[number]
        plan, entry = self._plans[model.name], self._inputs[model.name]
        sql = self._difference_sql.get((number, coming))
        if sql is None:
            source, mask = self._relations[plan.table], entry.mask_sql("o", "n", prefixed=True)
            rows = coming_rows(plan, source, self._tables[plan.table].key) if coming else images_rows(plan, source)
            sql = difference_sql(model, plan, rows, entry.relation, mask, image_texts(entry.images))
            self._difference_sql[number, coming] = sql
        images_at = 4 + len(model.scope)
        old, new = slice(images_at, images_at + len(entry.images)), slice(images_at + len(entry.images), None)

        def then(rows: Rows) -> None:
            self._count(model, len(rows))
            changed = [
                (row[1], row[old] if row[2] else None, row[new] if row[3] else None) for row in rows if not row[0]
            ]
            self._pending.keys[number].update([row[4:images_at] for row in rows if row[0]])
            self.route(pipe, model.name, changed)

        self._awaited |= number in self._open or not self._readers[number] <= self._closing
        pipe.later(sql, parameters, then, failed=_failed_ahead if coming else partial(_failed, model))


_FAILURES = (psycopg.DataError, psycopg.ProgrammingError, psycopg.IntegrityError)


def _failed_ahead(error: psycopg.Error) -> Exception:
    return ForetoldError() if isinstance(error, _FAILURES) else error


def _failed(model: Model, error: psycopg.Error) -> Exception:
    """What a model's query that failed on the data means; any other error as it is."""
    if isinstance(error, psycopg.errors.UniqueViolation):
        return _several(model)
    if isinstance(error, _FAILURES):
        return ModelFailedError(
            f"The model {model.name} failed: {error.diag.message_primary}.",
            hint=f"Correct {model.file.path} so that it holds for all rows, then run `rowtide rebuild`.",
        )
    return error


def _several(model: Model) -> ModelFailedError:
    return ModelFailedError(
        f"The model {model.name} gives more than one row for a key ({', '.join(model.file.key)}).",
        hint=f"Correct {model.file.path}: group by the key, or name all the columns that identify a row.",
    )
