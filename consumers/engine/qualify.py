"""Make a parsed query explicit: every column with its alias, every alias unique, WITH replaced by derived tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path

from sqlglot import exp
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.optimizer.qualify import qualify as qualify_names

from consumers.engine.blocks import branches, from_items
from consumers.engine.modelfile import line_of, refuse

Schema = Mapping[str, Mapping[str, str]]


def qualified(path: Path, query: exp.Query, schema: Schema, names: Collection[str]) -> exp.Query:
    """The query with every name resolved against `schema` (table -> column -> type).

    `names` are those of all models, for who mistypes one. Raises ModelRefusedError naming the table or column that does
    not exist.
    """
    query = _inline_with(query.copy())
    for table in query.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier) and table.name not in schema:
            known = sorted({*schema, *names})
            close = get_close_matches(table.name, known, n=1)
            raise refuse(
                path,
                line_of(table),
                f"there is no table or model “{table.name}”",
                (f"Did you mean “{close[0]}”? Else declare" if close else "Declare")
                + f" it in source.sql or add models/{table.name}.sql. Known here: {', '.join(known)}.",
            )
        if table.args.get("db"):
            raise refuse(path, None, f"“{table.sql()}” names a schema", "Name tables plainly; the domain finds them.")
    try:
        result = qualify_names(
            query,
            schema={name: dict(columns) for name, columns in schema.items()},
            dialect="postgres",
            validate_qualify_columns=True,
        )
    except (OptimizeError, SqlglotError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        named = re.search(r"column:? ['\"]*(\w+)", reason, re.IGNORECASE)
        raise refuse(
            path,
            next((line_of(c) for c in query.find_all(exp.Column) if named and c.name == named[1]), None),
            f"cannot resolve the names: {reason}",
            "Check the spelling and the table's alias; a function in FROM needs named columns, as in `f(…) AS t(item)`.",
        ) from None
    if not isinstance(result, exp.Query):
        raise refuse(path, None, "a model is exactly one SELECT", "Put each SELECT into a file of its own.")
    _expand_output_names(result)
    _inline_windows(result)
    _name_branches(path, result)
    _unique_aliases(result, {}, set())
    return result


def _inline_with(query: exp.Query) -> exp.Query:
    """Replace references to WITH queries by derived tables: one way to say a thing is enough behind here."""
    for _ in range(64):  # a WITH query may read those before it
        clause = next(iter(query.find_all(exp.With)), None)
        if clause is None:
            break
        owner = clause.parent
        definitions = {item.alias: item for item in clause.expressions}
        clause.pop()
        for name, definition in reversed(definitions.items()):
            for table in list(owner.find_all(exp.Table)) if owner is not None else []:
                if table.name == name and not table.args.get("db"):
                    _replace_table(table, definition)
            for other in definitions.values():
                for table in list(other.this.find_all(exp.Table)):
                    if other is not definition and table.name == name:
                        _replace_table(table, definition)
    return query


def _replace_table(table: exp.Table, definition: exp.CTE) -> None:
    alias = exp.TableAlias(this=exp.to_identifier(table.alias_or_name))
    columns = definition.args["alias"].args.get("columns")
    if columns:
        alias.set("columns", [column.copy() for column in columns])
    table.replace(exp.Subquery(this=definition.this.copy(), alias=alias))


def _expand_output_names(query: exp.Query) -> None:
    """DISTINCT ON may name an output column; replace it by the column's expression."""
    for select in query.find_all(exp.Select):
        distinct = select.args.get("distinct")
        on = distinct.args.get("on") if distinct else None
        if on is None:
            continue
        outputs = {item.alias_or_name: item.unalias() for item in select.expressions}
        for column in list(on.find_all(exp.Column)):
            if not column.table and column.name in outputs:
                column.replace(outputs[column.name].copy())


def _name_branches(path: Path, query: exp.Query) -> None:
    """The branches of UNION ALL take the column names of the first, as in PostgreSQL."""
    for union in [node for node in query.find_all(exp.SetOperation) if not isinstance(node.parent, exp.SetOperation)]:
        first, *others = branches(union)
        names = [item.alias_or_name for item in first.expressions]
        for select in others:
            if len(select.expressions) != len(names):
                raise refuse(
                    path,
                    None,
                    "the branches of UNION ALL have different numbers of columns",
                    "Select the same columns.",
                )
            named = zip(select.expressions, names, strict=True)
            select.set("expressions", [exp.alias_(item.unalias(), name, quoted=True) for item, name in named])


def _inline_windows(query: exp.Query) -> None:
    """Replace references to the WINDOW clause by what it says."""
    for select in query.find_all(exp.Select):
        named = {window.name: window for window in select.args.get("windows") or []}
        for window in list(select.find_all(exp.Window)):
            name = window.args.get("alias")
            if name is not None and name.name in named and window.this is not None and window not in named.values():
                definition = named[name.name]
                for part in ("partition_by", "order", "spec"):
                    value = definition.args.get(part)
                    if value is not None and not window.args.get(part):
                        window.set(part, [v.copy() for v in value] if isinstance(value, list) else value.copy())
                window.set("alias", None)
        select.set("windows", None)


def _unique_aliases(query: exp.Expr, outer: dict[str, str], used: set[str]) -> None:
    """Give every FROM item of the query an alias of its own, and its columns with it."""
    for select in branches(query) if isinstance(query, exp.Query) else []:
        names = dict(outer)
        items = from_items(select)
        for item in items:
            old = item.alias_or_name
            new, number = old, 2
            while new in used:
                new, number = f"{old}_{number}", number + 1
            used.add(new)
            names[old] = new
            if new != old:
                alias = item.args.get("alias")
                if isinstance(alias, exp.TableAlias):
                    alias.set("this", exp.to_identifier(new, quoted=True))
                else:
                    item.set("alias", exp.TableAlias(this=exp.to_identifier(new, quoted=True)))
        _rename(select, names, outer, used, items)


def _rename(
    node: exp.Expr,
    names: dict[str, str],
    outer: dict[str, str],
    used: set[str],
    items: list[exp.Expr],
) -> None:
    for child in list(node.iter_expressions()):
        if isinstance(child, exp.Column):
            if child.table in names and names[child.table] != child.table:
                child.set("table", exp.to_identifier(names[child.table], quoted=True))
        elif isinstance(child, exp.Subquery) and child in items:
            _unique_aliases(child.this, outer, used)
        elif isinstance(child, exp.Query) and not isinstance(child, exp.Subquery):
            _unique_aliases(child, names, used)
        else:
            _rename(child, names, outer, used, items)
