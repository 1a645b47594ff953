"""What a query depends on, and how: read columns, affected keys, and the columns a refresh is scoped by.

The argument that makes affected keys sound: let one input T of the query change from state to state while all
others stand still. A result row differs only if some combination of input rows that includes a changed row of T
(as it was or as it is) contributes to it, or if such a combination gives way to one in which an outer join puts
NULLs in T's place. Every such combination satisfies the conditions that hold wherever T contributes; so joining T's changed images with the
fewest other inputs that lead to the key, by those conditions alone, and doing so once more with NULLs for what may
be filled, finds every key concerned, and perhaps some more. Changes of several inputs are several such steps, one
after the other. Filters, grouping and the other joins can only take keys away and are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from sqlglot import exp

from consumers.engine.blocks import Block, Condition, aliases_of, branches, read_block
from consumers.engine.modelfile import refuse

CHANGED = "__changed"
FREE = frozenset({"clock", "params"})  # one-row tables: the engine knows when they change


@dataclass(frozen=True)
class KeyPath:
    """How changed rows of one input lead to keys.

    Args:
        table: the input.
        select: the keys, from the relation CHANGED which holds the images of the changed rows.
        direct: the input's columns that are the key already, if no query is needed.
        columns: the columns of the input that the images must carry.
    """

    table: str
    select: exp.Select
    direct: tuple[str, ...] | None
    columns: tuple[str, ...]


class _UnreachableError(Exception):
    """The targets cannot be reached from this input; carries why."""


def stable_outputs(block: Block) -> set[str]:
    """The output columns that are the same for all rows which one contributing row can influence.

    For a plain SELECT all of them; with grouping, windows or DISTINCT ON those that the group shares.
    """
    outputs = set(block.outputs)
    shared: list[set[str]] = []
    group = block.select.args.get("group")
    if group is not None:
        shared.append({name for name, item in block.outputs.items() if item in group.expressions})
    elif any(is_aggregate(item) for item in [*block.outputs.values(), *_having(block)]):
        shared.append(set())
    distinct = block.select.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        on = [item.unnest() for item in distinct.args["on"].expressions] or [distinct.args["on"].unnest()]
        shared.append({name for name, item in block.outputs.items() if item in on})
    for window in _windows(block.select):
        partition = window.args.get("partition_by") or []
        shared.append({name for name, item in block.outputs.items() if item in partition})
    for names in shared:
        outputs &= names
    return outputs


def _having(block: Block) -> list[exp.Expr]:
    having = block.select.args.get("having")
    return [having.this] if having is not None else []


def _windows(select: exp.Select) -> Iterator[exp.Window]:
    for item in select.expressions:
        for window in item.find_all(exp.Window):
            if window.find_ancestor(exp.Select) is select:
                yield window


def is_aggregate(node: exp.Expr) -> bool:
    """Whether an expression aggregates over its own SELECT's rows (a window function does not)."""
    select = node.find_ancestor(exp.Select)
    for aggregate in node.find_all(exp.AggFunc):
        outer = aggregate.parent
        while isinstance(outer, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
            outer = outer.parent
        if aggregate.find_ancestor(exp.Select) is select and not isinstance(outer, exp.Window):
            return True
    return False


def read_columns(query: exp.Query) -> dict[str, set[str]]:
    """Every table of the query with the columns read from it, joins and filters included."""
    owners: dict[str, str] = {}
    result: dict[str, set[str]] = {}
    for table in query.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier):
            owners[table.alias_or_name] = table.name
            result.setdefault(table.name, set())
    for column in query.find_all(exp.Column):
        if column.table in owners:
            result[owners[column.table]].add(column.name)
    return result


