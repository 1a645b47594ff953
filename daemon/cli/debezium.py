"""Commands for the Debezium route: debezium config, debezium register."""

from __future__ import annotations

import json
import sys
import threading

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from connectors.debezium import Connect, Progress
from connectors.errors import RowtideError
from daemon.cli.common import JSON_OPTION, Context, print_json

_DOMAIN = typer.Argument(None, help="Name of a built-in domain or path of a folder; else that of the settings.")
_KIND = typer.Option(None, "--kind", help="mysql, mariadb or postgres; where absent, source.dsn tells it.")
_NAME = typer.Option(None, "--name", help="The connector's name, with which its topics begin; else the domain's.")
_PER_TABLE = typer.Option(False, "--per-table", help="One topic for each table, instead of one for all.")
_DATABASE = typer.Option(None, "--database", help="The source's database, where source.dsn does not tell it.")
_PASSWORD = typer.Option(
    "env:ROWTIDE_SOURCE_PASSWORD", "--password-from", help="Where Connect finds it: env:NAME or file:PATH:KEY."
)
_SET = typer.Option([], "--set", help="A setting of the connector as name=value.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Debezium as the way from the source to Kafka.", no_args_is_help=True)
    group.command("config")(config)
    group.command("register")(register_)
    app.add_typer(group, name="debezium")


def config(
    context: typer.Context,
    domain: str = _DOMAIN,
    kind: str = _KIND,
    name: str = _NAME,
    per_table: bool = _PER_TABLE,
    database: str = _DATABASE,
    password: str = _PASSWORD,
    settings: list[str] = _SET,
    grants: bool = typer.Option(False, "--grants", help="Print the statements that give its user the least rights."),
    topics: bool = typer.Option(False, "--topics", help="Print the setting log.topics that goes with it."),
) -> None:
    """Print the configuration of a connector for the domain's source, as Kafka Connect takes it. No secret is in it."""
    from daemon.debezium import Wishes, connector  # noqa: PLC0415
    from daemon.domains import domain_of  # noqa: PLC0415

    loaded = context.obj.load().settings
    found = domain_of(loaded, domain)
    wanted = connector(loaded, found, Wishes(kind, name, per_table, database, password, _pairs(settings)))
    if grants:
        typer.echo("\n".join(wanted.grants(found)))
    elif topics:
        typer.echo(f"topics = {json.dumps(wanted.topics)}")
    else:
        typer.echo(json.dumps({"name": wanted.name, "config": wanted.config}, indent=2))


def register_(
    context: typer.Context,
    domain: str = _DOMAIN,
    url: str = typer.Option("http://localhost:8083", "--connect", help="Where a worker of Kafka Connect listens."),
    kind: str = _KIND,
    name: str = _NAME,
    per_table: bool = _PER_TABLE,
    database: str = _DATABASE,
    password: str = _PASSWORD,
    settings: list[str] = _SET,
    json_output: bool = JSON_OPTION,
) -> None:
    """Register the connector with Kafka Connect and follow its snapshot."""
    from dataclasses import replace  # noqa: PLC0415

    from daemon.debezium import Wishes, connector, estimate  # noqa: PLC0415
    from daemon.debezium import register as register_connector  # noqa: PLC0415

    given: Context = context.obj
    if domain:
        given = replace(given, domain=domain)
    never = threading.Event()
    with given.app() as app:
        wanted = connector(
            app.settings, app.domain, Wishes(kind, name, per_table, database, password, _pairs(settings))
        )
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bar(*columns, console=console, disable=json_output or not console.is_terminal) as bar:
            task = bar.add_task("snapshot", total=estimate(app))

            def show(progress: Progress) -> None:
                tables = f" ({progress.done}/{progress.tables} tables)" if progress.tables else ""
                bar.update(task, completed=progress.events, description=f"snapshot {progress.table}{tables}")

            done = register_connector(app, Connect(url, wait=never.wait), wanted, on_progress=show, wait=never.wait)
    if json_output:
        print_json(done)
        return
    how = {
        "completed": f"its snapshot has {done['rows']} rows",
        "skipped": "it goes on where it was: its snapshot was taken before",
    }
    sys.stdout.write(f"the connector {done['connector']} runs; {how[done['snapshot']]}\n")
    typer.echo(f"Next: `rowtide --domain {app.settings.domain} run`.")


def _pairs(settings: list[str]) -> dict[str, str]:
    pairs = {}
    for entry in settings:
        name, equals, value = entry.partition("=")
        if not equals or not name.strip():
            raise RowtideError(f"“{entry}” is no setting.", hint="Write it as --set name=value.")
        pairs[name.strip()] = value
    return pairs
