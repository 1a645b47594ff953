"""The models of a domain understood together: their order, what each reads, how changes reach each.

Everything here follows from the files alone; no database is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from consumers.domain import PARAMETERS_KEY, Domain
from consumers.engine.blocks import Block, Condition, branches, is_plain, read_block
from consumers.engine.lineage import CHANGED, FREE, KeyPath, find_scope, key_paths, read_columns
from consumers.engine.modelfile import ModelFile, refuse
from consumers.engine.qualify import qualified
from consumers.engine.unique import one_row_each


@dataclass(frozen=True)
class Model:
    """A model understood.

    Args:
        file: as its author wrote it.
        query: the query with every name resolved.
        outputs: its columns in order.
        reads: input -> columns read from it, joins and filters included.
        scope: the key columns a refresh is restricted by; empty: the model has one row and is refreshed whole.
        paths: how changed rows of each input lead to scope values.
        level: 0 for models over the mirror alone, else one more than the highest model read.
        never_null: the outputs that cannot be NULL.
        one_row_each: whether the query certainly gives one row for each key; else its rows are counted.
    """

    file: ModelFile
    query: exp.Query
    outputs: tuple[str, ...]
    reads: Mapping[str, frozenset[str]]
    scope: tuple[str, ...]
    paths: tuple[KeyPath, ...]
    level: int
    never_null: frozenset[str]
    one_row_each: bool

    @property
    def name(self) -> str:
        """The model's and its table's name."""
        return self.file.name

    @property
    def clocked(self) -> bool:
        """Whether the result depends on the clock by itself."""
        return "clock" in self.reads


@dataclass(frozen=True)
class Analysis:
    """All models in dependency order, and what tables and models are looked up by: columns or expressions.

    Args:
        joined: by table or model, what joins look it up by.
        grouped: by (model, input), what a refresh of the model for some keys looks its input up by.
    """

    domain: Domain
    models: tuple[Model, ...]
    joined: Mapping[str, frozenset[str]]
    grouped: Mapping[tuple[str, str], frozenset[str]]

    def readers(self, name: str) -> list[Model]:
        """The models that read a table or model directly."""
        return [model for model in self.models if name in model.reads]

    def upstream(self, name: str) -> set[str]:
        """Every table and model that a model depends on, itself included."""
        found = {name}
        for model in reversed(self.models):
            if model.name in found:
                found |= set(model.reads)
        return found


def analyse(domain: Domain) -> Analysis:
    """Understand a domain's models. Raises ModelRefusedError for what cannot be kept."""
    schema: dict[str, dict[str, str]] = {
        name: {c.name: "text" for c in table.columns if c.name != PARAMETERS_KEY}
        for name, table in domain.mirror_tables.items()
    }
    schema["params"] = schema["params"] or {PARAMETERS_KEY: "text"}
    schema["clock"] = {"now": "text"}
    levels: dict[str, int] = {}
    keys = {name: frozenset(table.key) for name, table in domain.mirror_tables.items()}
    solid = {
        name: frozenset(c.name for c in table.columns if not (c.nullable or c.optional))
        for name, table in domain.mirror_tables.items()
    }
    models: list[Model] = []
    for file in _ordered(domain):
        model = _analyse_model(file, qualified(file.path, file.query, schema, domain.models), levels, solid, keys)
        solid[model.name] = model.never_null
        keys[model.name] = frozenset(file.key)
        models.append(model)
        levels[model.name] = model.level
        schema[model.name] = dict.fromkeys(model.outputs, "text")
    return Analysis(domain, tuple(models), *_looked_up(models))


def _ordered(domain: Domain) -> list[ModelFile]:
    """Models after those they read. Raises ModelRefusedError on a cycle, showing it."""
    reads = {
        name: sorted({t.name for t in file.query.find_all(exp.Table)} & set(domain.models))
        for name, file in domain.models.items()
    }
    done: list[str] = []
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in trail:
            cycle = " → ".join([*trail[trail.index(name) :], name])
            raise refuse(
                domain.models[name].path,
                None,
                f"the models read each other in a circle: {cycle}",
                "Move what they share into a third model, or read the source tables instead.",
            )
        trail.append(name)
        for other in reads[name]:
            visit(other)
        trail.pop()
        done.append(name)

    for name in reads:
        visit(name)
    return [domain.models[name] for name in done]