def find_scope(path: Path, query: exp.Query, key: Sequence[str]) -> tuple[str, ...]:
    """The key columns a refresh can be restricted to; empty if the key comes from clock and params alone.

    Raises ModelRefusedError where the query has no such columns.
    """
    scope: list[str] | None = None
    for select in branches(query):
        block = read_block(select)
        missing = [name for name in key if name not in block.outputs]
        if missing:
            raise refuse(
                path,
                1,
                f"the key column “{missing[0]}” is not in the SELECT",
                f"Select it, or name other columns in `-- key:`; selected: {', '.join(block.outputs)}.",
            )
        free = {alias for alias, source in block.sources.items() if source.table in FREE}
        of_key = frozenset[str]().union(*(aliases_of(block.outputs[name]) for name in key))
        if of_key and of_key <= free:
            if len(list(branches(query))) > 1:
                raise refuse(path, None, "a branch of UNION ALL has a key of constants", "Give it a model of its own.")
            return ()
        stable = stable_outputs(block)
        functions = {alias for alias, source in block.sources.items() if source.table is None and source.query is None}
        usable = [
            name
            for name in key
            if name in stable
            and aliases_of(block.outputs[name]) - free
            and not aliases_of(block.outputs[name]) & functions
        ]
        scope = usable if scope is None else [name for name in scope if name in usable]
        if not scope:
            raise refuse(path, None, *_no_scope(block, key))
    return tuple(scope or ())


def _no_scope(block: Block, key: Sequence[str]) -> tuple[str, str]:
    if next(_windows(block.select), None) is not None:
        return (
            "a window is not partitioned by a column of the key",
            f"Partition every window by columns of the key ({', '.join(key)}), or add its partition column to the key.",
        )
    if block.select.args.get("group") is None and any(is_aggregate(item) for item in block.outputs.values()):
        return (
            "an aggregate over the whole table has no key",
            "Add GROUP BY, for example by day or by block of ids.",
        )
    return (
        f"no column of the key ({', '.join(key)}) is a grouping or plain column",
        "Choose as key the columns of GROUP BY or DISTINCT ON, or columns of the tables read.",
    )


def key_paths(path: Path, query: exp.Query, targets: Sequence[str]) -> list[KeyPath]:
    """How each input of the query leads to the target outputs; one entry for each occurrence and variant.

    Raises ModelRefusedError where one cannot be derived soundly.
    """
    found: list[KeyPath] = []
    for select in branches(query):
        block = read_block(select)
        try:
            found += _block_paths(block, [block.outputs[name] for name in targets])
        except _UnreachableError as error:
            raise refuse(
                path,
                None,
                str(error),
                "Add an equality that leads from it to the key, split the query into two models, or state the keys "
                "yourself with a header line `-- affects TABLE: SELECT key FROM TABLE …`.",
            ) from None
    return found


def _block_paths(block: Block, targets: Sequence[exp.Expr]) -> list[KeyPath]:
    found: list[KeyPath] = []
    for alias, source in block.sources.items():
        if source.table in FREE or (source.table is None and source.query is None):
            continue
        if source.query is not None:
            found += _derived_paths(block, alias, source.query, targets)
            continue
        for way in _reach(block, alias, targets):
            found.append(_table_path(block, alias, str(source.table), way))
    return found


@dataclass(frozen=True)
class _Way:
    """A way from a source to the targets: the targets' form, the sources used, the conditions between them."""

    targets: tuple[exp.Expr, ...]
    inside: frozenset[str]
    conditions: tuple[Condition, ...]

    def columns_of(self, alias: str) -> tuple[str, ...]:
        """The columns of one source that the way uses."""
        nodes = [*self.targets, *(condition.node for condition in self.conditions)]
        return tuple(sorted({c.name for node in nodes for c in node.find_all(exp.Column) if c.table == alias}))


def _table_path(block: Block, alias: str, table: str, way: _Way) -> KeyPath:
    direct: tuple[str, ...] | None = None
    if way.inside == {alias} and all(isinstance(target, exp.Column) for target in way.targets):
        direct = tuple(target.name for target in way.targets)
    start = exp.to_table(CHANGED).as_(alias, table=True, quoted=True)
    return KeyPath(table, _select(block, alias, start, table, way), direct, way.columns_of(alias))


