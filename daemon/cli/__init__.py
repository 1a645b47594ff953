"""The command line: thin clients of `daemon.app`. Errors are said in two lines, never as a trace."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer
from rich.console import Console

from connectors.errors import RowtideError
from daemon.cli import api, customers, debezium, deliveries, inspect, operate, quickbooks, records, replay
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
    instance: list[str] = typer.Option(None, "--instance", help="Name of one of several instances of the domain."),
    debug: bool = typer.Option(False, "--debug", help="Show the trace of an error."),
) -> None:
    context.obj = Context(domain, state, config, debug, tuple(instance or ()))


operate.register(app)
replay.register(app)
inspect.register(app)
deliveries.register(app)
records.register(app)
debezium.register(app)
api.register(app)
customers.register(app)
quickbooks.register(app)


def main() -> None:
    """Run the command that was typed. The entry point is `daemon.__main__`."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(prog_name="rowtide")
    except RowtideError as error:
        if "--debug" in sys.argv:
            raise
        _say(error.message, error.hint)
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        # Its text may hold a row's values, so only its kind is told.
        _say(
            f"Rowtide made a mistake of its own ({type(error).__name__}).",
            "Nothing is lost: what was not finished was rolled back. Run it again with --debug and report the trace.",
        )
        raise SystemExit(1) from None


def _interrupt(number: int, frame: object) -> NoReturn:
    """End a command as Ctrl-C does: connections and the embedded server are left in order."""
    del number, frame
    raise KeyboardInterrupt


def _say(message: str, hint: str) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"error: {message}", markup=False)
    if hint:
        console.print(f"  {hint}", markup=False)
