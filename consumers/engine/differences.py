"""Aggregates kept by difference: a model that is one GROUP BY over one table needs only what came and what went.

The cost of a change is then that of the change, however many rows its group has. Where a difference does not tell
the new value (a minimum that went, a sum that may have become empty), the group's keys are refreshed by the query
instead: the statement gives them back as to be asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from consumers.engine.analysis import Analysis, Model
from consumers.engine.blocks import branches, read_block
from consumers.engine.lineage import FREE, is_aggregate
from consumers.engine.relations import Relation
from consumers.engine.sqltext import differing, distinct, parameter_type, quote, quoted, same, unnest

_EXACT_SUMS = frozenset({"bigint", "numeric"})
_SIGN = "__sign"
_KINDS = {exp.Count: "count", exp.Sum: "sum", exp.Min: "min", exp.Max: "max"}
_SIDES = (("-1", "m"), ("1", "n"))
_BOUNDS = {"min": "least", "max": "greatest"}


@dataclass(frozen=True)
class Aggregate:
    """One output that aggregates.

    Args:
        kind: `count`, `sum`, `min` or `max`.
        argument: over what; None: over rows, as in count(*).
        where: its FILTER.
        zero: whether 0 stands for a sum of nothing, as in coalesce(sum(x), 0).
    """

    name: str
    kind: str
    argument: str | None
    where: str | None
    zero: bool

    @property
    def counts_rows(self) -> bool:
        """Whether it is count(*) of the whole group."""
        return self.kind == "count" and self.argument is None and self.where is None


@dataclass(frozen=True)
class Plan:
    """How a model is kept by difference.

    Args:
        table: the one table or model it reads, and under which alias.
        columns: the columns of it that images must carry.
        groups: key output -> its expression over the table's columns.
        where: the condition on rows, if any.
        aggregates: the other outputs.
    """

    table: str
    alias: str
    columns: tuple[str, ...]
    groups: Mapping[str, str]
    where: str | None
    aggregates: tuple[Aggregate, ...]

    @property
    def may_ask(self) -> bool:
        """Whether a difference of ordinary values can leave a group open."""
        doubtful = any(a.kind in _BOUNDS or (a.kind == "sum" and not a.zero) for a in self.aggregates)
        return doubtful or not any(a.counts_rows for a in self.aggregates)

    @property
    def may_ask_ever(self) -> bool:
        """Whether a difference of any values can: a sum that has become NaN does."""
        return self.may_ask or any(a.kind == "sum" for a in self.aggregates)


class _NoPlanError(Exception):
    """The model cannot be kept by difference; carries why."""


def find_plans(analysis: Analysis, relations: Mapping[str, Relation]) -> tuple[dict[str, Plan], dict[str, str]]:
    """The plans of the models that can be kept by difference, and for other models that aggregate why not."""
    plans: dict[str, Plan] = {}
    reasons: dict[str, str] = {}
    for model in analysis.models:
        try:
            plans[model.name] = _plan(model, relations[model.name])
        except _NoPlanError as error:
            if any(node.find_ancestor(exp.Window) is None for node in model.query.find_all(exp.AggFunc)):
                reasons[model.name] = str(error)
    return plans, reasons


def _plan(model: Model, relation: Relation) -> Plan:
    selects = list(branches(model.query))
    select = selects[0]
    if len(selects) > 1:
        raise _NoPlanError("it is a UNION ALL")
    block = read_block(select)
    group = select.args.get("group")
    if group is None:
        raise _NoPlanError("its outermost SELECT has no GROUP BY")
    if len(block.sources) != 1:
        raise _NoPlanError("it reads more than one table: aggregate each in a model of its own, then join those")
    alias, source = next(iter(block.sources.items()))
    if source.table is None or source.table in FREE:
        raise _NoPlanError("it does not read a table or model directly")
    file = model.file
    if file.history or file.keep or file.affects:
        raise _NoPlanError("its header has history, keep or affects")
    if select.args.get("having") or select.args.get("distinct") or select.find(exp.Window):
        raise _NoPlanError("it has HAVING, DISTINCT or a window")
    groups = {name: item for name, item in block.outputs.items() if item in group.expressions}
    if set(groups) != set(file.key) or len(set(groups.values())) != len(set(group.expressions)):
        raise _NoPlanError("its key is not just the columns of GROUP BY")
    if relation.nullable_key:
        raise _NoPlanError(f"its key ({', '.join(sorted(relation.nullable_key))}) may be NULL")
    where = select.args.get("where")
    return Plan(
        table=source.table,
        alias=alias,
        columns=tuple(sorted(model.reads[source.table])),
        groups={name: item.sql("postgres") for name, item in groups.items()},
        where=where.this.sql("postgres") if where is not None else None,
        aggregates=tuple(
            _aggregate(name, item, relation) for name, item in block.outputs.items() if name not in groups
        ),
    )


def _aggregate(name: str, item: exp.Expr, relation: Relation) -> Aggregate:
    node, zero = item.unnest(), False
    if isinstance(node, exp.Coalesce) and [part.sql() for part in node.expressions] == ["0"]:
        node, zero = node.this.unnest(), True
    where = None
    if isinstance(node, exp.Filter):
        where = node.expression.this.sql("postgres")
        node = node.this
    kind = next((name for type_, name in _KINDS.items() if type(node) is type_), None)
    if kind is None or node.expressions or isinstance(node.this, exp.Distinct | exp.Order):
        raise _NoPlanError(f"“{name}” is not count, sum, min or max as such")
    if kind == "sum" and relation.base[name] not in _EXACT_SUMS:
        raise _NoPlanError(f"“{name}” is a sum that is not exact ({relation.base[name]})")
    if kind in ("min", "max") and zero:
        raise _NoPlanError(f"“{name}” hides whether the group has a {kind}imum")
    if is_aggregate(node.this):
        raise _NoPlanError(f"“{name}” aggregates an aggregate")
    argument = None if isinstance(node.this, exp.Star) else node.this.sql("postgres")
    return Aggregate(name, kind, argument, where, zero)


def images_rows(plan: Plan, source: Relation) -> str:
    """Changed rows as their images tell them.

    Parameters: the signs (-1: as the row was, 1: as it is), then one array for each of the plan's columns.
    """
    types = [source.columns[name] for name in plan.columns]
    arrays = ", ".join(f"${n}::{parameter_type(t)}[]" for n, t in enumerate(types, start=2))
    raw = quoted([_SIGN, *plan.columns])
    casts = ", ".join(
        [quote(_SIGN), *(f"{quote(c)}::{t} AS {quote(c)}" for c, t in zip(plan.columns, types, strict=True))]
    )
    return f"(SELECT {casts} FROM unnest($1::smallint[]{', ' + arrays if arrays else ''}) AS __u({raw}))"


def coming_rows(plan: Plan, source: Relation, key: Sequence[str]) -> str:
    """Changed rows of a table that are about to be written: as they were stands in the table still.

    Parameters: one array of values to come for each of `coming_columns`.
    """
    types = source.columns
    rows = unnest([(name, types[name]) for name in coming_columns(plan, key)], "n")
    differs = differing([name for name in plan.columns if name not in key], types, "m", "n")
    values = (f"({sign}::smallint{''.join(f', {row}.{quote(c)}' for c in plan.columns)})" for sign, row in _SIDES)
    return (
        f"(SELECT v.* FROM {rows} LEFT JOIN {quote(plan.table)} AS m ON {same(key, 'm', 'n')} "
        f"CROSS JOIN LATERAL (VALUES {', '.join(values)}) AS v({quoted([_SIGN, *plan.columns])}) "
        f"WHERE CASE WHEN m.ctid IS NULL THEN v.{quote(_SIGN)} > 0 ELSE {differs or 'false'} END)"
    )


def coming_columns(plan: Plan, key: Sequence[str]) -> tuple[str, ...]:
    """What `coming_rows` takes: the key, then the plan's other columns."""
    return (*key, *(name for name in plan.columns if name not in key))


