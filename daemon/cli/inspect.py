"""Commands that look: status, verify, explain, query, check, report, config show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from daemon.cli.common import CSV_OPTION, JSON_OPTION, print_json, print_rows, print_table
from daemon.cli.source import verify_source
from daemon.queries import Table, defaults
from daemon.settings import shown
from daemon.source_check import Request


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command("verify")(verify_)
    app.command()(explain)
    app.command()(query)
    app.command()(check)
    app.command()(report)
    config = typer.Typer(help="The settings in force.", no_args_is_help=True)
    config.command("show")(config_show)
    config.callback()(lambda: None)
    app.add_typer(config, name="config")


def status(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """State of the domain: running, idle, stopped, degraded or absent; lag, positions, source, rows."""
    with context.obj.app() as app:
        found = app.status(probe=True)
    if json_output:
        print_json(found)
        return
    typer.echo(f"{found['domain']}: {found['state']}{': ' + found['reason'] if found['reason'] else ''}")
    if found["state"] == "absent":
        return
    lag = sum(found["lag_events"].values())
    behind = f" ({found['behind_seconds']:.1f} s)" if lag and found["behind_seconds"] is not None else ""
    typer.echo(f"clock {found['clock'] or 'not started'}, {lag} events behind{behind}, {found['parked']} parked")
    if found["source"]:
        typer.echo(f"source {found['source']['kind']}: {_source_line(found['source'])}")
    if found["write_back"] and found["write_back"]["enabled"]:
        for sink, counts in found["write_back"]["sinks"].items():
            typer.echo(
                f"{sink}: {', '.join(f'{number} {state}' for state, number in counts.items() if number) or 'done'}"
            )
    if found["customers"]:
        typer.echo(f"customers: {_customers_line(found['customers'])}")
    if found["rebuilding"]:
        typer.echo("a rebuild is under way")
    if not found["fits_files"]:
        typer.echo("the domain's files have changed since: run `rowtide rebuild`")
    places = [(name, e["position"], e["end"], e["lag"]) for name, e in found["topics"].items()]
    print_rows("", ["topic/partition", "position", "end", "lag"], places)
    print_rows("", ["model", "rows"], list(found["rows"].items()))


def _customers_line(customers: dict[str, Any]) -> str:
    """How the push stands, in a few words; why it does not get on is told with the instance's state."""
    states = customers["states"]
    parts = [f"{states['synced']} synced", f"{customers['pending']} pending"]
    parts += [f"{states[name]} {name}" for name in ("failed", "parked") if states[name]]
    if customers["unsettled"]:
        parts.append(
            f"{customers['unsettled']} requests without outcome for {customers['oldest_unsettled_seconds']:.0f} s"
        )
    if not customers["enabled"]:
        return f"{', '.join(parts)}; not pushed: quickbooks.enabled is false"
    return f"{', '.join(parts)}; QuickBooks {customers['waits'] or 'connected'}".replace(
        "QuickBooks QuickBooks", "QuickBooks"
    )


def _source_line(source: dict[str, Any]) -> str:
    if not source["reachable"]:
        return f"does not answer: {source['reason']}"
    parts = ["answers"]
    if "slot" in source:
        parts.append(f"slot {'active' if source['slot_active'] else 'not active'}, {source['slot']}")
        parts.append(f"{source['unread_bytes'] or 0} bytes not read")
    return ", ".join(parts)


def verify_(
    context: typer.Context,
    json_output: bool = JSON_OPTION,
    source: bool = typer.Option(False, "--source", help="Compare the mirror with the source itself instead."),
    tables: list[str] = typer.Option([], "--table", help="With --source: only this table; may be given again."),
    limit: int = typer.Option(20, "--limit", help="With --source: how many keys to name of each table.", min=0),
    pace: float = typer.Option(None, "--pace", help="With --source: read at most so many rows a second.", min=1),
    wait: float = typer.Option(60, "--wait", help="With --source: seconds the mirror may need to catch up.", min=0),
) -> None:
    """Prove that every model equals its query on the live tables; exits 1 where one does not."""
    if source:
        verify_source(context, Request(tables, pace=pace, limit=limit, patience=wait), json_output=json_output)
    console = Console(stderr=True)
    with context.obj.app() as app:

        def progress(name: str, number: int, total: int) -> None:
            if console.is_terminal:
                console.print(f"{number}/{total} {name}", end="\r")

        checks = app.verify(progress)
    clean = all(check.clean for check in checks)
    if json_output:
        print_json({"clean": clean, "tables": [check.as_dict() for check in checks]})
    else:
        rows = [(c.name, c.kind, c.rows, c.missing, c.unexpected, c.different) for c in checks]
        print_rows("", ["table", "kind", "rows", "missing", "unexpected", "different"], rows)
        typer.echo("everything is as it should be" if clean else "NOT CLEAN: run `rowtide rebuild`, and report this")
    raise typer.Exit(0 if clean else 1)


