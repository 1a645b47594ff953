"""Commands that take the log in again: replay and rebuild."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from daemon.cli.common import JSON_OPTION, print_json, print_rows
from daemon.replay import discard
from daemon.replay_request import EARLIEST, Progress, Request

RESTART_OPTION = typer.Option(False, "--restart", help="Begin anew, though an interrupted one could be gone on with.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(replay)
    app.command()(rebuild)


class Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """As the bar shows it."""
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


@contextmanager
def bar(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar on standard error: done of all, rate, time that remains. None where nobody looks."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=None)

        def tell(progress: Progress) -> None:
            shown.update(task, description=progress.phase, completed=progress.done, total=progress.total)

        yield tell


def replay(
    context: typer.Context,
    origin: str = typer.Option(
        EARLIEST, "--from", help="earliest, a time (ISO 8601), or a file of positions (`rowtide status --json`)."
    ),
    apply: bool = typer.Option(False, "--apply", help="Swap at the end; without it, only tell what would change."),
    restart: bool = RESTART_OPTION,
    drop: bool = typer.Option(
        False, "--discard", help="Remove what an earlier replay has built beside the live tables."
    ),
    json_output: bool = JSON_OPTION,
) -> None:
    """Take the log in again beside the live tables and tell what would change; nothing is pushed anywhere."""
    with context.obj.app() as app:
        if drop:
            removed = discard(app)
            if json_output:
                print_json({"domain": app.name, "discarded": removed})
            else:
                typer.echo("removed what the replay had built" if removed else "there was nothing to remove")
            return
        with bar(quiet=json_output) as told:
            summary = app.replay(Request(origin, apply=apply, restart=restart, on_progress=told))
    if json_output:
        print_json(summary)
    else:
        _tell(summary)


def _tell(summary: dict[str, Any]) -> None:
    what = "went on with an interrupted replay: " if summary["resumed"] else ""
    typer.echo(f"{what}{summary['events']} events from {summary['from']} in {summary['seconds']} s")
    for name in summary["begun_anew"]:
        typer.echo(f"{name} has another shape than before: it is computed anew, and its history begins now")
    fields = ("name", "kind", "rows", "added", "removed", "changed")
    print_rows("", ["table", *fields[1:]], [tuple(t[f] for f in fields) for t in summary["tables"]])
    for table in summary["tables"]:
        if table["shape"]:
            typer.echo(f"{table['name']}: its columns differ, or it is in one of both only")
    typer.echo(f"pushed to QuickBooks and sources: {summary['pushes']}")
    for model, count in summary["pending"].items():
        typer.echo(f"{model}: {count} deliveries {'came' if summary['applied'] else 'would come'} with the swap")
    if summary["applied"]:
        typer.echo("swapped" if not summary["same"] else "swapped: nothing has changed")
    elif summary["same"]:
        typer.echo("nothing would change; `rowtide replay --discard` removes what was built")
    else:
        typer.echo("Next: the same command with --apply swaps; `rowtide replay --discard` removes what was built.")


def rebuild(context: typer.Context, restart: bool = RESTART_OPTION, json_output: bool = JSON_OPTION) -> None:
    """Build mirror and models again from the log beside the live ones, then swap."""
    with context.obj.app() as app, bar(quiet=json_output) as told:
        summary = app.rebuild(restart=restart, on_progress=told)
    if json_output:
        print_json(summary)
    else:
        again = ", going on with an interrupted rebuild" if summary["resumed"] else ""
        typer.echo(f"rebuilt {summary['domain']} from {summary['events']} events in {summary['seconds']} s{again}")
