"""The statements of a domain instance, written once: how changes reach the mirror, the keys and the models.

Nothing is executed here. Parameters are numbered ($1…); arrays go as text literals (`sqltext.array_literal`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from connectors.table import Table
from consumers.engine.analysis import Analysis, Model
from consumers.engine.differences import Plan
from consumers.engine.lineage import CHANGED, KeyPath
from consumers.engine.relations import Relation
from consumers.engine.scoped import Pattern, restriction, scoped_query
from consumers.engine.sqltext import differing, distinct, quote, quoted, same, unnest

ALL = -1  # the mask of a row that came or went: every column changed
_LAST_BIT = 62


@dataclass(frozen=True)
class Route:
    """How changed rows of a relation lead to keys of one model.

    Args:
        model: its position among the analysis's models.
        mask: the bits of the columns the model reads; other changes do not concern it.
        direct: positions in the images that are the key; else
        sql: the query of the keys, whose parameters are the arrays of the images at `positions`.
    """

    model: int
    mask: int
    direct: tuple[int, ...] | None
    sql: str
    positions: tuple[int, ...]
    types: tuple[str, ...]


@dataclass(frozen=True)
class Carried:
    """A model kept by the differences of a relation: its position, its columns' bits, and their places in the images."""

    model: int
    mask: int
    places: tuple[int, ...]


@dataclass
class Input:
    """A relation that models read: what of its rows is passed on (images) and compared (mask)."""

    relation: Relation
    images: tuple[str, ...] = ()
    bits: dict[str, int] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    whole: list[tuple[int, int]] = field(default_factory=list)  # (model, mask): refreshed whole on a change
    differences: list[Carried] = field(default_factory=list)

    @property
    def is_read(self) -> bool:
        """Whether its changes concern any model."""
        return bool(self.routes or self.whole or self.differences)

    def readers(self) -> set[int]:
        """The models that its changes may concern."""
        models = {route.model for route in self.routes} | {model for model, _ in self.whole}
        return models | {carried.model for carried in self.differences}

    def mask_of(self, columns: Iterable[str]) -> int:
        """The bits of the given columns."""
        mask = 0
        for column in columns:
            mask |= 1 << self.bits[column]
        return mask

    def mask_sql(self, old: str, new: str, *, prefixed: bool = False) -> str:
        """An expression: the bits of the columns that differ between two row aliases, or prefixes of columns."""
        groups: dict[int, list[str]] = {}
        for column, bit in self.bits.items():
            left, right = (quote(f"{side}_{column}") if prefixed else f"{side}.{quote(column)}" for side in (old, new))
            groups.setdefault(bit, []).append(distinct(left, right, self.relation.columns[column]))
        terms = [f"CASE WHEN {' OR '.join(tests)} THEN {1 << bit}::bigint ELSE 0 END" for bit, tests in groups.items()]
        return " + ".join(terms) or "0::bigint"

    def images_sql(self, alias: str) -> str:
        """The image columns as text, each behind a comma."""
        return "".join(f", {alias}.{quote(column)}::text" for column in self.images)


def build_inputs(
    analysis: Analysis, relations: Mapping[str, Relation], plans: Mapping[str, Plan] | None = None
) -> dict[str, Input]:
    """For each relation that a model reads: what it passes on and to which models.

    The models with a plan take their table's changed rows themselves; the others take the keys these lead to.
    """
    plans = plans or {}
    inputs = {name: Input(relation) for name, relation in relations.items()}
    read: dict[str, set[str]] = {name: set() for name in relations}
    carried: dict[str, set[str]] = {name: set() for name in relations}
    for model in analysis.models:
        for name, columns in model.reads.items():
            read.setdefault(name, set()).update(columns)
        plan = plans.get(model.name)
        if plan is not None:
            carried[plan.table].update(plan.columns)
            continue
        for path in model.paths:
            carried[path.table].update(path.columns)
    for name, entry in inputs.items():
        entry.images = tuple(c for c in entry.relation.columns if c in carried[name])
        ordered = [c for c in entry.relation.columns if c in read[name]]
        entry.bits = {column: min(number, _LAST_BIT) for number, column in enumerate(ordered)}
    for position, model in enumerate(analysis.models):
        types = tuple(relations[model.name].base[name] for name in model.scope)
        for name, columns in model.reads.items():
            if name == "clock":
                continue
            if not model.scope or name == "params":
                inputs[name].whole.append((position, inputs[name].mask_of(columns)))
        plan = plans.get(model.name)
        if plan is not None:
            entry = inputs[plan.table]
            places = tuple(entry.images.index(column) for column in plan.columns)
            entry.differences.append(Carried(position, entry.mask_of(plan.columns), places))
            continue
        for path in model.paths:
            inputs[path.table].routes.append(_route(position, path, model, inputs[path.table], types))
    return inputs


