"""The documentation is about what is there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import typer

from daemon.cli import app
from daemon.settings import load_settings, names

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


def test_the_example_settings_load() -> None:
    """deploy/rowtide.toml is accepted, with the credential that the unit loads."""
    loaded = load_settings(ROOT / "deploy" / "rowtide.toml", {"ROWTIDE_SOURCE__DSN": "host=x"})
    assert loaded.settings.source.kind == "postgres"
    assert "LoadCredential=source.dsn" in (ROOT / "deploy" / "rowtide.service").read_text()