def difference_sql(model: Model, plan: Plan, rows: str, relation: Relation, mask: str, tail: str) -> str:
    """The statement that brings the differences of changed rows into the model.

    Its parameters are those of `rows`, which is `images_rows` or `coming_rows`. `mask` and `tail` are expressions over
    the columns o_… and n_…. It returns for each group concerned: whether it is to be asked again, the mask, whether it
    was there, whether it is there, the key as text, the tail.
    """
    key = list(plan.groups)
    parts = [f"{text} AS {quote(name)}" for name, text in plan.groups.items()]
    parts.append(f"bool_or({quote(_SIGN)} < 0) AS __went")
    for aggregate in plan.aggregates:
        parts += _gathered(aggregate)
    where = f" WHERE {plan.where}" if plan.where else ""
    gathered = (
        f"SELECT {', '.join(parts)} FROM {rows} AS {quote(plan.alias)}{where} "
        f"GROUP BY {', '.join(plan.groups.values())}"
    )
    values = [f"g.{quote(k)} AS {quote('n_' + k)}" for k in key]
    values += [f"{_value(a, relation)} AS {quote('n_' + a.name)}" for a in plan.aggregates]
    values += [f"o.{quote(c)} AS {quote('o_' + c)}" for c in model.outputs]
    doubts = [f"{_doubt(a)} AS {quote('__doubt_' + a.name)}" for a in plan.aggregates if a.kind != "count"]
    joined = (
        f"SELECT o.ctid AS __ctid, o.ctid IS NOT NULL AS __was, __went, {', '.join([*values, *doubts])} "
        f"FROM __g AS g LEFT JOIN {quote(model.name)} AS o ON {same(key, 'o', 'g')}"
    )
    there, unknown = _existence(plan)
    unsure = [f"({there} AND {quote('__doubt_' + a.name)})" for a in plan.aggregates if a.kind != "count"]
    asked = " OR ".join([f"({there} IS NULL)" if unknown else "false", *unsure])
    others = [a.name for a in plan.aggregates]
    differs = " OR ".join(distinct(quote("n_" + c), quote("o_" + c), relation.columns[c]) for c in others)
    judged = f"SELECT *, coalesce({asked}, true) AS __ask, coalesce({there}, false) AS __is FROM __j"
    changed = f"SELECT * FROM __a WHERE __ask OR __was <> __is OR (__is AND ({differs or 'false'}))"
    assign = ", ".join(f"{quote(c)} = __d.{quote('n_' + c)}" for c in others)
    names = quoted(model.outputs)
    new = ", ".join(quote("n_" + c) for c in model.outputs)
    table = quote(model.name)
    writes = [
        f"__i AS (INSERT INTO {table} ({names}) SELECT {new} FROM __d WHERE NOT __ask AND __is AND NOT __was)",
        f"__x AS (DELETE FROM {table} AS m USING __d WHERE m.ctid = __ctid AND NOT __ask AND __was AND NOT __is)",
    ]
    if assign:
        writes.append(
            f"__w AS (UPDATE {table} AS m SET {assign} FROM __d WHERE m.ctid = __ctid AND NOT __ask AND __was AND __is)"
        )
    keys = "".join(f", {quote('n_' + k)}::text" for k in model.scope)
    return (
        f"WITH __g AS ({gathered}), __j AS ({joined}), __a AS ({judged}), __d AS MATERIALIZED ({changed}), "
        f"{', '.join(writes)} SELECT __ask, CASE WHEN __was AND __is THEN {mask} ELSE -1 END, __was, __is{keys}{tail} FROM __d"
    )