def _route(position: int, path: KeyPath, model: Model, entry: Input, types: tuple[str, ...]) -> Route:
    mask = entry.mask_of(model.reads.get(path.table, ()))
    base = entry.relation.base
    if path.direct is not None and all(
        _same_text(base[column], type_) for column, type_ in zip(path.direct, types, strict=True)
    ):
        places = tuple(entry.images.index(column) for column in path.direct)
        return Route(position, mask, places, "", (), ())
    columns = path.columns
    select = path.select.copy()
    casts = [
        f"(({item.unalias().sql('postgres')})::{t})::text" for item, t in zip(select.expressions, types, strict=True)
    ]
    select.set("expressions", [exp.alias_(exp.Var(this=cast), f"k{n}", quoted=True) for n, cast in enumerate(casts)])
    text = _with_relations(select, path.table, [(c, entry.relation.columns[c]) for c in columns])
    return Route(
        position,
        mask,
        None,
        text,
        tuple(entry.images.index(column) for column in columns),
        tuple(entry.relation.columns[column] for column in columns),
    )


_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TEXTS = frozenset({"text", "character varying"})


def _same_text(left: str, right: str) -> bool:
    """Whether equal values of both types have the same text, so that one can stand for the other as a key."""
    return left == right or {left, right} <= _INTEGERS or {left, right} <= _TEXTS


def _with_relations(select: exp.Select, table: str, columns: Sequence[tuple[str, str]]) -> str:
    """The key query's text with the images as a relation, and the table itself where it is read besides."""
    images = "SELECT * FROM " + unnest(columns, "__i") if columns else "SELECT"
    text = select.sql("postgres")
    names = quoted(name for name, _ in columns) or ""
    text = text.replace(f"SELECT * FROM {CHANGED}_table", f"SELECT {names} FROM {quote(table)}")
    head = f"WITH {CHANGED} AS ({images}) " if columns else f"WITH {CHANGED} AS (SELECT 1) "
    return head + text


def upsert_sql(table: Table, entry: Input, columns: Sequence[str]) -> str:
    """Bring rows into the mirror; returns for each row that was there: its number, the mask, its old images.

    Parameters: one array per column of `columns`. With all columns rows are inserted where absent; with fewer
    (some values unavailable) only rows that are there change. Rows that are there are found once and written by
    their place (ctid).
    """
    types = entry.relation.columns
    rows = unnest([(name, types[name]) for name in columns], "__n", ordinality=True)
    others = [name for name in columns if name not in table.key]
    mask_entry = Input(entry.relation, entry.images, {c: b for c, b in entry.bits.items() if c in columns})
    differs = differing(others, types, "m", "__n")
    images = "".join(f", m.{quote(c)}::text AS {quote('o_' + c)}" for c in entry.images)
    writes = []
    if others:
        assign = ", ".join(f"{quote(c)} = __o.{quote(c)}" for c in others)
        writes.append(
            f"__w AS (UPDATE {quote(table.name)} AS m SET {assign} FROM __o WHERE m.ctid = __at AND __differs)"
        )
    if set(columns) == set(table.names):
        writes.append(
            f"__i AS (INSERT INTO {quote(table.name)} ({quoted(columns)}) SELECT {quoted(columns)} FROM __o WHERE __at IS NULL)"
        )
    return (
        f"WITH __o AS MATERIALIZED (SELECT __n.*, m.ctid AS __at, {differs or 'false'} AS __differs, "
        f"{mask_entry.mask_sql('m', '__n')} AS __mask{images} "
        f"FROM {rows} LEFT JOIN {quote(table.name)} AS m ON {same(table.key, 'm', '__n')}){''.join(f', {write}' for write in writes)} "
        f"SELECT {', '.join(['__ord', '__mask', *(quote('o_' + c) for c in entry.images)])} FROM __o WHERE __at IS NOT NULL"
    )


