"""Commands about customers that QuickBooks has already, and about what became of ours there: adopt, reconcile."""

from __future__ import annotations

from pathlib import Path

import typer

from daemon.cli.common import JSON_OPTION, print_json, print_rows


def register(group: typer.Typer) -> None:
    """Add the commands to the group `quickbooks`."""
    group.command("adopt")(adopt)
    group.command("reconcile")(reconcile)


def adopt(
    context: typer.Context,
    mapping: Path = typer.Option(None, "--mapping", help="CSV: record,quickbooks_id; an empty id: a new customer."),
    by_name: bool = typer.Option(False, "--by-name", help="Take customers too whose name only one record has."),
    nothing: bool = typer.Option(False, "--none", help="None of the company's customers is ours."),
    yes: bool = typer.Option(False, "--yes", help="Do it; without, it is only shown."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Find the customers that are ours in a company that has some, before the first push makes doubles of them."""
    from connectors.quickbooks.adopt import read_mapping  # noqa: PLC0415
    from daemon import reconciling  # noqa: PLC0415

    given = read_mapping(mapping) if mapping is not None else None
    if nothing and (given or by_name):
        raise typer.BadParameter("--none goes with neither --mapping nor --by-name.")
    with context.obj.app() as app:
        found = reconciling.adoption(app, mapping=given, by_name=by_name, nothing=nothing, yes=yes)
    if json_output:
        print_json(found)
        return
    if found["adopted"]:
        rows = [[one["record"], one["quickbooks_id"], one["how"]] for one in found["adopted"]]
        print_rows("adopted" if yes else "would be adopted", ["record", "customer", "by"], rows)
    if found["unclear"]:
        rows = [[one["record"], one["reason"]] for one in found["unclear"]]
        print_rows("for a person", ["record", "reason"], rows)
    for record in found["anew"]:
        typer.echo(f"{record}: gets a new customer")
    typer.echo(
        f"{len(found['adopted'])} customers are ours, {found['unmatched_records']} records get a new one, "
        f"{found['other_customers']} customers are left alone"
    )
    typer.echo("Pushing may begin." if yes else "Nothing was changed: add --yes to do it.")


def reconcile(
    context: typer.Context,
    yes: bool = typer.Option(False, "--yes", help="Send again what was changed in QuickBooks."),
    reactivate: bool = typer.Option(
        False, "--reactivate", help="With --yes: take deactivated customers back into use."
    ),
    quick: bool = typer.Option(False, "--quick", help="Look only at what changed since the last time."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Find customers changed, deactivated, merged or deleted in QuickBooks, and doubles; never deletes anything."""
    from daemon import reconciling  # noqa: PLC0415

    with context.obj.app() as app:
        found = reconciling.sweep(app, yes=yes, reactivate=reactivate, quick=quick)
    if json_output:
        print_json(found)
        return
    if found["findings"]:
        columns = ["kind", "record", "quickbooks_id", "detail"]
        print_rows("", columns, [[one[name] for name in columns] for one in found["findings"]])
    told = ", ".join(f"{count} {kind}" for kind, count in found["counts"].items() if count)
    looked = "changed customers" if found["partial"] else "customers"
    typer.echo(f"{found['customers']} {looked} looked at: {told or 'all as they were sent'}")
    if yes:
        typer.echo(f"{len(found['repaired'])} customers were sent again")
    elif found["counts"]["changed"] or found["counts"]["deactivated"]:
        typer.echo("Nothing was changed: add --yes to send changed ones again.")