def _derived_paths(block: Block, alias: str, query: exp.Query, targets: Sequence[exp.Expr]) -> list[KeyPath]:
    """From the inputs of a derived table to its stable columns, and from those to the targets."""
    inner_blocks = [read_block(select) for select in branches(query)]
    stable = set.intersection(*(stable_outputs(inner) for inner in inner_blocks))
    found: list[KeyPath] = []
    for way in _reach(block, alias, targets, only=stable):
        needed = way.columns_of(alias)
        for inner in inner_blocks:
            if way.inside == {alias}:  # the targets are expressions of the derived table's own columns
                found += _block_paths(inner, [_substitute(target, alias, inner.outputs) for target in way.targets])
                continue
            for step in _block_paths(inner, [inner.outputs[name] for name in needed]):
                body = step.select.copy()
                named = zip(body.expressions, needed, strict=True)
                body.set("expressions", [exp.alias_(item.unalias(), name, quoted=True) for item, name in named])
                start = exp.Subquery(this=body).as_(alias, table=True, quoted=True)
                found.append(KeyPath(step.table, _select(block, alias, start, step.table, way), None, step.columns))
    return found


def _substitute(target: exp.Expr, alias: str, outputs: Mapping[str, exp.Expr]) -> exp.Expr:
    def replace(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Column) and part.table == alias:
            inner = outputs[part.name].copy()
            return inner if isinstance(inner, exp.Column) else exp.Paren(this=inner)
        return part

    return target.copy().transform(replace)


def _select(block: Block, alias: str, start: exp.Expr, table: str, way: _Way) -> exp.Select:
    """SELECT DISTINCT the targets from the start, joined with the other sources of the way."""
    names = [f"k{number}" for number in range(len(way.targets))]
    items = [exp.alias_(t.copy(), n, quoted=True) for t, n in zip(way.targets, names, strict=True)]
    select = exp.select(*items).distinct().from_(start)
    placed, waiting = {alias}, sorted(way.inside - {alias})
    while waiting:
        ready = [name for name in waiting if block.sources[name].needs <= placed | FREE]
        name = ready[0] if ready else waiting[0]
        waiting.remove(name)
        placed.add(name)
        node = _with_images(block.sources[name].node.copy(), table)
        select = select.join(node, join_type="cross")
    for condition in way.conditions:
        select = select.where(condition.node.copy())
    return select


def _with_images(node: exp.Expr, table: str) -> exp.Expr:
    """A source of a way, with the changed table read as it is and as the images say it was."""

    def replace(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Table) and part.name == table and isinstance(part.this, exp.Identifier):
            images = exp.select("*").from_(exp.to_table(CHANGED))
            both = exp.select("*").from_(exp.to_table(f"{CHANGED}_table")).union(images, distinct=False)
            return exp.Subquery(this=both).as_(part.alias_or_name, table=True, quoted=True)
        return part

    return node.transform(replace)


def _present(block: Block, start: str) -> set[str]:
    """The aliases certainly not NULL-filled in any combination to which a row of `start` contributes."""
    present = {start} | (set(block.sources) - block.nullable)
    while True:
        more = set(present)
        for companions in block.companions:
            if companions & more:
                more |= companions
        for condition in block.conditions:
            if condition.strict and condition.requires <= more:
                more |= condition.aliases & set(block.sources)
        if more == present:
            return present
        present = more


def _reach(block: Block, start: str, targets: Sequence[exp.Expr], only: set[str] | None = None) -> list[_Way]:
    """The ways from `start` to the targets by the fewest sources.

    `only` restricts the columns of `start` that may be used. Where the targets lie on sources that an outer join
    may fill with NULLs, every combination of filled and not filled needs a way of its own.
    """
    free = {alias for alias, source in block.sources.items() if source.table in FREE}
    doubtful = sorted({name for node in targets for name in aliases_of(node)} & block.nullable)
    ways: dict[str, _Way] = {}
    for size in range(len(doubtful) + 1):
        for filled in combinations(doubtful, size):
            wanted = [_with_nulls(node, set(filled)) for node in targets]
            present = _present(block, start).union(*(_present(block, name) for name in doubtful if name not in filled))
            way = _search(block, start, wanted, _usable(block, start, present, free, only), only)
            ways.setdefault(" ".join(node.sql() for node in way.targets), way)
    return list(ways.values())


def _with_nulls(node: exp.Expr, aliases: set[str]) -> exp.Expr:
    def replace(part: exp.Expr) -> exp.Expr:
        return exp.Null() if isinstance(part, exp.Column) and part.table in aliases else part

    return node.copy().transform(replace) if aliases else node


