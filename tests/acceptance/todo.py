"""The README's domain `todo`: lines of its history, and the code blocks of a page."""

from __future__ import annotations

import json
from typing import Any


def last_json(text: str) -> Any:
    """The last line as JSON."""
    return json.loads(text.strip().splitlines()[-1])


def event(table: str, op: str, key: dict[str, Any], row: dict[str, Any] | None, ts: int) -> str:
    """A line of `rowtide log append`: one change of a table of the domain `todo`."""
    source = {"connector": "mysql", "table": table, "ts_ms": ts}
    value = {"op": op, "before": None, "after": row, "source": source, "ts_ms": ts}
    return json.dumps({"topic": "todo", "key": json.dumps(key), "value": json.dumps(value), "ts": ts})


def task(number: int, due: object, ts: int, **others: Any) -> str:
    """A line for a new task of project 1."""
    row = {"id": number, "project_id": 1, "due": due, "done": False, **others}
    return event("task", "c", {"id": number}, row, ts)


def project(number: int, name: object, ts: int) -> str:
    """A line for a new project."""
    return event("project", "c", {"id": number}, {"id": number, "name": name}, ts)


HISTORY = "\n".join(
    [
        project(1, "roof", 1_700_000_000_000),
        task(1, "2023-11-15T10:00:00", 1_700_000_001_000),
        task(2, "2024-01-01T00:00:00", 1_700_000_002_000),
    ]
)


def code_blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language, without the indentation of the list they stand in."""
    blocks: list[str] = []
    lines: list[str] | None = None
    for line in text.splitlines():
        stripped = line.strip()
        if lines is None and stripped == f"```{language}":
            lines, indent = [], len(line) - len(line.lstrip())
        elif lines is not None and stripped == "```":
            blocks.append("\n".join(lines) + "\n")
            lines = None
        elif lines is not None:
            lines.append(line[indent:])
    return blocks
