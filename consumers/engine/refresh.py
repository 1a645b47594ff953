"""Refresh: brings models in step with their queries for the keys that changes have reached, level by level."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from connectors.pipe import Pipe, Rows
from consumers.engine.analysis import Analysis, Model
from consumers.engine.differences import Plan, coming_columns
from consumers.engine.mirror import Image, Row
from consumers.engine.pending import Key, Pending, by_pattern
from consumers.engine.picking import picker
from consumers.engine.running import Causes, Runner
from consumers.engine.scoped import Pattern
from consumers.engine.sqltext import array_literal, parameter_type
from consumers.engine.statements import Input, Route, due_sql

MOST_KEYS = 50_000  # held in memory for one model; beyond it the model is refreshed early or whole
KEYS_AT_ONCE = 10_000
IMAGES_AT_ONCE = 5_000


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
        pipe: to the state database, by which the runner gives its statements too.
        exact: positions of the models whose every state counts: never refreshed early.
    """

    def __init__(
        self,
        pipe: Pipe,
        runner: Runner,
        analysis: Analysis,
        inputs: Mapping[str, Input],
        plans: Mapping[str, Plan],
        exact: Collection[int],
    ) -> None:
        self._pipe = pipe
        self._analysis = analysis
        self._inputs = inputs
        self._exact = frozenset(exact)
        self._solid = [[n for n, s in enumerate(m.scope) if s in m.never_null] for m in analysis.models]
        self._plans = plans
        self._tables = analysis.domain.mirror_tables
        self._runner = runner
        self._asking = {name for name, entry in inputs.items() if any(route.direct is None for route in entry.routes)}
        positions = {model.name: n for n, model in enumerate(analysis.models)}
        above = [
            {positions[name] for name in analysis.upstream(model.name) if name in positions} - {n}
            for n, model in enumerate(analysis.models)
        ]
        by_difference = {
            n: [parameter_type(inputs[plan.table].relation.columns[c]) for c in plan.columns]
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

    def foretell(self, name: str, rows: Sequence[Row]) -> None:
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
                self._add_differences(carried.model, arrays, coming=True)
                told.differences.add(carried.model)
        for route in self._foretellable[name]:
            above = self._pending.above[route.model]
            if route.model not in self._pending.whole and not any(map(self._pending.has, above)):
                keys = set(zip(*(values[entry.images[place]] for place in route.direct or ()), strict=True))
                self._pending.keys[route.model] |= keys
                told.keys.setdefault(route.model, set()).update(keys)

    def route(self, name: str, images: Sequence[Image] | None) -> None:
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
                    self._early(carried.model)
        for route in entry.routes:
            if route.model not in self._pending.whole:
                self._add(route, images, told.keys.get(route.model, ()))

    def _add(self, route: Route, images: Sequence[Image], done: Collection[Key]) -> None:
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
                self._pipe.later(route.sql, arrays, partial(self._found, route.model))
        if len(keys) > MOST_KEYS:
            self._overflow(route.model)

    def _found(self, model: int, keys: Rows) -> None:
        """Take the keys that a query has found."""
        if model not in self._pending.whole:
            self._pending.keys[model].update(keys)
            if len(self._pending.keys[model]) > MOST_KEYS:
                self._overflow(model)

    def _overflow(self, model: int) -> None:
        """More keys than are held: refresh them now if the table is much larger, else the model whole at the end.

        Refreshing early is sound: it is one more step, and whatever changes later is reached again.
        """
        name = self._analysis.models[model].name
        rows = self._pipe.now("SELECT reltuples FROM pg_class WHERE oid = $1::regclass", [name])
        if model in self._exact or not rows or rows[0][0] < 4 * MOST_KEYS:
            self._pending.become_whole(model)
        else:
            self._early(model)

    def _early(self, model: int) -> None:
        while self._pending.has(model):
            self._start(model, Causes("-infinity", ""))
            self._pipe.flush()

    def due(self, models: Iterable[int], moment: str) -> None:
        """Take the rows of these models that fall due at or before the moment."""
        for number in models:
            self._pipe.later(due_sql(self._analysis.models[number]), [moment], partial(self._fallen_due, number))
        self._pipe.flush()

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
                self._start(number, causes)
        self._pipe.flush()
        wanted = [n for n, model in enumerate(self._analysis.models) if only is None or model.name in only]
        while group := self._pending.ready(wanted):
            self._awaited = False
            self._closing = {number for number in self._one_row if number in wanted and self._is_closing(number, group)}
            for number in group:
                self._start(number, causes)
            self._pending.whole |= self._closing
            for number in sorted(self._closing):
                self._start(number, causes)
            if last is not None and not self._awaited and not any(map(self._pending.has, wanted)):
                last()
                last = None
            self._pipe.flush()
            self._closing.clear()
        if last is not None:
            last()
            self._pipe.flush()

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

    def _start(self, number: int, causes: Causes) -> None:
        """Send the statements of a pending model. Where differences open keys, it is pending again."""
        model = self._analysis.models[number]
        self.started.add(number)
        if number in self._pending.whole:
            self._pending.drop(number)
            self._run(number, None, [], causes)
        elif pending := self._pending.differences.get(number):
            self._add_differences(number, pending.take())
        else:
            wanted, self._pending.keys[number] = self._pending.keys[number], set()
            self._count(model, len(wanted))
            for pattern, keys in by_pattern(wanted):
                if any(pattern[place] for place in self._solid[number]):
                    continue  # no row has NULL there
                for start in range(0, len(keys), KEYS_AT_ONCE):
                    self._run(number, pattern, keys[start : start + KEYS_AT_ONCE], causes)
                    if self._pending.asks[number]:
                        self._pipe.flush()

    def _count(self, model: Model, keys: int) -> None:
        self.refreshed[model.name] = self.refreshed.get(model.name, 0) + keys

    def _run(self, number: int, pattern: Pattern | None, keys: Sequence[Key], causes: Causes) -> None:
        model = self._analysis.models[number]
        self._awaited |= not model.one_row_each or not self._readers[number] <= self._closing
        self._runner.refresh(number, pattern, keys, causes, partial(self.route, model.name))

    def _add_differences(self, number: int, parameters: Sequence[str], *, coming: bool = False) -> None:
        """Bring differences into a model, of changed rows or of those to come. The keys left open are pending then."""
        model = self._analysis.models[number]

        def changed(images: Sequence[Image] | None) -> None:
            self._count(model, len(images or ()))
            self.route(model.name, images)

        def asked(keys: Sequence[Key]) -> None:
            self._count(model, len(keys))
            self._pending.keys[number].update(keys)

        self._awaited |= number in self._open or not self._readers[number] <= self._closing
        self._runner.add(number, parameters, changed, asked, coming=coming)
