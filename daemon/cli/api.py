"""Commands for the tokens that open the API."""

from __future__ import annotations

import typer

from connectors.state import connect
from daemon.api.tokens import made, make
from daemon.api.tokens import revoke as take_away
from daemon.cli.common import JSON_OPTION, print_json, print_rows


def register(app: typer.Typer) -> None:
    """Add the commands."""
    api = typer.Typer(help="The tokens that open the HTTP API.", no_args_is_help=True)
    api.command()(token)
    api.command()(tokens)
    api.command()(revoke)
    app.add_typer(api, name="api")


def token(
    context: typer.Context,
    name: str = typer.Argument("default", help="Whose it is; the token of that name until now opens nothing more."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Make a token and show it: only now, for nothing is kept but its hash."""
    with context.obj.app() as app, connect(app.dsn) as connection:
        made_now = make(connection, name)
    if json_output:
        print_json({"name": name, "token": made_now})
        return
    typer.echo(made_now)
    typer.echo(f"This is the token “{name}”. It is not shown again: keep it where secrets are kept.", err=True)


def tokens(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """The tokens there are: name and moment, nothing of themselves."""
    with context.obj.app() as app, connect(app.dsn) as connection:
        found = made(connection)
    if json_output:
        print_json(found)
    else:
        print_rows("", ["name", "made at"], [(entry["name"], entry["made_at"]) for entry in found])


def revoke(
    context: typer.Context,
    name: str = typer.Argument(help="As in `rowtide api tokens`."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Take a token away; a running daemon refuses it within a second."""
    with context.obj.app() as app, connect(app.dsn) as connection:
        take_away(connection, name)
    if json_output:
        print_json({"revoked": name})
    else:
        typer.echo(f"the token “{name}” opens nothing any more")
