"""Whether a model's query gives at most one row for each key: told from keys and equalities, else counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from consumers.engine.blocks import Block, branches, from_items, read_block
from consumers.engine.lineage import FREE

Keys = Mapping[str, frozenset[str]]  # a table's or model's name -> the columns that identify a row


def one_row_each(query: exp.Query, key: Sequence[str], keys: Keys) -> bool:
    """Whether no two rows of the query's result can have the same key. False: it cannot be told."""
    selects = list(branches(query))
    if len(selects) != 1:
        return False
    block = read_block(selects[0])
    fixed = [block.outputs[name] for name in key]
    grouped = _grouping(block)
    if grouped is not None:
        return all(item in fixed for item in grouped)
    select = block.select
    if select.args.get("distinct") is not None or any(
        (join.side or "").upper() in ("RIGHT", "FULL") for join in select.args.get("joins") or []
    ):
        return False
    if any(item.find(exp.UDTF, exp.Unnest, exp.ExplodingGenerateSeries, exp.Anonymous) for item in select.expressions):
        return False  # a function in the projection may give several rows
    return _determined(block, fixed, keys) >= {item.alias_or_name for item in from_items(select)}


def _grouping(block: Block) -> list[exp.Expr] | None:
    """What a block's rows are distinct by, where it says so."""
    group = block.select.args.get("group")
    if group is not None:
        return list(group.expressions)
    distinct = block.select.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        on = distinct.args["on"]
        return [item.unnest() for item in on.expressions] or [on.unnest()]
    return None


def _determined(block: Block, fixed: Sequence[exp.Expr], keys: Keys) -> set[str]:
    """The sources of which at most one row can stand beside given values of the key."""
    known = {(item.table, item.name) for item in fixed if isinstance(item, exp.Column)}
    done = {alias for alias, source in block.sources.items() if source.table in FREE}
    while True:
        more = {
            alias
            for alias, source in block.sources.items()
            if alias not in done
            and any(
                all(_is_fixed(block, alias, column, known, done) for column in columns)
                for columns in _identities(source.table, source.query, keys)
            )
        }
        if not more:
            return done
        done |= more


def _identities(table: str | None, query: exp.Query | None, keys: Keys) -> list[frozenset[str]]:
    """The sets of columns that identify a row of a source."""
    if table is not None:
        return [keys[table]] if table in keys else []
    if query is None:
        return []
    selects = list(branches(query))
    if len(selects) != 1:
        return []
    inner = read_block(selects[0])
    grouped = _grouping(inner)
    if grouped is None:
        aggregates = all(item.find(exp.AggFunc) and not item.find(exp.Window) for item in inner.outputs.values())
        return [frozenset()] if aggregates else []
    names = {name for name, item in inner.outputs.items() if item in grouped}
    return [frozenset(names)] if len({inner.outputs[n] for n in names}) == len(set(grouped)) else []


def _is_fixed(block: Block, alias: str, column: str, known: set[tuple[str, str]], done: set[str]) -> bool:
    """Whether a column has one value beside given values of the key and one row of each determined source."""
    if (alias, column) in known:
        return True
    for condition in block.conditions:
        pair = condition.equal_columns
        if pair is None or not condition.requires <= {alias}:
            continue
        for own, other in (pair, pair[::-1]):
            if (own.table, own.name) == (alias, column) and (other.table in done or (other.table, other.name) in known):
                return True
    return False