def delete_sql(table: Table, entry: Input) -> str:
    """Remove rows from the mirror by key; returns the old images of those that were there."""
    rows = unnest([(k, entry.relation.base[k]) for k in table.key], "__n")
    return f"DELETE FROM {quote(table.name)} AS m USING {rows} WHERE {same(table.key, 'm', '__n')} RETURNING {ALL}{entry.images_sql('m')}"


def lookup_sql(table: Table, entry: Input, columns: Sequence[str]) -> str:
    """The given columns of rows by key, behind the key, all as text."""
    rows = unnest([(k, entry.relation.base[k]) for k in table.key], "__n")
    items = ", ".join(f"m.{quote(c)}::text" for c in [*table.key, *columns])
    return f"SELECT {items} FROM {rows} JOIN {quote(table.name)} AS m ON {same(table.key, 'm', '__n')}"


@dataclass(frozen=True)
class Refresh:
    """The statement that brings a model's rows for some keys in step with its query.

    Its parameters: the arrays of the scope columns that are not NULL by the pattern; then, with a history, `at`
    and `cause` (arrays beside the keys where `per_key`, else single values). It returns for each changed row the
    mask, whether it was there, whether it is there, its old and its new images; where `counted`, then whether the
    query gave several rows for its key.
    """

    sql: str
    per_key: bool
    counted: bool


def refresh_sql(model: Model, entry: Input, pattern: Pattern | None, *, images: bool = True) -> Refresh:
    """The refresh for keys of a pattern; None: for the whole model. Without `images` it returns no images.

    Rows that are there are found once, and written by their place (ctid): the statement sees one snapshot, and no
    one else writes.
    """
    file, relation = model.file, entry.relation
    types = [relation.base[name] for name in model.scope]
    if pattern is None:
        query, old_where, solid = model.query, "", []
    else:
        query = scoped_query(model.query, model.scope, types, pattern)
        own = [exp.column(name, quoted=True) for name in model.scope]
        old_where = " WHERE " + restriction(own, types, pattern).sql("postgres")
        solid = [(n, t) for n, t, null in zip(model.scope, types, pattern, strict=True) if not null]
    per_key = pattern is not None and bool(solid)
    columns, others = model.outputs, [name for name in model.outputs if name not in file.key]
    names, carried = quoted(columns), entry.images if images else ()
    match = " AND ".join(_same_key(f"n.{quote(k)}", f"o.{quote(k)}", k in relation.nullable_key) for k in file.key)
    differs = differing(others, relation.columns, "n", "o")
    kept = set(columns) if file.keep else {*carried, *file.key, *([file.history.column] if file.history else [])}
    new = ", ".join(f"n.{quote(c)} AS {quote('n_' + c)}" for c in columns)
    old = ", ".join(f"o.{quote(c)} AS {quote('o_' + c)}" for c in columns if c in kept)
    mask = f"CASE WHEN n.__in IS NULL OR o.__in IS NULL THEN {ALL}::bigint ELSE {entry.mask_sql('o', 'n')} END"
    counted = not model.one_row_each
    count = f", count(*) OVER (PARTITION BY {quoted(file.key)}) > 1 AS __several" if counted else ""
    query_sql = query.sql("postgres")
    ctes = [
        (
            f"__d AS MATERIALIZED (SELECT n.__in AS __new, o.__in AS __old, o.__ctid, {mask} AS __mask, {new}, {old}"
            f"{', n.__several' if counted else ''} "
            f"FROM (SELECT true AS __in, {names}{count} FROM ({query_sql}) AS __q) AS n "
            f"FULL JOIN (SELECT true AS __in, ctid AS __ctid, {names} FROM {quote(model.name)}{old_where}) AS o "
            f"ON {match} WHERE n.__in IS NULL OR o.__in IS NULL{' OR ' + differs if differs else ''})"
        ),
        f"__i AS (INSERT INTO {quote(model.name)} ({names}) SELECT {quoted('n_' + c for c in columns)} FROM __d WHERE __old IS NULL)",
        f"__x AS (DELETE FROM {quote(model.name)} AS m USING __d WHERE m.ctid = __d.__ctid AND __d.__new IS NULL)",
    ]
    if others:
        assign = ", ".join(f"{quote(c)} = __d.{quote('n_' + c)}" for c in others)
        ctes.append(
            f"__w AS (UPDATE {quote(model.name)} AS m SET {assign} FROM __d WHERE m.ctid = __d.__ctid AND __d.__new)"
        )
    if file.keep:
        ctes.append(
            f"__k AS (INSERT INTO {quote(file.keep)} ({names}) SELECT {', '.join(quote('o_' + c) for c in columns)} "
            f"FROM __d WHERE __new IS NULL ON CONFLICT DO NOTHING)"
        )
    if file.history:
        ctes.append(_history_cte(model, relation, solid if per_key else []))
    tail = image_texts(carried) + (", __several" if counted else "")
    result = "SELECT __mask, __old, __new" if images or counted else "SELECT count(*)"
    return Refresh(f"WITH {', '.join(ctes)} {result}{tail} FROM __d", per_key, counted)


