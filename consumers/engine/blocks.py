"""A qualified query taken apart: blocks (one SELECT each) with their sources, joins and conditions.

Only the shape is read here; what follows from it is `lineage`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from sqlglot import exp

# Functions and operators that can make a non-NULL value out of NULL. A condition that contains one may hold for
# a row that an outer join filled with NULLs, so nothing is concluded from it. Unknown functions count as such.
NOT_STRICT: tuple[type[exp.Expr], ...] = (
    exp.Coalesce,
    exp.Case,
    exp.If,
    exp.Is,
    exp.Or,
    exp.Not,
    exp.Null,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Concat,
    exp.ConcatWs,
    exp.Greatest,
    exp.Least,
    exp.Anonymous,
    exp.Query,
    exp.Array,
    exp.Tuple,
    exp.Exists,
    exp.Any,
    exp.JSONObject,
    exp.AggFunc,
    exp.Window,
)


@dataclass(frozen=True)
class Source:
    """One entry of a FROM clause (or of a subquery in WHERE, which adds its entries to the block's).

    Args:
        alias: unique in the whole query.
        node: the FROM item itself.
        table: the name of the table it reads; None for a derived table or a function.
        query: the derived table's query.
        needs: the aliases a function in FROM takes its arguments from.
    """

    alias: str
    node: exp.Expr
    table: str | None = None
    query: exp.Query | None = None
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Condition:
    """One conjunct of ON or WHERE.

    Args:
        requires: it is known to hold only where these aliases are not NULL-filled; empty: for every row.
        strict: it cannot be true when a column in it is NULL.
    """

    node: exp.Expr
    aliases: frozenset[str]
    requires: frozenset[str]
    strict: bool

    @cached_property
    def equal_columns(self) -> tuple[exp.Column, exp.Column] | None:
        """The two columns, if the condition is `column = column`."""
        if isinstance(self.node, exp.EQ):
            left, right = self.node.this.unnest(), self.node.expression.unnest()
            if isinstance(left, exp.Column) and isinstance(right, exp.Column):
                return left, right
        return None


@dataclass
class Block:
    """One SELECT: its sources, what holds between them, and which of them an outer join may fill with NULLs."""

    select: exp.Select
    sources: dict[str, Source] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)
    nullable: set[str] = field(default_factory=set)
    companions: list[frozenset[str]] = field(default_factory=list)  # all not NULL-filled if one of them is not

    @cached_property
    def outputs(self) -> dict[str, exp.Expr]:
        """The projected expressions by output name."""
        return {item.alias_or_name: item.unalias() for item in self.select.expressions}


def branches(query: exp.Query) -> Iterator[exp.Select]:
    """The SELECTs that UNION ALL puts together, in order."""
    if isinstance(query, exp.Subquery):
        yield from branches(query.this)
    elif isinstance(query, exp.SetOperation):
        yield from branches(query.left)
        yield from branches(query.right)
    elif isinstance(query, exp.Select):
        yield query


def aliases_of(node: exp.Expr) -> frozenset[str]:
    """The aliases that the columns below a node belong to, except those of SELECTs inside it."""
    inner = {item.alias_or_name for select in node.find_all(exp.Select) for item in from_items(select)}
    return frozenset(column.table for column in node.find_all(exp.Column)) - inner


def from_items(select: exp.Select) -> list[exp.Expr]:
    """The items of a FROM clause in order: the first one and those joined to it."""
    first = select.args.get("from_")
    joins: list[exp.Join] = select.args.get("joins") or []
    laterals: list[exp.Expr] = select.args.get("laterals") or []
    return ([first.this] if first is not None else []) + [join.this for join in joins] + laterals


def conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    """The parts of a condition that must all hold."""
    if node is None:
        return []
    node = node.unnest()
    return [part.unnest() for part in node.flatten()] if isinstance(node, exp.And) else [node]


def is_strict(node: exp.Expr) -> bool:
    """Whether a condition is certainly not true when any column in it is NULL."""
    comparison = isinstance(node, exp.EQ | exp.LT | exp.LTE | exp.GT | exp.GTE | exp.NEQ | exp.Between)
    return comparison and next(node.find_all(*NOT_STRICT), None) is None


def is_plain(node: exp.Expr) -> bool:
    """Whether an index may be built on it: columns, or arithmetic on them, which every PostgreSQL calls immutable."""
    allowed = (
        exp.Column,
        exp.Identifier,
        exp.Literal,
        exp.Paren,
        exp.Div,
        exp.Mul,
        exp.Add,
        exp.Sub,
        exp.Mod,
        exp.Lower,
    )
    return all(isinstance(part, allowed) for part in node.walk()) and node.find(exp.Column) is not None


def read_block(select: exp.Select) -> Block:
    """Take one SELECT apart. Derived tables stay closed: each is a source with a query of its own."""
    block = Block(select)
    _read_from(block, select)
    return block


def _read_from(block: Block, select: exp.Select) -> None:
    """Read FROM and WHERE of the block's SELECT or of a subquery in one of its conditions or projections.

    A subquery's conditions hold only where its rows contribute: they require its own first alias.
    """
    inside: list[str] = []
    nullable_here: set[str] = set()
    pending: list[tuple[exp.Expr, frozenset[str]]] = []
    first = select.args.get("from_")
    if first is None:
        return
    inside.append(_add_source(block, first.this))
    for join in select.args.get("joins") or []:
        alias = _add_source(block, join.this)
        side, before = (join.side or "").upper(), frozenset(inside)
        inside.append(alias)
        requires: frozenset[str] = frozenset()
        if side in ("LEFT", "FULL"):
            nullable_here.add(alias)
            requires |= {alias}
        if side in ("RIGHT", "FULL"):
            # What held for all rows so far now holds only where those rows were not NULL-filled.
            solid = before - nullable_here
            block.companions.append(solid)
            anchor = frozenset(sorted(solid)[:1])
            pending = [(item, needed | anchor) for item, needed in pending]
            nullable_here |= before
            requires |= anchor
        pending.extend((part, requires) for part in conjuncts(join.args.get("on")))
    inside.extend(_add_source(block, lateral) for lateral in select.args.get("laterals") or [])
    own = frozenset(inside) - nullable_here
    if select is not block.select:
        first_alias = min(own, default=inside[0])
        pending = [(part, requires | {first_alias}) for part, requires in pending]
        nullable_here = set(inside)
        where_requires = frozenset({first_alias})
        block.companions.append(own)
    else:
        where_requires = frozenset()
    where = select.args.get("where")
    pending += [(part, where_requires) for part in conjuncts(where.this if where else None)]
    block.nullable |= nullable_here
    for part, requires in pending:
        block.conditions.append(Condition(part, aliases_of(part), requires, is_strict(part)))
        _read_subqueries(block, part)
    for item in [*select.expressions, *filter(None, [select.args.get("having"), select.args.get("group")])]:
        _read_subqueries(block, item)


def _read_subqueries(block: Block, node: exp.Expr) -> None:
    """Add the sources of the subqueries right below a condition or projection to the block."""
    if isinstance(node, exp.Query):
        for select in branches(node):
            known = set(block.sources)
            _read_from(block, select)
            parent = node.parent
            while isinstance(parent, exp.Subquery | exp.Paren):
                parent = parent.parent
            if isinstance(parent, exp.In) and len(select.expressions) == 1:
                inner = select.expressions[0].unalias()
                equality = exp.EQ(this=parent.this.copy(), expression=inner.copy())
                added = frozenset(set(block.sources) - known)
                block.conditions.append(
                    Condition(
                        equality,
                        aliases_of(equality),
                        aliases_of(inner) & added or added,
                        is_strict(equality),
                    )
                )
        return
    for child in node.iter_expressions():
        _read_subqueries(block, child)


def _add_source(block: Block, node: exp.Expr) -> str:
    alias = node.alias_or_name
    if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
        block.sources[alias] = Source(alias, node, table=node.name)
    elif isinstance(node, exp.Subquery):
        block.sources[alias] = Source(alias, node, query=node.this)
    elif isinstance(node, exp.Lateral) and isinstance(node.this, exp.Subquery):
        block.sources[alias] = Source(alias, node, query=node.this.this, needs=aliases_of(node.this))
    else:
        block.sources[alias] = Source(alias, node, needs=aliases_of(node) - {alias})
    return alias