def _gathered(aggregate: Aggregate) -> list[str]:
    """What came and went of one aggregate: `d_` the difference, `a_`/`r_` the least or greatest added or removed."""
    name, sign = aggregate.name, quote(_SIGN)
    tests = [f"({aggregate.where})"] if aggregate.where else []
    if aggregate.argument is not None:
        tests.append(f"({aggregate.argument}) IS NOT NULL")

    def filtered(*more: str) -> str:
        conditions = [*tests, *more]
        return f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""

    if aggregate.kind == "count":
        return [f"sum({sign}){filtered()} AS {quote('d_' + name)}"]
    if aggregate.kind == "sum":
        return [
            f"sum(({aggregate.argument}) * {sign}){filtered()} AS {quote('d_' + name)}",
            f"bool_or({sign} < 0){filtered()} AS {quote('r_' + name)}",
        ]
    return [
        f"{aggregate.kind}({aggregate.argument}){filtered(f'{sign} > 0')} AS {quote('a_' + name)}",
        f"{aggregate.kind}({aggregate.argument}){filtered(f'{sign} < 0')} AS {quote('r_' + name)}",
    ]


def _value(aggregate: Aggregate, relation: Relation) -> str:
    """The new value, true where there is no doubt about it."""
    return f"({_sum_or_bound(aggregate)})::{relation.columns[aggregate.name]}"


def _sum_or_bound(aggregate: Aggregate) -> str:
    old, change = f"o.{quote(aggregate.name)}", f"g.{quote('d_' + aggregate.name)}"
    if aggregate.kind in ("min", "max"):
        return f"{_BOUNDS[aggregate.kind]}({old}, g.{quote('a_' + aggregate.name)})"
    if aggregate.kind == "sum" and not aggregate.zero:
        return f"CASE WHEN {change} IS NULL THEN {old} ELSE coalesce({old}, 0) + {change} END"
    return f"coalesce({old}, 0) + coalesce({change}, 0)"


def _doubt(aggregate: Aggregate) -> str:
    """Whether the difference leaves the new value open."""
    new, went = _sum_or_bound(aggregate), f"g.{quote('r_' + aggregate.name)}"
    if aggregate.kind == "sum":
        # What is left over after something went may be values that cancel out, or none at all.
        unsure = ["'NaN'", "'Infinity'", "'-Infinity'", *(() if aggregate.zero else ("0",))]
        return f"(coalesce({went}, false) AND ({new})::numeric IN ({', '.join(unsure)}))"
    beyond = "<=" if aggregate.kind == "min" else ">="
    return f"({went} IS NOT NULL AND (({new}) IS NULL OR {went} {beyond} ({new})))"


def _existence(plan: Plan) -> tuple[str, bool]:
    """An expression: whether the group has rows afterwards, NULL where the difference does not tell; and if it may be NULL."""
    rows = next((a for a in plan.aggregates if a.counts_rows), None)
    if rows is not None:
        return f"({quote('n_' + rows.name)} > 0)", False
    proofs = [f"{quote('n_' + a.name)} <> 0" for a in plan.aggregates if a.kind == "count"]
    proofs += [f"coalesce({quote('n_' + a.name)} <> 0, false)" for a in plan.aggregates if a.kind == "sum"]
    proof = " OR ".join(proofs) or "false"
    return f"(CASE WHEN NOT __went OR (__was AND ({proof})) THEN true END)", True
