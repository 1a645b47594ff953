"""Explain: how a model is kept, from its inputs to the plans that PostgreSQL makes for its refresh."""

from __future__ import annotations

from typing import Any

import psycopg

from connectors.errors import RowtideError
from consumers.engine import schema
from consumers.engine.analysis import Analysis, Model
from consumers.engine.differences import find_plans
from consumers.engine.relations import describe_all
from consumers.engine.scoped import scoped_query
from consumers.engine.statements import build_inputs


def explain(
    connection: psycopg.Connection[tuple[Any, ...]], analysis: Analysis, instance: str, name: str
) -> list[tuple[str, str]]:
    """The inputs, affected-key queries, scoped query and plan of a model, as (title, text)."""
    model = next((model for model in analysis.models if model.name == name), None)
    if model is None:
        raise RowtideError(
            f"There is no model “{name}”.", hint=f"There are: {', '.join(m.name for m in analysis.models)}."
        )
    if not schema.exists(connection, instance):
        with connection.transaction(force_rollback=True):
            schema.create(connection, instance, analysis)
            return _pieces(connection, analysis, instance, model)
    schema.use(connection, instance)
    return _pieces(connection, analysis, instance, model)


def _pieces(
    connection: psycopg.Connection[tuple[Any, ...]], analysis: Analysis, instance: str, model: Model
) -> list[tuple[str, str]]:
    relations = describe_all(connection, instance, analysis)
    plans, reasons = find_plans(analysis, relations)
    inputs = build_inputs(analysis, relations, plans)
    number = [m.name for m in analysis.models].index(model.name)
    pieces = [("model", f"{model.name}, level {model.level}, key ({', '.join(model.file.key)}), {model.file.path}")]
    for table, columns in sorted(model.reads.items()):
        pieces.append((f"reads {table}", ", ".join(sorted(columns)) or "(its rows)"))
    for table, entry in inputs.items():
        for route in entry.routes:
            if route.model == number:
                direct = ", ".join(entry.images[p] for p in route.direct) if route.direct is not None else None
                text = f"the key is in the row: {direct}" if direct else route.sql
                pieces.append((f"keys affected by {table}", text))
        if any(carried.model == number for carried in entry.differences):
            text = "by difference: what came and what went of the changed rows is added and taken off"
            again = (
                "a minimum, maximum or sum that this leaves open is asked again" if plans[model.name].may_ask else ""
            )
            pieces.append((f"kept from {table}", f"{text}; {again}" if again else text))
        if any(m == number for m, _ in entry.whole):
            pieces.append((f"keys affected by {table}", "all: the model is refreshed whole"))
    if model.name in reasons:
        pieces.append(
            ("groups", f"not kept by difference, because {reasons[model.name]}: a change asks for its whole group")
        )
    if model.file.changes_at:
        pieces.append(("changes by itself", f"when clock.now reaches {model.file.changes_at}"))
    if model.file.history:
        pieces.append(("history", f"{model.file.history.name}: every transition of {model.file.history.column}"))
    if model.scope:
        types = [relations[model.name].base[s] for s in model.scope]
        text = scoped_query(model.query, model.scope, types, (False,) * len(types)).sql("postgres", pretty=True)
        pieces.append(("refresh", text))
        connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        arrays = ", ".join(f"{t}[]" for t in types)
        connection.execute(f"PREPARE rowtide_explain ({arrays}) AS {text}")
        nulls = ", ".join("NULL" for _ in types)
        plan = connection.execute(f"EXPLAIN EXECUTE rowtide_explain ({nulls})").fetchall()
        connection.execute("DEALLOCATE rowtide_explain")
    else:
        plan = connection.execute("EXPLAIN " + model.query.sql("postgres")).fetchall()
    pieces.append(("plan", "\n".join(row[0] for row in plan)))
    return pieces
