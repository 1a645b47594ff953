"""Commands for the customers in QuickBooks: how far they are, what would be sent, push, and what was asked for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.errors import RowtideError
from connectors.state import connect
from consumers.engine import instance
from daemon import audit as audits
from daemon.api.models import LARGEST_BATCH, LARGEST_PAGE
from daemon.cli.common import JSON_OPTION, print_json, print_rows

if TYPE_CHECKING:
    from daemon.app import App

_STATES = ("total", "not_synced", "synced", "failed", "in_progress")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The customers in QuickBooks.", no_args_is_help=True)
    group.command()(analyze)
    group.command("preview-applicants")(preview_applicants)
    group.command("preview-students")(preview_students)
    group.command("applicants")(push_applicants)
    group.command("students")(push_students)
    group.command("all")(push_everything)
    group.command()(status)
    group.command()(show)
    group.command()(retry)
    group.command()(audit)
    app.add_typer(group, name="customers")


def _sized(largest: int, name: str) -> Any:
    def check(value: int) -> int:
        if not 1 <= value <= largest:
            raise typer.BadParameter(
                f"{value} is not from 1 to {largest}."
                + (" To push everything that is pending, type `rowtide customers all`." if name == "batch" else "")
            )
        return value

    return check


BATCH_OPTION = typer.Option(
    50,
    "--batch-size",
    callback=_sized(LARGEST_BATCH, "batch"),
    metavar=f"1..{LARGEST_BATCH}",
    help="Push so many at most.",
)
LIMIT_OPTION = typer.Option(
    10, "--limit", callback=_sized(LARGEST_PAGE, "page"), metavar=f"1..{LARGEST_PAGE}", help="Show so many at most."
)
OFFSET_OPTION = typer.Option(0, "--offset", min=0, help="Pass over so many first.")


@contextmanager
def _opened(context: typer.Context) -> Iterator[App]:
    """The app of an instance that pushes. Raises RowtideError for one that does not."""
    with context.obj.app() as app:
        if app.domain.push is None:
            raise RowtideError(
                f"The domain {app.name} has no customers for QuickBooks.",
                hint="Name one that has: `rowtide --domain mis customers status`.",
            )
        with connect(app.dsn) as connection:
            instance.require(connection, app.name, app.analysis)
        yield app


def analyze(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """How many customers there are, by kind and state."""
    from daemon import customers  # noqa: PLC0415 - brings QuickBooks' libraries with it
    from daemon.api import figures  # noqa: PLC0415

    with _opened(context) as app:
        found = figures.analysis(customers.counts(app))
    if json_output:
        print_json(found)
        return
    overall = found["overall"]
    rows = [(many, *(found[many][state] for state in _STATES)) for many in figures.PLURAL.values()]
    rows.append(
        ("overall", *(overall[f"total_{s}"] for s in ("customers", "not_synced", "synced", "failed")),
         sum(found[many]["in_progress"] for many in figures.PLURAL.values()))
    )  # fmt: skip
    print_rows("", ["", *(state.replace("_", " ") for state in _STATES)], rows)


def preview_applicants(
    context: typer.Context, limit: int = LIMIT_OPTION, offset: int = OFFSET_OPTION, json_output: bool = JSON_OPTION
) -> None:
    """Applicants that wait, as they would be sent. Nothing is sent."""
    _preview(context, "applicant", limit, offset, json_output=json_output)


def preview_students(
    context: typer.Context, limit: int = LIMIT_OPTION, offset: int = OFFSET_OPTION, json_output: bool = JSON_OPTION
) -> None:
    """Students that wait, as they would be sent. Nothing is sent."""
    _preview(context, "student", limit, offset, json_output=json_output)


def _preview(context: typer.Context, kind: str, limit: int, offset: int, *, json_output: bool) -> None:
    from daemon import customers  # noqa: PLC0415
    from daemon.api import figures  # noqa: PLC0415

    with _opened(context) as app:
        found = figures.previews(kind, customers.preview(app, kind, limit, offset))
    if json_output:
        print_json(found)
        return
    for entry in found:
        typer.echo(f"{kind} {entry[f'{kind}_id']}")
        for name, value in _flat(entry["customer"]):
            typer.echo(f"    {name}: {value}")
    if not found:
        typer.echo(f"no {figures.PLURAL[kind]} wait")


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What is in an object, by dotted name; nothing of what is empty."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value, start=1):
            yield from _flat(inner, f"{prefix}.{number}")
    elif value is not None and value != "":
        yield prefix, str(value).replace("\n", " | ")


def push_applicants(context: typer.Context, batch_size: int = BATCH_OPTION, json_output: bool = JSON_OPTION) -> None:
    """Push applicants that wait, up to the batch's size. Exits 1 where one fails."""
    _push(context, ["applicant"], batch_size, everything=False, json_output=json_output)


