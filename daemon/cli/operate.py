"""Commands that do something: init, run, demo, rental write-off, grants."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import typer

from connectors.errors import RowtideError
from daemon.cli.common import JSON_OPTION, print_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)
    app.command()(init)
    app.command()(run)
    app.command()(grants)
    rental = typer.Typer(help="Decisions of a rental shop's people.", no_args_is_help=True)
    rental.command("write-off")(write_off)
    app.add_typer(rental, name="rental")


def demo(
    context: typer.Context,
    seconds: float = typer.Option(
        None, "--for", help="End by itself after so many seconds, with verify and a summary."
    ),
    json_output: bool = JSON_OPTION,
    data: Path = typer.Option(None, "--data", help="Folder of the Sakila data set, instead of a generated shop."),
    domain: Literal["rental", "mis"] = typer.Option(None, "--domain", help="Show only one: the shop or the school."),
) -> None:
    """Show a rental shop and a school live: sources, capture, derived tables, customers in a QuickBooks that is simulated."""
    from daemon.demo import DOMAINS, run_demo  # noqa: PLC0415 - Faker is slow to import and only the demo needs it

    chosen = domain or context.obj.domain
    if chosen is not None and chosen not in DOMAINS:
        raise RowtideError(f"The demo does not show “{chosen}”.", hint=f"It shows {' and '.join(DOMAINS)}.")
    loaded = context.obj.load()
    state = Path(context.obj.state) if context.obj.state else None
    raise typer.Exit(
        run_demo(
            loaded.settings,
            seconds=seconds,
            json_output=json_output,
            data=data,
            state=state,
            domains=[chosen] if chosen else DOMAINS,
        )
    )


def init(
    context: typer.Context,
    tables: list[str] = typer.Argument(None, help="With --snapshot: the tables to read; all where none is named."),
    snapshot: bool = typer.Option(False, "--snapshot", help="Have capture read the source's tables anew."),
    yes: bool = typer.Option(False, "--yes", help="Add to the source the flag columns that it lacks."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Make topics, tables and indexes of the domain where they are absent; look at the source's flag columns."""
    from daemon import anew, writeback  # noqa: PLC0415 - brings the sources' drivers with it

    if tables and not snapshot:
        raise RowtideError("Tables are named only with --snapshot.", hint=f"rowtide init --snapshot {' '.join(tables)}")
    with context.obj.app() as app:
        done = app.init()
        if snapshot:
            done += anew.ask(app, tables or [])
        lacking = writeback.missing_columns(app) if writeback.enabled(app.settings, app.domain) else []
        if lacking and yes:
            writeback.add_columns(app, lacking)
            done += [f"ran in the source: {statement}" for statement in lacking]
            lacking = []
        if json_output:
            print_json({"domain": app.name, "done": done, "source_lacks": lacking})
            return
        for line in done:
            typer.echo(line)
        if not done and not lacking:
            typer.echo("nothing to do: everything is there")
        if lacking:
            typer.echo("The source lacks columns that are written back. These statements add them:")
            for statement in lacking:
                typer.echo(f"    {statement};")
            typer.echo("Run `rowtide init --yes` to have them run, or have the source's owner run them.")
        typer.echo(f"Next: `rowtide --domain {app.settings.domain} run`.")


def run(
    context: typer.Context,
    until_idle: bool = typer.Option(False, "--until-idle", help="Work off what is there, then end."),
    clock: str = typer.Option(None, "--clock", help="With --until-idle: do what falls due up to this time (ISO 8601)."),
    instance: list[str] = typer.Option(
        None, "--instance", help="Instances to serve; all of the settings where absent."
    ),
    json_output: bool = JSON_OPTION,
) -> None:
    """Follow the log (and the source, where one is set) and keep the models in step."""
    moment = _moment(clock) if clock else None
    if moment is not None and not until_idle:
        raise RowtideError("--clock needs --until-idle.", hint="Without it, business time is the present.")
    from daemon.service import serve, stop_on_signals  # noqa: PLC0415 - brings the web server with it
    from daemon.several import serve_several  # noqa: PLC0415

    stop = threading.Event()
    stop_on_signals(stop)
    with context.obj.apps(instance or ()) as apps:
        if len(apps) == 1:
            summary = serve(apps[0], stop, until_idle=until_idle, clock=moment)
        else:
            summary = {"instances": serve_several(apps, stop, until_idle=until_idle, clock=moment)}
        if json_output or until_idle:
            print_json(summary)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RowtideError(f"“{text}” is no time.", hint="Write it as 2026-02-14T00:00:00+00:00.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def grants(
    context: typer.Context,
    user: str = typer.Option("rowtide", help="The user that captures."),
    schema: str = typer.Option(None, help="The source's schema; in MySQL and MariaDB its database."),
    mysql: bool = typer.Option(False, "--mysql", help="For MySQL or MariaDB, where no source.dsn tells it."),
) -> None:
    """Print the statements that give capture the least rights it needs in the source."""
    from daemon.domains import domain_of  # noqa: PLC0415
    from daemon.sources import grants as statements  # noqa: PLC0415

    settings = context.obj.load().settings
    for line in statements(settings, domain_of(settings), user=user, schema=schema, mysql=mysql):
        typer.echo(line)


def write_off(
    context: typer.Context,
    rental: int = typer.Argument(help="The rental's number."),
    reason: str = typer.Option(..., "--reason", help="Why the fee is not to be collected."),
) -> None:
    """Write the late fee of a rental off. The decision goes into the log, so a rebuild keeps it."""
    with context.obj.app() as app:
        if "write_off" not in app.domain.inputs:
            raise RowtideError(f"The domain {app.name} has no write-offs.", hint="Use --domain rental.")
        app.init()
        found = app.query("", "SELECT fee_status FROM late_fees WHERE rental_id = :rental", {"rental": str(rental)})
        if not found.rows:
            raise RowtideError(
                f"Rental {rental} has no late fee.",
                hint="See `rowtide query overdue` or `rowtide report late-fees`.",
            )
        at = app.clock().astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        app.append_input("write_off", (str(rental), reason, at), (str(rental),))
        typer.echo(f"the fee of rental {rental} is written off; the running daemon takes it in at once")