def image_texts(columns: Sequence[str]) -> str:
    """The old and the new images of a statement's changed rows, each behind a comma."""
    return _texts("o_", columns) + _texts("n_", columns)


def _texts(prefix: str, columns: Sequence[str]) -> str:
    return "".join(f", {quote(prefix + c)}::text" for c in columns)


def _same_key(left: str, right: str, nullable: bool) -> str:
    """Equality of keys that FULL JOIN can hash: a NULL equals a NULL."""
    if not nullable:
        return f"{left} = {right}"
    return f"coalesce(to_jsonb({left}), 'null') = coalesce(to_jsonb({right}), 'null')"


def _found_key(left: str, right: str, nullable: bool) -> str:
    """Equality of keys that an index can find where the value is not NULL."""
    return f"({left} = {right} OR ({left} IS NULL AND {right} IS NULL))" if nullable else f"{left} = {right}"


def _history_cte(model: Model, relation: Relation, solid: Sequence[tuple[str, str]]) -> str:
    """Append the transitions of the history's column, numbered on from the key's last one."""
    file = model.file
    history = file.history
    assert history is not None  # noqa: S101 - the caller has looked
    key = ", ".join(f"coalesce({quote('n_' + k)}, {quote('o_' + k)})" for k in file.key)
    value, type_ = history.column, relation.columns[history.column]
    last = " AND ".join(
        _found_key(
            f"h.{quote(k)}",
            f"coalesce(__d.{quote('n_' + k)}, __d.{quote('o_' + k)})",
            k in relation.nullable_key,
        )
        for k in file.key
    )
    number = len(solid) + 1
    if solid:
        arrays = ", ".join(f"${n}::{t}[]" for n, (_, t) in enumerate(solid, start=1))
        names = quoted(name for name, _ in solid)
        rows = (
            f"(SELECT DISTINCT ON ({names}) * FROM unnest({arrays}, ${number}::timestamptz[], ${number + 1}::text[]) "
            f"AS u({names}, __at, __cause) ORDER BY {names}) AS __c"
        )
        on = " AND ".join(f"__c.{quote(n)} = coalesce(__d.{quote('n_' + n)}, __d.{quote('o_' + n)})" for n, _ in solid)
        source = f"FROM __d JOIN {rows} ON {on}"
    else:
        source = f"FROM __d CROSS JOIN (SELECT ${number}::timestamptz AS __at, ${number + 1}::text AS __cause) AS __c"
    is_now, was = f"__d.{quote('n_' + value)}", f"__d.{quote('o_' + value)}"
    changed = distinct(is_now, was, type_)
    return (
        f"__h AS (INSERT INTO {quote(history.name)} ({quoted(file.key)}, seq, at, from_value, to_value, cause) "
        f"SELECT {key}, coalesce((SELECT max(h.seq) FROM {quote(history.name)} AS h WHERE {last}), 0) + 1, "
        f"__c.__at, {was}, {is_now}, __c.__cause {source} "
        f"WHERE __d.__new IS NULL OR __d.__old IS NULL OR {changed})"
    )


def due_sql(model: Model) -> str:
    """The scope values of the rows that fall due at or before `$1`, all as text."""
    items = ", ".join(f"{quote(name)}::text" for name in model.scope) or "1"
    return f"SELECT DISTINCT {items} FROM {quote(model.name)} WHERE {quote(str(model.file.changes_at))} <= $1"


def next_due_sql(models: Sequence[Model]) -> str:
    """When the next row of these models falls due; NULL: never."""
    parts = [f"SELECT min({quote(str(m.file.changes_at))}) AS due FROM {quote(m.name)}" for m in models]
    return f"SELECT min(due) FROM ({' UNION ALL '.join(parts)}) AS dues"
