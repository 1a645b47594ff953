"""Commands about QuickBooks Online, in a group of their own."""

from __future__ import annotations

import typer

from daemon.cli import simulate


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="QuickBooks Online.", no_args_is_help=True)
    simulate.register(group)
    app.add_typer(group, name="quickbooks")