def _analyse_model(
    file: ModelFile,
    query: exp.Query,
    levels: Mapping[str, int],
    solid: Mapping[str, frozenset[str]],
    keys: Mapping[str, frozenset[str]],
) -> Model:
    outputs = tuple(item.alias_or_name for item in next(branches(query)).expressions)
    twice = [name for name in outputs if outputs.count(name) > 1]
    if twice:
        raise refuse(file.path, None, f"two columns are called “{twice[0]}”", "Give one of them another name with AS.")
    reads = {name: frozenset(columns) for name, columns in read_columns(query).items()}
    _check_header(file, outputs, reads)
    scope = find_scope(file.path, query, file.key)
    overridden = dict(file.affects or {})
    paths = _paths(file, query, scope, overridden) if scope else []
    return Model(
        file=file,
        query=query,
        outputs=outputs,
        reads=reads,
        scope=scope,
        paths=tuple(dict.fromkeys(paths)),
        level=max((levels[name] + 1 for name in reads if name in levels), default=0),
        never_null=frozenset(name for name in outputs if _never_null(query, name, solid)),
        one_row_each=one_row_each(query, file.key, keys),
    )


def _never_null(query: exp.Query, name: str, solid: Mapping[str, frozenset[str]]) -> bool:
    """Whether an output certainly has a value in every row."""
    blocks = [read_block(select) for select in branches(query)]
    return all(_has_value(block, block.outputs[name], solid) for block in blocks)


def _has_value(block: Block, item: exp.Expr, solid: Mapping[str, frozenset[str]]) -> bool:
    """Whether an expression has a value: a column declared NOT NULL or needed by a condition, or made of such."""
    if isinstance(item, exp.Literal | exp.Boolean | exp.Count):
        return True
    if isinstance(item, exp.Coalesce):
        return any(_has_value(block, part, solid) for part in [item.this, *item.expressions])
    if isinstance(item, exp.Paren):
        return _has_value(block, item.this, solid)
    if isinstance(item, exp.Add | exp.Sub | exp.Mul | exp.Div | exp.Mod):
        return _has_value(block, item.left, solid) and _has_value(block, item.right, solid)
    if isinstance(item, exp.Case):
        results = [part.args["true"] for part in item.args["ifs"]] + [item.args.get("default") or exp.Null()]
        return all(_has_value(block, part, solid) for part in results)
    if not isinstance(item, exp.Column):
        return False
    needed = any(
        not condition.requires
        and ((condition.strict and item in condition.node.find_all(exp.Column)) or _says_not_null(condition, item))
        for condition in block.conditions
    )
    source = block.sources[item.table]
    declared = item.table not in block.nullable and (
        item.name in solid.get(source.table or "", ())
        or (source.query is not None and _never_null(source.query, item.name, solid))
    )
    return needed or declared


def _says_not_null(condition: Condition, item: exp.Column) -> bool:
    """Whether a condition is `item IS NOT NULL`."""
    inner = condition.node.this.unnest() if isinstance(condition.node, exp.Not) else None
    return isinstance(inner, exp.Is) and inner.this.unnest() == item and isinstance(inner.expression, exp.Null)


def _check_header(file: ModelFile, outputs: Sequence[str], reads: Mapping[str, object]) -> None:
    named = {
        "changes_at": file.changes_at,
        "history": file.history.column if file.history else None,
    }
    for entry, column in named.items():
        if column is not None and column not in outputs:
            raise refuse(
                file.path,
                1,
                f"`-- {entry}:` names “{column}”, which is not selected",
                f"Select it or name another column; selected: {', '.join(outputs)}.",
            )
    if "clock" in reads and file.changes_at is None:
        raise refuse(
            file.path,
            None,
            "it reads the clock but does not say when its rows change by themselves",
            "Select the time of the next change and name it: `-- changes_at: next_change_at`.",
        )
    if file.changes_at is not None and "clock" not in reads:
        raise refuse(
            file.path,
            1,
            "`-- changes_at:` is given but the query does not read `clock`",
            "Join clock, or drop the line.",
        )


