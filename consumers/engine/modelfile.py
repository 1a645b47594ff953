"""A model file: a header of `-- name: value` lines and one SELECT. Reads and checks it; knows no other file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from connectors.errors import RowtideError

HEADER = re.compile(r"^--\s*(?P<name>[a-z_]+)(?:\s+(?P<table>\w+))?\s*:\s*(?P<value>.*)$")
KNOWN = ("key", "changes_at", "history", "keep", "affects", "title", "description")
NAME = re.compile(r"[a-z_][a-z0-9_]*")


class ModelRefusedError(RowtideError):
    """A model (or the domain around it) cannot be kept; the message names the file, the line and the construct."""


@dataclass(frozen=True)
class History:
    """Every transition of `column` is appended to the table `name`."""

    column: str
    name: str


@dataclass(frozen=True)
class ModelFile:
    """A model as its author wrote it.

    Args:
        name: of the model and its table: the file's name.
        path: where it was read.
        sql: the query's text, as written.
        query: its parsed form.
        key: the output columns that identify a row.
        changes_at: the output column that tells when a row next changes by itself, if it reads the clock.
        history: the column whose transitions are kept.
        keep: the table in which rows stay that left the query.
        affects: for an input table, the query of the affected keys that its author gave.
        title: what it is, in a few words.
        description: what it is, in a sentence or two.
    """

    name: str
    path: Path
    sql: str
    query: exp.Query
    key: tuple[str, ...]
    changes_at: str | None = None
    history: History | None = None
    keep: str | None = None
    affects: Mapping[str, exp.Query] | None = None
    title: str = ""
    description: str = ""


# What the wall clock, chance or the session decides is not a function of the mirror.
FORBIDDEN_FUNCTIONS = frozenset(
    [
        "now",
        "clock_timestamp",
        "statement_timestamp",
        "transaction_timestamp",
        "timeofday",
        "random",
        "random_normal",
        "gen_random_uuid",
        "uuidv4",
        "uuidv7",
        "nextval",
        "currval",
        "setseed",
        "pg_sleep",
        "txid_current",
        "version",
        "current_setting",
        "set_config",
    ]
)
FORBIDDEN_NODES: tuple[tuple[type[exp.Expr], str], ...] = (
    (exp.CurrentDate, "CURRENT_DATE"),
    (exp.CurrentTime, "CURRENT_TIME"),
    (exp.CurrentTimestamp, "now() or CURRENT_TIMESTAMP"),
    (exp.CurrentUser, "CURRENT_USER"),
    (exp.Rand, "random()"),
    (exp.Uuid, "gen_random_uuid()"),
)


def refuse(path: Path, line: int | None, what: str, way_out: str) -> ModelRefusedError:
    """The error for a construct that cannot be kept."""
    place = f"{path}:{line}" if line else str(path)
    return ModelRefusedError(f"{place}: {what}.", hint=way_out)


def line_of(node: exp.Expr) -> int | None:
    """The line on which a parsed node stands, where the parser kept it."""
    for part in node.walk():
        line = part.meta.get("line")
        if isinstance(line, int):
            return line
    return None


def read_header(text: str) -> tuple[dict[str, str], dict[str, str], int]:
    """Split a file's header off: its entries, its `affects` entries, and how many lines it takes."""
    entries: dict[str, str] = {}
    affects: dict[str, str] = {}
    lines = text.splitlines()
    count = 0
    for line in lines:
        stripped = line.strip()
        if stripped and not stripped.startswith("--"):
            break
        count += 1
        match = HEADER.match(stripped)
        if match is None:
            continue
        if match["name"] == "affects" and match["table"]:
            affects[match["table"]] = match["value"].strip()
        elif match["table"] is None:
            entries.setdefault(match["name"], match["value"].strip())
    return entries, affects, count


def _refuse_misspelt(path: Path, text: str, count: int) -> None:
    """Refuse a header line whose name is almost one of ours: as a mere comment it would be lost in silence."""
    for number, line in enumerate(text.splitlines()[:count], start=1):
        match = HEADER.match(line.strip())
        if match is None or match["name"] in KNOWN:
            continue
        if close := difflib.get_close_matches(match["name"], KNOWN, 1, cutoff=0.65):
            raise refuse(path, number, f"unknown header line “{match['name']}”", f"Did you mean `-- {close[0]}:`?")


def _plain(reason: str) -> str:
    """What the parser says, without the names of its own parts."""
    if "<class" in reason or "<Token" in reason:
        return "something is missing or out of place here"
    return reason.rstrip(".")


def parse_select(path: Path, sql: str, offset: int = 0) -> exp.Query:
    """Parse one SELECT (or UNION ALL of them) in PostgreSQL's dialect; `offset` lines of the file stand before it."""
    try:
        # So the parser tells, here and later, the lines of the file.
        text = "\n" * offset + sql
        statements = [statement for statement in sqlglot.parse(text, dialect="postgres") if statement is not None]
    except (ParseError, TokenError) as error:
        details = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
        line = details.get("line") or None
        reason = _plain(str(details.get("description") or "a quote or a comment is not closed"))
        near = str(details.get("highlight") or "")
        raise refuse(
            path,
            line,
            f"syntax error{f' near “{near}”' if near else ''}: {reason}",
            "Correct the statement; `rowtide explain` shows how a model was understood.",
        ) from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise refuse(path, offset + 1, "a model is exactly one SELECT", "Put each SELECT into a file of its own.")
    return statements[0]


