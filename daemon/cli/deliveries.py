"""The command for what is delivered outside: which deliveries do not get on, and why."""

from __future__ import annotations

import typer

from connectors.state import connect
from consumers.deliveries import listed, retry
from consumers.engine import instance
from daemon.cli.common import JSON_OPTION, print_json, print_rows


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(deliveries)


def deliveries(
    context: typer.Context,
    retry_them: bool = typer.Option(False, "--retry", help="Have what is parked or waits tried at once."),
    limit: int = typer.Option(100, "--limit", min=1, help="Show so many at most."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Deliveries that are not done: parked, retryable, discarded or running, with the reason."""
    with context.obj.app() as app, connect(app.dsn) as connection:
        instance.require(connection, app.name, app.analysis)
        if retry_them:
            number = retry(connection, app.name)
            if json_output:
                print_json({"retried": number})
            else:
                typer.echo(f"{number} deliveries are tried again by the running daemon")
            return
        found = listed(connection, app.name, limit)
    if json_output:
        print_json(found)
    else:
        columns = ["sink", "key", "state", "attempts", "reason", "due_at"]
        print_rows("", columns, [[row[name] for name in columns] for row in found])
