"""Commands about QuickBooks Online, in a group of their own: connect, status, disconnect, pause, resume, simulate."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from connectors.quickbooks.clock import SystemClock
from connectors.state import connect as connect_state
from daemon.cli import reconcile, simulate
from daemon.cli.common import JSON_OPTION, print_json, print_rows

if TYPE_CHECKING:
    from connectors.quickbooks.oauth import OAuth
    from connectors.quickbooks.options import Options
    from daemon.connecting import Consent


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="QuickBooks Online: the connected company.", no_args_is_help=True)
    group.command("connect")(connect)
    group.command("status")(status)
    group.command("disconnect")(disconnect)
    group.command("pause")(pause)
    group.command("resume")(resume)
    reconcile.register(group)
    simulate.register(group)
    app.add_typer(group, name="quickbooks")


def connect(
    context: typer.Context,
    paste: bool = typer.Option(False, "--paste", help="The browser is elsewhere: paste the address it ends at."),
    code: str = typer.Option(None, "--code", help="The address the browser ended at, or its code; asks nothing."),
    realm_id: str = typer.Option(None, "--realm", help="With --code, where that is a code alone: the company's id."),
    browser: bool = typer.Option(True, "--browser/--no-browser", help="Open a browser."),
    timeout: float = typer.Option(600, "--timeout", min=1, help="Seconds to wait for the browser."),
    yes: bool = typer.Option(False, "--yes", help="Make the key of the tokens where it is absent, without asking."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Connect a company: consent in a browser, then its tokens are stored, sealed."""
    from daemon import connecting  # noqa: PLC0415

    with context.obj.app() as app:
        options = app.settings.quickbooks.options()
        key = connecting.ready_key(options, lambda place: yes or _agrees(place))
        oauth = connecting.authorization(options)
        if code is not None:
            consent = connecting.Consent(code, realm_id) if realm_id else connecting.consent_of(code, None)
        else:
            consent = _consent(
                options, oauth, paste=paste or options.redirect_url is not None, browser=browser, seconds=timeout
            )
        connecting.redeem(app.dsn, options, key, oauth, consent, SystemClock())
        name = _name(app)
    if json_output:
        print_json({"realm": consent.realm_id, "environment": options.environment, "company": name})
        return
    company = f"the company “{name}” ({consent.realm_id})" if name else f"the company {consent.realm_id}"
    typer.echo(f"connected: {company}, {options.environment}")
    typer.echo("Next: `rowtide quickbooks status`.")


def _agrees(place: Path) -> bool:
    return sys.stdin.isatty() and typer.confirm(f"There is no key in {place}. Make one?", default=True, err=True)


def _consent(options: Options, oauth: OAuth, *, paste: bool, browser: bool, seconds: float) -> Consent:
    """Send a person to the browser and take what it brings back."""
    from daemon import connecting  # noqa: PLC0415

    state = connecting.new_state()
    url = oauth.address(state)
    if paste:
        typer.echo(f"Open this address in a browser, choose the company and consent:\n\n{url}\n", err=True)
        typer.echo(f"It ends at {options.redirect}?…, which need not show a page.", err=True)
        return connecting.consent_of(typer.prompt("Paste the address of that page", err=True).strip(), state)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with connecting.listening(options, state) as waiting:
        console.print(f"Open this address in a browser, choose the company and consent:\n\n{url}\n", markup=False)
        if browser:
            webbrowser.open(url)
        with console.status("waiting for the browser …"):
            return waiting.result(seconds)


def _name(app: Any) -> str | None:
    """The company's name, which proves that the tokens work; None where QuickBooks does not answer."""
    from connectors.quickbooks import realm  # noqa: PLC0415 - what talks HTTP is slow to import
    from connectors.quickbooks.errors import QuickBooksError  # noqa: PLC0415

    client = realm.open_client(app.dsn, app.settings.quickbooks.options(), SystemClock(), app.name)
    try:
        told = client.company().get("CompanyName")
    except QuickBooksError as error:
        typer.echo(f"The tokens are stored, but a first question failed: {error.message}", err=True)
        return None
    finally:
        client.close()
    return str(told) if told else None


