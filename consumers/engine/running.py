"""The statements that bring one model in step: by its query for some keys or for all, or by differences of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import psycopg

from connectors.errors import RowtideError
from connectors.pipe import Pipe, Rows
from consumers.engine.analysis import Analysis, Model
from consumers.engine.differences import Plan, coming_rows, difference_sql, images_rows
from consumers.engine.mirror import Image
from consumers.engine.pending import Key
from consumers.engine.relations import Relation
from consumers.engine.scoped import Pattern
from consumers.engine.sqltext import array_literal
from consumers.engine.statements import Input, Refresh, image_texts, refresh_sql

# Takes the rows of a model that have changed; None: nothing is known of them.
Changed = Callable[[Sequence[Image] | None], object]


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


class Runner:
    """Gives statements to a pipe, written once for each model and shape of keys. Knows nothing of what is pending."""

    def __init__(
        self,
        pipe: Pipe,
        analysis: Analysis,
        inputs: Mapping[str, Input],
        relations: Mapping[str, Relation],
        plans: Mapping[str, Plan],
    ) -> None:
        self._pipe = pipe
        self._models = analysis.models
        self._tables = analysis.domain.mirror_tables
        self._inputs = inputs
        self._relations = relations
        self._plans = plans
        self._types = [[relations[m.name].base[s] for s in m.scope] for m in analysis.models]
        self._statements: dict[tuple[int, Pattern | None, bool], Refresh] = {}
        self._difference_sql: dict[tuple[int, bool], str] = {}

    def refresh(
        self, number: int, pattern: Pattern | None, keys: Sequence[Key], causes: Causes, changed: Changed
    ) -> None:
        """Run a model's query for keys of one pattern; None: for all there are. Raises ModelFailedError with the answer.

        `changed` is called if a row has changed.
        """
        model = self._models[number]
        entry = self._inputs[model.name]
        # Rows of a model refreshed whole may be too many to carry; its readers are refreshed whole as well.
        images = entry.is_read and (pattern is not None or not model.scope)
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
        then, failed = partial(_refreshed, model, entry, statement, images, changed), partial(_failed, model)
        # Plans for keys look rows up one by one, however many there are, and are made once. A large model refreshed
        # whole is worth a plan of its own.
        if pattern is not None or not model.scope:
            self._pipe.later(statement.sql, parameters, then, failed=failed)
        else:
            self._pipe.later("SET LOCAL enable_seqscan = on", prepare=False)
            self._pipe.later(statement.sql, parameters, then, failed=failed, prepare=False)
            self._pipe.later("SET LOCAL enable_seqscan = off", prepare=False)

    def add(
        self,
        number: int,
        parameters: Sequence[str],
        changed: Changed,
        asked: Callable[[Sequence[Key]], object],
        *,
        coming: bool = False,
    ) -> None:
        """Bring differences into a model, of changed rows or of those to come (`differences`).

        `asked` takes the keys that they leave open; `changed` all other rows that they concern. Raises ModelFailedError
        with the answer, or ForetoldError for rows to come.
        """
        model = self._models[number]
        plan, entry = self._plans[model.name], self._inputs[model.name]
        sql = self._difference_sql.get((number, coming))
        if sql is None:
            source, mask = self._relations[plan.table], entry.mask_sql("o", "n", prefixed=True)
            rows = coming_rows(plan, source, self._tables[plan.table].key) if coming else images_rows(plan, source)
            sql = difference_sql(model, plan, rows, entry.relation, mask, image_texts(entry.images))
            self._difference_sql[number, coming] = sql
        images_at = 4 + len(model.scope)
        old, new = slice(images_at, images_at + len(entry.images)), slice(images_at + len(entry.images), None)

        def then(found: Rows) -> None:
            asked([row[4:images_at] for row in found if row[0]])
            changed(
                [(row[1], row[old] if row[2] else None, row[new] if row[3] else None) for row in found if not row[0]]
            )

        self._pipe.later(sql, parameters, then, failed=_failed_ahead if coming else partial(_failed, model))


def _refreshed(model: Model, entry: Input, statement: Refresh, images: bool, changed: Changed, rows: Rows) -> None:
    """Pass on what a refresh has changed."""
    if statement.counted and any(row[-1] for row in rows):
        raise _several(model)
    if images:
        width = len(entry.images)
        changed(
            [
                (row[0], row[3 : 3 + width] if row[1] else None, row[3 + width : 3 + 2 * width] if row[2] else None)
                for row in rows
            ]
        )
    elif entry.is_read and rows and (statement.counted or rows[0][0]):
        changed(None)


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