def read_model(path: Path) -> ModelFile:
    """Read a model file. Raises ModelRefusedError with the line and the way out."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise refuse(path, None, f"not UTF-8 at byte {error.start}", "Save the file as UTF-8.") from None
    name = path.stem
    if not NAME.fullmatch(name):
        raise refuse(path, None, f"“{name}” cannot name a table", "Use lower-case letters, digits and _.")
    entries, affects, offset = read_header(text)
    sql = "\n".join(text.splitlines()[offset:]).strip().rstrip(";").strip()
    if not sql:
        raise refuse(path, None, "the file has no SELECT", "Write one SELECT below the header.")
    _refuse_misspelt(path, text, offset)
    if not entries.get("key"):
        raise refuse(path, 1, "the header names no key", "Add a line such as `-- key: rental_id` at the top.")
    query = parse_select(path, sql, offset)
    _refuse_volatile(path, query)
    return ModelFile(
        name=name,
        path=path,
        sql=sql,
        query=query,
        key=tuple(part.strip() for part in entries["key"].split(",") if part.strip()),
        changes_at=entries.get("changes_at") or None,
        history=_history(path, name, entries.get("history")),
        keep=entries.get("keep") or None,
        affects={table: parse_select(path, text, 0) for table, text in affects.items()},
        **{key: entries[key] for key in ("title", "description") if key in entries},
    )


def _history(path: Path, name: str, value: str | None) -> History | None:
    if not value:
        return None
    column, _, table = (part.strip() for part in re.sub(r"\s+(?i:as)\s+", "=", value).partition("="))
    if not NAME.fullmatch(column) or (table and not NAME.fullmatch(table)):
        raise refuse(
            path,
            None,
            f"cannot read the header line `-- history: {value}`",
            "Write `-- history: status AS name_of_table`.",
        )
    return History(column, table or f"{name}_history")


def _refuse_volatile(path: Path, query: exp.Query) -> None:
    way_out = (
        "Join the one-row table `clock` and use `clock.now`; name the time of the next change in `-- changes_at:`."
    )
    for node in query.walk():
        for kind, spelled in FORBIDDEN_NODES:
            if isinstance(node, kind):
                raise refuse(path, line_of(node), f"{spelled} is not allowed in a model", way_out)
        if isinstance(node, exp.Anonymous) and node.name.lower() in FORBIDDEN_FUNCTIONS:
            raise refuse(path, line_of(node), f"{node.name}() is not allowed in a model", way_out)
        if isinstance(node, exp.Limit | exp.Offset | exp.Fetch):
            raise refuse(
                path,
                line_of(node),
                "LIMIT and OFFSET depend on all rows at once",
                "Leave it out here and put it into a query, or keep one row per key with DISTINCT ON.",
            )
        if isinstance(node, exp.With) and node.args.get("recursive"):
            raise refuse(path, line_of(node), "WITH RECURSIVE cannot be kept", "Split it into models by level.")
        if isinstance(node, exp.Union) and node.args.get("distinct"):
            raise refuse(
                path,
                line_of(node),
                "UNION removes duplicates over all rows",
                "Write UNION ALL; remove duplicates with GROUP BY in a second model.",
            )
        if isinstance(node, exp.Intersect | exp.Except):
            raise refuse(
                path,
                line_of(node),
                f"{node.key.upper()} is not supported",
                "Use EXISTS or NOT EXISTS.",
            )
        if isinstance(node, exp.Group) and (
            node.args.get("rollup") or node.args.get("cube") or node.args.get("grouping_sets")
        ):
            raise refuse(
                path,
                line_of(node),
                "ROLLUP, CUBE and GROUPING SETS have no one key",
                "Write a model for each level.",
            )
        if isinstance(node, exp.Not) and isinstance(node.this, exp.In) and node.this.args.get("query"):
            raise refuse(
                path,
                line_of(node),
                "NOT IN (SELECT …) changes for all rows when one NULL appears",
                "Write NOT EXISTS (SELECT 1 FROM … WHERE …) instead.",
            )
        if isinstance(node, exp.In) and node.args.get("query") and not _is_conjunct(node):
            raise refuse(
                path,
                line_of(node),
                "IN (SELECT …) as a value or below OR changes for all rows when one NULL appears",
                "Write EXISTS (SELECT 1 FROM … WHERE …) instead.",
            )
        if isinstance(node, exp.TableSample):
            raise refuse(path, line_of(node), "TABLESAMPLE is random", "Leave it out.")


def _is_conjunct(node: exp.Expr) -> bool:
    """Whether a condition stands by itself, or with others by AND, in WHERE or ON."""
    parent = node.parent
    while isinstance(parent, exp.And | exp.Paren):
        parent = parent.parent
    return isinstance(parent, exp.Where | exp.Join)