def status(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """The connected company: state and why, ends of the tokens, what was used of the limits, what is unresolved."""
    from connectors.quickbooks import realm  # noqa: PLC0415 - what talks HTTP is slow to import
    from connectors.quickbooks.status import status as told  # noqa: PLC0415

    with context.obj.app() as app, connect_state(app.dsn) as connection:
        found = realm.current_realm(connection)
        limits = app.settings.quickbooks.options().limits
        report = {"state": "not connected"} if found is None else told(connection, found, SystemClock().now(), limits)
    if json_output:
        print_json(report)
        return
    if found is None:
        typer.echo("QuickBooks not connected\nNext: `rowtide quickbooks connect`.")
        return
    print_rows("", ["", ""], list(_lines(report)))
    for line in report["warnings"]:
        typer.echo(f"warning: {line}", err=True)


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    used, tokens = report["last_minute"], report["tokens"] or {}
    lines = [
        ("company", f"{report['realm']} ({report['environment']})"),
        ("state", f"{report['state']}{': ' + report['reason'] if report['reason'] else ''}"),
        ("nothing is sent because", report["waits"]),
        ("paused until", report["paused_until"]),
        ("access token ends", tokens.get("access_ends")),
        ("refresh token ends", tokens.get("refresh_ends")),
        ("consent ends", tokens.get("consent_ends")),
        ("requests in the last minute", f"{used['requests']} of {used['requests_permitted']}"),
        ("batches in the last minute", f"{used['batches']} of {used['batches_permitted']}"),
        ("under way", used["under_way"]),
        ("unresolved", report["unresolved"]),
        ("requests without an answer", report["unanswered"] or None),
        ("no answer since", report["unanswered_since"]),
    ]
    return [
        (name, f"{value:%Y-%m-%d %H:%M} UTC" if hasattr(value, "tzinfo") else str(value))
        for name, value in lines
        if value is not None
    ]


def disconnect(
    context: typer.Context,
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Have Intuit revoke the consent, and forget the tokens. What is known of the customers stays."""
    from connectors.quickbooks import realm  # noqa: PLC0415 - what talks HTTP is slow to import
    from daemon import connecting  # noqa: PLC0415

    with context.obj.app() as app, connect_state(app.dsn) as connection:
        found = realm.require_realm(connection)
        if not yes:
            typer.confirm(f"Disconnect the company {found.realm_id}?", abort=True, err=True)
        revoked = connecting.disconnect(connection, app.settings.quickbooks.options(), found, SystemClock())
    if json_output:
        print_json({"realm": found.realm_id, "revoked": revoked})
        return
    typer.echo(f"disconnected: the company {found.realm_id}; its tokens are forgotten")
    if not revoked:
        typer.echo("Intuit could not be told: remove the app in QuickBooks too, under Apps.")


def pause(
    context: typer.Context,
    reason: str = typer.Option(None, "--reason", help="Why; `rowtide quickbooks status` shows it."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Send nothing to QuickBooks until `rowtide quickbooks resume`; the derived tables go on."""
    from connectors.quickbooks import realm  # noqa: PLC0415 - what talks HTTP is slow to import

    _change(context, "paused", lambda connection, found, now: realm.pause(connection, found, reason, now), json_output)


def resume(context: typer.Context, json_output: bool = JSON_OPTION) -> None:
    """Send again after a pause, or after a stop whose cause is gone."""
    from connectors.quickbooks import realm  # noqa: PLC0415 - what talks HTTP is slow to import

    _change(context, "resumed", realm.resume, json_output)


def _change(context: typer.Context, word: str, change: Any, json_output: bool) -> None:
    from connectors.quickbooks import realm  # noqa: PLC0415 - what talks HTTP is slow to import

    now = SystemClock().now()
    with context.obj.app() as app, connect_state(app.dsn) as connection:
        found = realm.require_realm(connection)
        change(connection, found.realm_id, now)
        after = realm.require_realm(connection)
    waits = after.waits(now)
    if json_output:
        print_json({"realm": after.realm_id, "state": after.state, "paused": after.paused, "waits": waits})
        return
    typer.echo(
        f"{word}: the company {after.realm_id}{f' (nothing is sent: {waits})' if waits and word == 'resumed' else ''}"
    )
    if after.state == realm.RECONNECT_NEEDED:
        typer.echo("Next: `rowtide quickbooks connect`.")