def push_students(context: typer.Context, batch_size: int = BATCH_OPTION, json_output: bool = JSON_OPTION) -> None:
    """Push students that wait, up to the batch's size. Exits 1 where one fails."""
    _push(context, ["student"], batch_size, everything=False, json_output=json_output)


def push_everything(context: typer.Context, batch_size: int = BATCH_OPTION, json_output: bool = JSON_OPTION) -> None:
    """Push until nothing is pending that can be pushed now. Exits 1 where one fails."""
    _push(context, ["applicant", "student"], batch_size, everything=True, json_output=json_output)


def _push(
    context: typer.Context, kinds: Sequence[str], batch_size: int, *, everything: bool, json_output: bool
) -> None:
    from daemon import customers  # noqa: PLC0415
    from daemon.api import figures  # noqa: PLC0415
    from daemon.service import stop_on_signals  # noqa: PLC0415

    stop = threading.Event()
    stop_on_signals(stop)  # what was sent is recorded before the command ends
    found: dict[str, Any] = {}
    results: list[customers.PushResult] = []
    with _opened(context) as app, _progress(hidden=json_output) as progress:
        figures.require_connected(app)
        for kind in kinds:
            many = figures.PLURAL[kind]
            waiting = figures.waiting(app, kind)
            task = progress.add_task(many, total=waiting if everything else min(waiting, batch_size))

            def told(worked_on: int, task: Any = task) -> None:
                progress.advance(task, worked_on)

            if everything:
                result = figures.push_all(app, kind, batch_size, stop, told)
            else:
                result = customers.push(app, [kind], batch_size, stop=stop, on_page=told)
            results.append(result)
            found[many] = figures.outcome(kind, result)
        figures.sent(*results)
    if json_output:
        print_json(found if everything else found[figures.PLURAL[kinds[0]]])
    else:
        for many, data in found.items():
            typer.echo(f"{many}: {data['successful']} pushed, {data['failed']} failed")
            for error in data["errors"]:
                typer.echo(f"    {next(iter(error.values()))}: {error['error']}")
    if any(data["failed"] for data in found.values()):
        raise typer.Exit(1)


@contextmanager
def _progress(*, hidden: bool) -> Iterator[Progress]:
    """A bar on stderr, where somebody looks."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=hidden or not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        yield progress


def status(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """How far everything is, and whether QuickBooks is connected."""
    from daemon.api import figures  # noqa: PLC0415

    with _opened(context) as app:
        found = figures.status(app)
    if json_output:
        print_json(found)
        return
    for name, per_cent in found["progress"].items():
        typer.echo(f"{name}: {per_cent:.2f} % synced")
    typer.echo(f"QuickBooks: {'connected' if found['quickbooks_connected'] else 'not connected'}")
    typer.echo(f"last updated: {found['last_updated'] or 'never'}")


def show(
    context: typer.Context,
    record: str = typer.Argument(metavar="ID", help="applicant:17, student:9, or 17 where only one kind has it."),
    json_output: bool = JSON_OPTION,
) -> None:
    """All that is known of one customer."""
    from daemon import customers  # noqa: PLC0415
    from daemon.api import figures  # noqa: PLC0415

    with _opened(context) as app:
        found = customers.show(app, figures.resolve(app, record))
    if json_output:
        print_json(found)
    else:
        for name, value in _flat(found):
            typer.echo(f"{name}: {value}")


def retry(
    context: typer.Context,
    records: list[str] = typer.Argument(metavar="ID…", help="As of `rowtide customers show`."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Have customers that failed tried again at once."""
    from daemon import customers  # noqa: PLC0415
    from daemon.api import figures  # noqa: PLC0415

    with _opened(context) as app:
        names = [figures.resolve(app, record) for record in records]
        taken = customers.retry(app, names)
    if json_output:
        print_json({"retried": taken})
    else:
        for name in names:
            word = "tried again by the running daemon" if name in taken else "neither failed nor waits"
            typer.echo(f"{name}: {word}")


def audit(
    context: typer.Context,
    record: str = typer.Option(None, "--record", metavar="ID", help="Only what was about this customer."),
    since: str = typer.Option(None, "--since", metavar="TIME", help="Only since then: 2026-02-14T08:00, 90m, 2h, 3d."),
    failed: bool = typer.Option(False, "--failed", help="Only what did not succeed."),
    limit: int = typer.Option(100, "--limit", min=1, max=10_000, help="Show so many at most, the newest."),
    json_output: bool = JSON_OPTION,
) -> None:
    """What QuickBooks was asked: one line for every request, payloads redacted; the newest first."""
    from daemon.api import figures  # noqa: PLC0415

    with _opened(context) as app:
        name = figures.resolve(app, record) if record else None
        found = audits.listed(app, audits.Filter(record=name, since=audits.moment(since), failed=failed, limit=limit))
    if json_output:
        print_json(found)
    else:
        for line in audits.lines(found):
            typer.echo(line)