def _paths(
    file: ModelFile, query: exp.Query, scope: Sequence[str], overridden: Mapping[str, exp.Query]
) -> list[KeyPath]:
    given = []
    for table, override in overridden.items():
        if not isinstance(override, exp.Select) or len(override.expressions) != len(scope):
            raise refuse(
                file.path,
                None,
                f"`-- affects {table}:` must select {', '.join(scope)}",
                f"Write `-- affects {table}: SELECT {', '.join(scope)} FROM {table} …`; the table then stands for the "
                "changed rows, as they were and as they are.",
            )
        given.append(_given_path(table, override))
    if not overridden:
        return key_paths(file.path, query, scope)
    derivable = _without(query, set(overridden))
    derived = key_paths(file.path, derivable, scope) if derivable is not None else []
    return [*given, *(path for path in derived if path.table not in overridden)]


def _given_path(table: str, override: exp.Select) -> KeyPath:
    select = override.copy()
    columns: set[str] = set()
    for node in list(select.find_all(exp.Table)):
        if node.name == table:
            alias = node.alias_or_name
            columns |= {c.name for c in select.find_all(exp.Column) if c.table in ("", alias)}
            node.replace(exp.to_table(CHANGED).as_(alias, table=True, quoted=True))
    names = [f"k{number}" for number in range(len(select.expressions))]
    items = zip(select.expressions, names, strict=True)
    select.set("expressions", [exp.alias_(item.unalias(), name, quoted=True) for item, name in items])
    return KeyPath(table, select, None, tuple(sorted(columns)))


def _without(query: exp.Query, tables: set[str]) -> exp.Query | None:
    """The query for deriving the other inputs' paths: the overridden tables count as one-row tables there."""
    result = query.copy()
    for node in result.find_all(exp.Table):
        if node.name in tables:
            node.set("this", exp.to_identifier("params"))
    return result


def _index_text(item: exp.Expr) -> str:
    """A column or an expression over one table's columns, as CREATE INDEX takes it."""

    def plain(part: exp.Expr) -> exp.Expr:
        return exp.column(part.name, quoted=True) if isinstance(part, exp.Column) else part

    text = item.copy().transform(plain).sql("postgres")
    return text if isinstance(item, exp.Column) else f"({text})"


def _looked_up(
    models: Sequence[Model],
) -> tuple[dict[str, frozenset[str]], dict[tuple[str, str], frozenset[str]]]:
    """By what tables and models are looked up in joins and grouped derived tables, and by the scope of which model."""
    joined: dict[str, set[str]] = {}
    grouped: dict[tuple[str, str], set[str]] = {}
    for model in models:
        owners = {
            t.alias_or_name: t.name for t in model.query.find_all(exp.Table) if isinstance(t.this, exp.Identifier)
        }

        def owner(item: exp.Expr, owners: Mapping[str, str] = owners) -> str | None:
            """The table whose index can find the value of an expression."""
            aliases = {column.table for column in item.find_all(exp.Column)}
            name = owners.get(next(iter(aliases))) if len(aliases) == 1 else None
            return name if name not in FREE and is_plain(item) else None

        for select in model.query.find_all(exp.Select):
            group = select.args.get("group") if select.parent_select is not None else None
            items = [c for condition in read_block(select).conditions for c in condition.equal_columns or ()]
            for item in [*items, *(group.expressions if group is not None else [])]:
                if (name := owner(item)) is not None:
                    joined.setdefault(name, set()).add(_index_text(item))
        for select in branches(model.query):
            outputs = read_block(select).outputs
            for item in [outputs[name] for name in model.scope]:
                if (name := owner(item)) is not None:
                    grouped.setdefault((model.name, name), set()).add(_index_text(item))
    return (
        {name: frozenset(texts) for name, texts in joined.items()},
        {names: frozenset(texts) for names, texts in grouped.items()},
    )
