"""`rowtide verify --source`: the mirror compared with the source itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from daemon.cli.common import print_json, print_rows
from daemon.source_check import Request, Result
from daemon.verify_source import verify_source as compare


def verify_source(context: typer.Context, request: Request, *, json_output: bool) -> NoReturn:
    """Compare, tell, exit: 1 where rows differ."""
    with context.obj.app() as app, _progress() as told:
        result = compare(app, replace(request, on_progress=told))
    if json_output:
        print_json(result.as_dict())
    else:
        _tell(result)
    raise typer.Exit(0 if result.clean else 1)


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None] | None]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as shown:
        task = shown.add_task("")
        yield lambda name, rows: shown.update(task, description=f"{name}: {rows:,} rows")


def _tell(result: Result) -> None:
    rows = [(t.name, t.rows, t.missing, t.unexpected, t.different, t.moving) for t in result.tables]
    print_rows("", ["table", "rows", "missing", "unexpected", "different", "moving"], rows)
    for table in result.tables:
        if table.refused:
            typer.echo(f"NOT COMPARED: {table.refused}")
        for entry in table.keys:
            key = ", ".join(f"{name}={value}" for name, value in entry["key"].items())
            typer.echo(f"{table.name} {key}: {entry['is']}")
    if not result.settled:
        typer.echo("The mirror did not catch up in time: some of this may only be on its way. Does the daemon run?")
    if result.clean:
        typer.echo("the mirror is as the source")
    elif any(table.keys for table in result.tables):
        typer.echo("NOT CLEAN: find out what changed these rows; `rowtide replay` tells what the log says of them")