def explain(context: typer.Context, model: str, json_output: bool = JSON_OPTION) -> None:
    """How a model is kept: inputs, affected keys, scoped query, plan."""
    with context.obj.app() as app:
        pieces = app.explain(model)
    if json_output:
        print_json([{"title": title, "text": text} for title, text in pieces])
        return
    for title, text in pieces:
        typer.echo(f"{title}:" if "\n" in text else f"{title}: {text}")
        if "\n" in text:
            typer.echo("    " + text.replace("\n", "\n    "))


def query(
    context: typer.Context,
    name: str = typer.Argument(None, help="A query of the domain; without it they are listed."),
    sql: str = typer.Option(None, "--sql", help="A SELECT of your own."),
    parameters: list[str] = typer.Option([], "--param", help="A query's parameter as name=value."),
    json_output: bool = JSON_OPTION,
    csv_output: bool = CSV_OPTION,
) -> None:
    """Ask the derived tables; reads only."""
    with context.obj.app() as app:
        if sql:
            table = app.query("", sql)
        elif name:
            file = app.named("queries", name)
            given = dict(part.partition("=")[::2] for part in parameters)
            table = app.query(file.title, file.sql, {**defaults(file), **given})
        else:
            rows = [(file.name, file.title) for file in app.domain.queries.values()]
            table = Table("Queries", ["name", "title"], list(rows))
    print_table(table, as_json=json_output, as_csv=csv_output)


def check(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """Run the domain's checks: each lists rows that should not be; exits 1 where one finds an error."""
    with context.obj.app() as app:
        found = [(file, app.query(file.title, file.sql)) for file in app.domain.checks.values()]
    if json_output:
        print_json(
            [
                {"name": file.name, "severity": file.header.get("severity", "error"), **table.as_dict()}
                for file, table in found
            ]
        )
    else:
        rows = [(f.name, f.header.get("severity", "error"), len(t.rows), f.title) for f, t in found]
        print_rows("", ["check", "severity", "rows", "title"], rows)
    bad = any(table.rows and file.header.get("severity", "error") == "error" for file, table in found)
    raise typer.Exit(1 if bad else 0)


def report(
    context: typer.Context,
    name: str = typer.Argument(None, help="The report; without it they are listed."),
    json_output: bool = JSON_OPTION,
    csv_output: bool = CSV_OPTION,
    html: Path = typer.Option(None, "--html", help="Write a page to this file."),
) -> None:
    """Print a report; its totals are totals of everything."""
    with context.obj.app() as app:
        if name is None:
            rows = [(file.name, file.title) for file in app.domain.reports.values()]
            print_table(Table("Reports", ["name", "title"], list(rows)), as_json=json_output, as_csv=csv_output)
            return
        title, sections = app.named("reports", name).title, app.report(name)
    if html is not None:
        from daemon.web import render_report  # noqa: PLC0415 - brings Jinja2 with it

        html.write_text(render_report(title, sections), encoding="utf-8")
        typer.echo(f"wrote {html}")
    elif json_output:
        print_json({"title": title, "sections": [section.as_dict() for section in sections]})
    else:
        for number, section in enumerate(sections):
            if csv_output and number:
                sys.stdout.write("\r\n")
            print_table(section, as_csv=csv_output)


def config_show(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """Every setting with its value and where it came from; secrets are masked."""
    rows = shown(context.obj.load())
    if json_output:
        print_json([{"name": name, "value": value, "origin": origin} for name, value, origin in rows])
    else:
        print_rows("", ["setting", "value", "from"], rows)