def _usable(block: Block, start: str, present: set[str], free: set[str], only: set[str] | None) -> list[Condition]:
    """The conditions between sources that hold in every combination to which `start` contributes."""
    return [
        condition
        for condition in block.conditions
        if condition.strict
        and len(condition.aliases) > 1
        and not condition.aliases & free
        and condition.aliases <= set(block.sources)
        and condition.requires <= present
        and all(_allowed(column, start, only) for column in condition.node.find_all(exp.Column))
    ]


def _allowed(column: exp.Column, start: str, only: set[str] | None) -> bool:
    return only is None or column.table != start or column.name in only


def _search(
    block: Block,
    start: str,
    targets: Sequence[exp.Expr],
    conditions: list[Condition],
    only: set[str] | None,
) -> _Way:
    """Breadth first over sets of sources, equalities before ranges: the smallest set with a form of every target."""
    equal = _equal_columns(conditions)
    equalities = [condition for condition in conditions if isinstance(condition.node, exp.EQ)]
    for usable in (equalities, conditions):
        queue, seen = deque([frozenset({start})]), {frozenset({start})}
        while queue:
            inside = queue.popleft()
            wanted = [_rewrite(target, inside, equal, start, only) for target in targets]
            if None not in wanted:
                chosen = tuple(c for c in conditions if c.aliases <= inside and len(inside) > 1)
                return _Way(tuple(node for node in wanted if node is not None), inside, chosen)
            for larger in _larger(block, inside, usable):
                if larger not in seen:
                    seen.add(larger)
                    queue.append(larger)
    name = block.sources[start].table or start
    raise _UnreachableError(f"a change of “{name}” (as {start}) cannot be traced to the key")


def _larger(block: Block, inside: frozenset[str], conditions: list[Condition]) -> Iterator[frozenset[str]]:
    """The sets with one source more (or with what a function in FROM takes its arguments from)."""
    for condition in conditions:
        if condition.aliases & inside and len(condition.aliases - inside) == 1:
            yield inside | condition.aliases
    for alias, source in block.sources.items():
        needs = frozenset(name for name in source.needs if block.sources[name].table not in FREE)
        if alias in inside and needs - inside:
            yield inside | needs
        if alias not in inside and needs and needs <= inside:
            yield inside | {alias}


def _equal_columns(conditions: Sequence[Condition]) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Columns that are equal by the conditions, transitively."""
    groups: list[set[tuple[str, str]]] = []
    for condition in conditions:
        pair = condition.equal_columns
        if pair is None:
            continue
        names = {(column.table, column.name) for column in pair}
        for group in [group for group in groups if group & names]:
            names |= group
            groups.remove(group)
        groups.append(names)
    return {name: group for group in groups for name in group}


def equal_names(block: Block, alias: str, column: exp.Column) -> set[str]:
    """The columns of the source `alias` that equal the given column wherever the source contributes."""
    free = {name for name, source in block.sources.items() if source.table in FREE}
    equal = _equal_columns(_usable(block, alias, _present(block, alias), free, None))
    name = (column.table, column.name)
    return {other for table, other in equal.get(name, {name}) if table == alias}


def _rewrite(
    target: exp.Expr,
    inside: frozenset[str],
    equal: Mapping[tuple[str, str], set[tuple[str, str]]],
    start: str,
    only: set[str] | None,
) -> exp.Expr | None:
    """The target in terms of the sources inside, equal columns standing in for others; None if impossible."""
    holder = exp.Paren(this=target.copy())
    for column in list(holder.find_all(exp.Column)):
        if column.table in inside and _allowed(column, start, only):
            continue
        stand_ins = [
            stand_in
            for table, name in sorted(equal.get((column.table, column.name), ()))
            if table in inside and _allowed(stand_in := exp.column(name, table=table, quoted=True), start, only)
        ]
        if not stand_ins:
            return None
        column.replace(stand_ins[0])
    for coalesce in list(holder.find_all(exp.Coalesce)):
        parts = list(dict.fromkeys([coalesce.this, *coalesce.expressions]))
        parts = [part for part in parts if not isinstance(part, exp.Null)] or [exp.Null()]
        coalesce.replace(exp.Coalesce(this=parts[0], expressions=parts[1:]) if len(parts) > 1 else parts[0])
    rewritten: exp.Expr = holder.this
    return rewritten
