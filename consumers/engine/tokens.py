"""What a unit touches, as far as histories are concerned: the tokens by which `waves` are assigned.

For each source table: which of its columns are the key of which history, told from the models alone. Where a
change reaches a history by a join, no columns tell, and the change is a barrier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.engine.analysis import Analysis, Model
from consumers.engine.lineage import FREE, KeyPath, key_paths
from consumers.engine.modelfile import ModelRefusedError


@dataclass(frozen=True)
class Tokens:
    """How the changes of one table touch histories: (position of the model, columns that are its scope)."""

    columns: frozenset[tuple[int, tuple[str, ...]]]
    barrier: bool


def exact_models(analysis: Analysis) -> list[int]:
    """The positions of the models whose every state counts: with a history, or kept rows with a key of their own."""
    return [n for n, m in enumerate(analysis.models) if m.file.history or (m.file.keep and m.scope)]


def steps_count(analysis: Analysis) -> bool:
    """Whether the clock must step to each due time: some history or kept row depends on it."""
    by_name = {model.name: model for model in analysis.models}
    return any(
        by_name[name].clocked
        for model in analysis.models
        if model.file.history or model.file.keep
        for name in analysis.upstream(model.name)
        if name in by_name
    )


def cone(analysis: Analysis, positions: Sequence[int]) -> set[str]:
    """All tables and models that the given models depend on, themselves included."""
    return {name for n in positions for name in analysis.upstream(analysis.models[n].name)} - {"clock"}


def table_tokens(analysis: Analysis) -> dict[str, Tokens]:
    """For each table that feeds a history: its tokens."""
    by_name = {model.name: model for model in analysis.models}
    columns: dict[str, set[tuple[int, tuple[str, ...]]]] = {}
    barriers: set[str] = set()
    feeding: set[str] = set()
    for number in exact_models(analysis):
        model = analysis.models[number]
        names = analysis.upstream(model.name)
        feeding |= {name for name in names if name not in by_name and name not in FREE}
        if not model.scope:
            for name in feeding:
                columns.setdefault(name, set()).add((number, ()))
            continue
        _trace(analysis, by_name, model.paths, number, columns, barriers)
    return {name: Tokens(frozenset(columns.get(name, ())), name in barriers) for name in feeding} | {
        "params": Tokens(frozenset(), barrier=True)
    }


def _trace(
    analysis: Analysis,
    by_name: dict[str, Model],
    paths: Sequence[KeyPath],
    number: int,
    columns: dict[str, set[tuple[int, tuple[str, ...]]]],
    barriers: set[str],
) -> None:
    for path in paths:
        below = {name for name in analysis.upstream(path.table) if name not in by_name and name not in FREE}
        if path.direct is None:
            barriers |= below
        elif path.table not in by_name:
            columns.setdefault(path.table, set()).add((number, path.direct))
        else:
            inner = by_name[path.table]
            try:
                steps = key_paths(inner.file.path, inner.query, path.direct) if inner.scope else None
            except ModelRefusedError:
                steps = None
            if steps is None:
                barriers |= below
            else:
                _trace(analysis, by_name, steps, number, columns, barriers)
