"""The command line: thin clients of `daemon.app`. Errors are said in two lines, never as a trace."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from connectors.errors import RowtideError
from daemon.cli import inspect, operate, records
from daemon.cli.common import Context

app = typer.Typer(
    name="rowtide",
    help="Keeps derived tables exactly in step with the row changes of operational databases.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _common(
    context: typer.Context,
    domain: str = typer.Option(None, "--domain", help="Name of a built-in domain or path of a folder."),
    state: str = typer.Option(None, "--state", help="Folder of the embedded state database."),
    config: str = typer.Option(None, "--config", help="The settings file (TOML)."),
    debug: bool = typer.Option(False, "--debug", help="Show the trace of an error."),
) -> None:
    context.obj = Context(domain=domain, state=state, config=config, debug=debug)


operate.register(app)
inspect.register(app)
records.register(app)


def main() -> None:
    """The entry point of `rowtide`."""
    try:
        app()
    except RowtideError as error:
        if "--debug" in sys.argv:
            raise
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(f"error: {error.message}", markup=False)
        if error.hint:
            console.print(f"  {error.hint}", markup=False)
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
