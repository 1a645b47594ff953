"""A model's query restricted to some keys, and to changed images: the two rewritings the engine runs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from consumers.engine.blocks import Block, branches, read_block
from consumers.engine.lineage import equal_names, stable_outputs

# For each scope column: whether the keys of this refresh have NULL there. Refreshes are grouped by this pattern,
# because `= ANY` finds no NULL and `IS NOT DISTINCT FROM` uses no index.
Pattern = tuple[bool, ...]


def restriction(columns: Sequence[exp.Expr], types: Sequence[str], pattern: Pattern) -> exp.Expr:
    """The condition that the columns are among the keys of the parameters.

    Parameter `$i` is the array of the i-th column's values; columns that are NULL by the pattern take none.
    """
    parts: list[exp.Expr] = []
    solid = [(c, f"${number}::{t}[]") for number, (c, t) in enumerate(
        ((c, t) for c, t, null in zip(columns, types, pattern, strict=True) if not null), start=1
    )]  # fmt: skip
    if len(solid) == 1:
        parts.append(exp.EQ(this=solid[0][0].copy(), expression=_verbatim(f"ANY({solid[0][1]})")))
    elif solid:
        row = exp.Tuple(expressions=[column.copy() for column, _ in solid])
        arrays = ", ".join(array for _, array in solid)
        parts.append(exp.In(this=row, query=_verbatim(f"(SELECT * FROM unnest({arrays}))")))
    parts += [
        exp.Is(this=column.copy(), expression=exp.Null()) for column, null in zip(columns, pattern, strict=True) if null
    ]
    return exp.and_(*parts, copy=False)


def _verbatim(sql: str) -> exp.Expr:
    return exp.Var(this=sql)


def scoped_query(query: exp.Query, scope: Sequence[str], types: Sequence[str], pattern: Pattern) -> exp.Query:
    """The query for just the keys. Sound because the scope's columns are shared by every group they restrict."""
    result = query.copy()
    for select in branches(result):
        block = read_block(select)
        columns = [block.outputs[name].copy() for name in scope]
        condition = restriction(columns, types, pattern)
        _push_down(block, columns, types, pattern)
        select.where(condition, copy=False)
    return result


def _push_down(block: Block, columns: Sequence[exp.Expr], types: Sequence[str], pattern: Pattern) -> None:
    """Restrict derived tables too, by their columns that are equal to a column of the scope.

    PostgreSQL does not pass a join's keys into a grouped subquery: without this, a change would aggregate the
    whole table. Rows of the derived table with other values would find no partner.
    """
    number = 0
    for column, type_, null in zip(columns, types, pattern, strict=True):
        if not null:
            number += 1
            if isinstance(column, exp.Column):
                _push_column(block, column, _verbatim(f"ANY(${number}::{type_}[])"))


def _push_column(block: Block, column: exp.Column, keys: exp.Expr) -> None:
    for alias, source in block.sources.items():
        if source.query is None:
            continue
        inner = [read_block(select) for select in branches(source.query)]
        stable = set.intersection(*(stable_outputs(part) for part in inner))
        for name in sorted(stable & equal_names(block, alias, column))[:1]:
            for part in inner:
                target = part.outputs[name].copy()
                if isinstance(target, exp.Column):
                    _push_column(part, target, keys)
                part.select.where(exp.EQ(this=target, expression=keys.copy()), copy=False)
