"""The documentation is about what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import typer

from daemon.cli import app
from daemon.settings import names

ROOT = Path(__file__).resolve().parents[2]


def commands(group: click.Group, prefix: str = "rowtide") -> list[str]:
    found = []
    for name, command in group.commands.items():
        path = f"{prefix} {name}"
        found += commands(command, path) if hasattr(command, "commands") else [path]
    return found


def test_every_command_is_documented() -> None:
    """docs/commands.md has a line for each command."""
    text = (ROOT / "docs" / "commands.md").read_text()
    assert [name for name in commands(typer.main.get_command(app)) if f"`{name}" not in text] == []


def test_every_setting_is_documented() -> None:
    """docs/configuration.md names each setting."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert [name for name, _ in names() if f"`{name}`" not in text] == []


def test_links_lead_somewhere() -> None:
    """Every relative link of the documentation names a file."""
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


def typed_lines() -> list[str]:
    """Every line of the pages' blocks that types `rowtide`, without comments, pipes and redirections."""
    lines = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"^[ ]*```\w*\n(.*?)^[ ]*```", page.read_text(), re.DOTALL | re.MULTILINE):
            lines += [line.strip() for line in block.splitlines() if line.strip().startswith("rowtide ")]
    return [re.split(r"\s+#|\s*[>|<]", line)[0] for line in lines]


def test_every_typed_line_is_understood() -> None:
    """What the pages tell to type names commands, options and arguments that there are."""
    lines = typed_lines()
    assert len(lines) >= 8
    wrong = []
    for line in lines:
        group: click.Command = typer.main.get_command(app)
        arguments = shlex.split(line)[1:]
        try:
            while isinstance(group, click.Group):
                context = group.make_context("rowtide", arguments)
                name, command, arguments = group.resolve_command(context, [*context._protected_args, *context.args])
                assert command is not None, name
                group = command
            group.make_context(group.name, arguments)
        except click.ClickException as error:
            wrong.append(f"{line}: {error.format_message()}")
    assert wrong == []
