"""Small pieces of SQL text: quoted names, array literals, comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

# In whose text form there are no braces, commas, quotes and backslashes.
_PLAIN = re.compile(
    r"(smallint|integer|bigint|numeric|real|double precision|boolean|date|uuid|timestamp|time|oid)\b(?!.*\[\])"
)
# Types without an equality operator: compared by their text.
_NO_EQUALITY = re.compile(r"(json|xml|point|polygon|box)$")


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quoted(names: Iterable[str], prefix: str = "") -> str:
    """Names as a comma-separated list, each behind the prefix (`m.`)."""
    return ", ".join(prefix + quote(name) for name in names)


def comparable(expression: str, type_: str) -> str:
    """An expression that has an equality operator."""
    return f"({expression})::text" if _NO_EQUALITY.match(type_) else expression


def distinct(left: str, right: str, type_: str) -> str:
    """A condition: two expressions of a type differ; NULL is a value."""
    return f"{comparable(left, type_)} IS DISTINCT FROM {comparable(right, type_)}"


def differing(columns: Iterable[str], types: Mapping[str, str], left: str, right: str) -> str:
    """A condition: two rows, by their aliases, differ in any of the columns; empty where there are none."""
    return " OR ".join(distinct(f"{left}.{quote(c)}", f"{right}.{quote(c)}", types[c]) for c in columns)


def same(columns: Iterable[str], left: str, right: str) -> str:
    """A condition: two rows, by their aliases, are equal in all the columns; for columns that are never NULL."""
    return " AND ".join(f"{left}.{quote(c)} = {right}.{quote(c)}" for c in columns)


def parameter_type(type_: str) -> str:
    """The element type to pass values of a column in an array: an array column's values go as text."""
    return "text" if type_.endswith("[]") else type_


def array_literal(values: Sequence[str | None], type_: str) -> str:
    """The values as PostgreSQL's array text, for a parameter of the type `type_[]`."""
    if not values:
        return "{}"
    if None in values:
        quoting = str if _is_plain(type_) else _quoted
        return "{" + ",".join(["NULL" if value is None else quoting(value) for value in values]) + "}"
    solid: Sequence[str] = values  # type: ignore[assignment]
    if _is_plain(type_):
        return "{" + ",".join(solid) + "}"
    joined = '","'.join(solid)
    if "\\" not in joined and joined.count('"') == 2 * (len(solid) - 1):
        return '{"' + joined + '"}'
    return "{" + ",".join(map(_quoted, solid)) + "}"


@cache
def _is_plain(type_: str) -> bool:
    """Whether the type's text form never contains what an array literal gives a meaning to."""
    return _PLAIN.match(type_) is not None


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unnest(columns: Sequence[tuple[str, str]], alias: str, first: int = 1, *, ordinality: bool = False) -> str:
    """A FROM item that turns array parameters `$first`… into rows; columns are (name, type)."""
    arrays = ", ".join(f"${n}::{parameter_type(t)}[]" for n, (_, t) in enumerate(columns, start=first))
    raw = [f"{name}" for name, _ in columns] + (["__ord"] if ordinality else [])
    with_ordinality = " WITH ORDINALITY" if ordinality else ""
    casts = [f"{quote(n)}::{t} AS {quote(n)}" if t.endswith("[]") else quote(n) for n, t in columns]
    if not any(t.endswith("[]") for _, t in columns):
        return f"unnest({arrays}){with_ordinality} AS {alias}({quoted(raw)})"
    inner = f"unnest({arrays}){with_ordinality} AS __u({quoted(raw)})"
    return f"(SELECT {', '.join(casts + (['__ord'] if ordinality else []))} FROM {inner}) AS {alias}"
