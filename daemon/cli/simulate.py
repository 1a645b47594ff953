"""The command `quickbooks simulate`: a QuickBooks Online of one's own, for trials."""

from __future__ import annotations

import json
import sys
import threading
from typing import Literal

import typer

from connectors.errors import RowtideError
from daemon.cli.common import JSON_OPTION, print_json

PORT = 8473


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("simulate")(simulate)


def simulate(
    port: int = typer.Option(PORT, "--port", help="Where it listens; 0 takes a free port."),
    host: str = typer.Option("127.0.0.1", "--host", help="On which address."),
    allow_remote: bool = typer.Option(False, "--allow-remote", help="Let --host be another than loopback."),
    customers: int = typer.Option(0, "--seed-customers", min=0, help="So many made-up customers are there already."),
    types: list[str] = typer.Option([], "--customer-type", help="A customer type of the company."),
    definitions: list[str] = typer.Option(
        [], "--custom-field", help="ID=NAME: a custom field of customers, on a plan that has them; at most twelve."
    ),
    rotate: float = typer.Option(86_400, "--rotate", min=0, help="Seconds after which a refresh token changes."),
    previous: Literal["until_used", "grace", "never"] = typer.Option(
        "until_used", "--previous", help="How long the one before it works; grace is a day."
    ),
    retention: float = typer.Option(None, "--retention", min=0, help="Seconds a requestid is known; else for good."),
    latency: float = typer.Option(0.1, "--latency", min=0, help="Seconds from a request to its answer."),
    faults: list[str] = typer.Option([], "--fault", help="KIND[:name=value,…]; see docs/simulator.md."),
    seconds: float = typer.Option(None, "--for", min=0, help="End after so many seconds."),
    json_output: bool = JSON_OPTION,
) -> None:
    """Run a simulator of QuickBooks Online, with its limits and faults on demand. It keeps nothing when it ends."""
    # It brings a web server with it.
    from connectors.quickbooks.simulator import Company, CustomField, Fault, OAuthRules, Simulator, serve  # noqa: PLC0415
    from connectors.quickbooks.simulator.simulator import CLIENT_ID, CLIENT_SECRET  # noqa: PLC0415

    simulator = Simulator(
        Company(
            enhanced_fields=bool(definitions),
            custom_fields={number: CustomField(name) for number, name in map(_definition, definitions)},
            customer_types=tuple(types),
        ),
        oauth=OAuthRules(rotate_after=rotate, previous=previous),
        retention=retention,
        latency=latency,
    )
    for text in faults:
        simulator.fault(Fault.parse(text))
    simulator.seed(customers)
    with serve(simulator, host=host, port=port, allow_remote=allow_remote) as url:
        settings = {
            "enabled": True,
            "environment": "simulator",
            "api_url": url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }
        if json_output:
            print_json({"url": url, "realm": simulator.company.realm, "quickbooks": settings})
            sys.stdout.flush()
        else:
            typer.echo(f"QuickBooks Online, simulated: {url}/")
            typer.echo(f"  the API       {url}/v3/company/{simulator.company.realm}")
            typer.echo(f"  OAuth         {url}/.well-known/openid_configuration")
            typer.echo(f"  its controls  {url}/control/openapi.json")
            typer.echo("\nWrite into Rowtide's settings:\n\n[quickbooks]")
            for name, value in settings.items():
                typer.echo(f"{name} = {json.dumps(value)}")
            typer.echo('key_file = "quickbooks.key"  # seals the tokens; `rowtide quickbooks connect` makes it')
            typer.echo("\nNext: `rowtide quickbooks connect`. End it with Ctrl-C; then its customers are gone.")
        try:
            threading.Event().wait(seconds)
        except KeyboardInterrupt:
            typer.echo("stopping …", err=True)


def _definition(text: str) -> tuple[str, str]:
    number, equals, name = text.partition("=")
    if not equals or not number.strip() or not name.strip():
        raise RowtideError(f"“{text}” is no custom field.", hint="Write it as --custom-field 1=Campus.")
    return number.strip(), name.strip()
