"""What errors tell people to type can be typed."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from daemon.cli import app

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("connectors", "consumers", "daemon")
_TYPED = re.compile(r"`(rowtide [^`]+)`")


def texts(path: Path) -> Iterator[str]:
    """The texts of a module's code; what is filled in at run time is there as `X`. Docstrings are texts too."""
    inner: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if node in inner:
            continue
        if isinstance(node, ast.JoinedStr):
            inner.update(node.values)
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def hints() -> list[tuple[str, str]]:
    found = {
        (str(path.relative_to(ROOT)), " ".join(typed.split()))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for text in texts(path)
        for typed in _TYPED.findall(text)
    }
    return sorted(found)


def refusal(words: list[str]) -> str | None:
    """Why the command line does not take these words; None where it does. Nothing is run."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("…", "|", "..."):  # what only the reader knows
            continue
        if word.startswith("-"):
            option = next((p for p in command.params if word in (*p.opts, *p.secondary_opts)), None)
            if option is None and word != "--help":
                return f"No such option: {word}"
            if option is not None and not option.is_flag:
                if not rest:
                    return f"{word} wants a value"
                rest.pop(0)
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"No such command: {word}"
            command = command.commands[word]
        elif not any(p.param_type_name == "argument" for p in command.params):
            return f"{command.name} takes no {word}"
    return None


@pytest.mark.parametrize(("where", "typed"), hints())
def test_a_command_that_a_text_names_is_there(where: str, typed: str) -> None:
    """Each `rowtide …` in the code is a command with these options."""
    assert refusal(shlex.split(typed)[1:]) is None, where


def test_what_is_not_there_is_noticed() -> None:
    """The rule can fail: an unknown command, an unknown option."""
    assert "No such command" in (refusal(["snapshot"]) or "")
    assert "No such option" in (refusal(["init", "--snapshots"]) or "")
    assert refusal(["init", "--snapshot", "film"]) is None
    assert len(hints()) > 20
