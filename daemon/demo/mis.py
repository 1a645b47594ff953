"""The demo's school: its MIS with admissions going on, its customers in a simulator of QuickBooks in this process.

Everything of it begins anew at each start, for the simulated company does: it keeps its customers in memory alone. The school
lives in real time, as QuickBooks' limits do.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
import requests
from psycopg import sql
from pydantic import SecretStr
from rich.console import RenderableType

from connectors.embedded import EmbeddedPostgres
from connectors.quickbooks import realm
from connectors.quickbooks.simulator import Company, Simulator, serve
from connectors.quickbooks.simulator.simulator import CLIENT_ID, CLIENT_SECRET
from connectors.quickbooks.status import status as told
from connectors.state import connect
from daemon import connecting, customers
from daemon.app import App, open_app
from daemon.demo.acting import keep_acting
from daemon.demo.admissions import Admissions
from daemon.demo.part import Part
from daemon.demo.school import create_school
from daemon.demo.view import asked, table
from daemon.settings import LogSettings, Settings
from daemon.settings_quickbooks import QuickBooksSettings
from daemon.times import BusinessTime

SOURCE_DATABASE, STATE_DATABASE = "school", "school_state"
ACTS_PER_SECOND = 2.0
LATENCY = 0.1  # seconds that QuickBooks takes to answer
_ANSWER = 10  # seconds
SHOWN = [
    (
        "customers, the newest first",
        """
        SELECT record, display_name AS name, quickbooks_id AS id,
               CASE state WHEN 1 THEN 'synced' WHEN 2 THEN 'failed' ELSE 'in progress' END AS state
          FROM pushed ORDER BY pushed_at DESC NULLS LAST, record LIMIT 8
        """,
    ),
]


@dataclass(frozen=True)
class Figures:
    """Customers at a moment.

    Args:
        admitted: applicants and students.
        synced: those that QuickBooks holds as they should be.
        pending: those that wait or are under way.
        failed: those that need a person, or another try.
        duplicates: live customers of the company that are nobody's.
        missing: of the synced ones, those that the company does not have under their name.
    """

    admitted: int
    synced: int
    pending: int
    failed: int
    duplicates: int
    missing: int

    @property
    def one_each(self) -> bool:
        """Whether each person is exactly one customer, with the last values."""
        return self.synced == self.admitted and not (self.duplicates or self.missing)


class School(Part):
    """The mis domain on show.

    Args:
        app: its instance.
        simulator: that it pushes to.
        url: of the simulator and its page.
        source: connection string of the MIS.
        seed: of the people who come.
    """

    def __init__(self, app: App, simulator: Simulator, url: str, source: str, *, seed: int) -> None:
        make = partial(Admissions, seed=seed + 1)
        super().__init__(
            app, lambda quiet: keep_acting(source, app.time, quiet, make, rate=ACTS_PER_SECOND, seed=seed + 1)
        )
        self.url = url
        self._simulator = simulator

    def figures(self) -> Figures:
        """How many customers there are, and whether the company agrees."""
        counts = customers.counts(self.app).values()
        with connect(self.app.dsn) as connection:
            held = dict(
                connection.execute(
                    "SELECT quickbooks_id, display_name FROM rowtide.customer WHERE instance = %s AND state = 'synced' "
                    "AND quickbooks_id IS NOT NULL",
                    [self.app.name],
                ).fetchall()
            )
            ours = connection.execute(
                "SELECT array_agg(quickbooks_id) FROM rowtide.customer WHERE quickbooks_id IS NOT NULL"
            ).fetchone()
        with self._simulator.lock:
            live = {entry.id: entry.name for entry in self._simulator.company.of("Customer") if entry.active}
        return Figures(
            admitted=sum(kind["total"] for kind in counts),
            synced=sum(kind["synced"] for kind in counts),
            pending=sum(kind["not_synced"] + kind["in_progress"] for kind in counts),
            failed=sum(kind["failed"] for kind in counts),
            duplicates=len(live.keys() - set((ours and ours[0]) or ())),
            missing=sum(1 for number, name in held.items() if live.get(number) != name),
        )

    def waits(self) -> str | None:
        """Events, customers, flags to write back."""
        if behind := super().waits():
            return behind
        if pending := self.figures().pending:
            return f"{pending} customers"
        rows = self.app.status()["rows"]
        flags = sum(rows.get(name, 0) for name in ("pending_applicant_status", "pending_student_status"))
        return f"{flags} flags" if flags else None

    def draw(self) -> list[RenderableType]:
        """What is pushed, too."""
        first, rows = super().draw()
        return [first, rows, table("pushes to QuickBooks", ["", ""], list(self._pushes())), *asked(self.app, SHOWN)]

    def _pushes(self) -> list[tuple[str, Any]]:
        found = self.figures()
        used, waits = self._last_minute()
        lines: list[tuple[str, Any]] = [
            ("admitted", found.admitted),
            ("synced", found.synced),
            ("pending", found.pending),
            ("failed", found.failed),
            ("requests in the last minute", used),
            ("its page", self.url),
        ]
        return [*lines, ("waits because", waits)] if waits else lines

    def _last_minute(self) -> tuple[str, str | None]:
        with connect(self.app.dsn) as connection:
            current = realm.current_realm(connection)
            if current is None:
                return "", None
            limits = self.app.settings.quickbooks.options().limits
            found = told(connection, current, self.app.outside.now(), limits)
        last = found["last_minute"]
        return f"{last['requests']} of {last['requests_permitted']}", found["waits"]

    def line(self) -> str:
        """Customers too."""
        found = self.figures()
        return (
            f"{super().line()}; QuickBooks: {found.synced} of {found.admitted} synced, {found.pending} pending, "
            f"{found.failed} failed, {self._last_minute()[0]} requests in the last minute"
        )


def open_school(stack: ExitStack, settings: Settings, server: EmbeddedPostgres, folder: Path, *, seed: int) -> School:
    """Make the school, its state database and its company anew, and connect them; `stack` closes all.

    Args:
        stack: closes what is opened.
        settings: what the operator has set.
        server: where its databases are.
        folder: where the key of the tokens is kept.
        seed: of the people and of what goes on.
    """
    simulator = Simulator(Company(customer_types=("Applicant", "Student")), latency=LATENCY)
    url = stack.enter_context(serve(simulator))
    source, state = (_anew(server, name) for name in (SOURCE_DATABASE, STATE_DATABASE))
    with psycopg.connect(source) as connection:
        create_school(connection, datetime.now(UTC).replace(tzinfo=None, microsecond=0), seed=seed)
    own = settings.model_copy(
        update={
            "domain": "mis",
            "instance": None,
            "parameters": {},
            "log": LogSettings(),
            "state": settings.state.model_copy(update={"folder": folder, "dsn": SecretStr(state)}),
            "source": settings.source.model_copy(
                update={
                    "kind": "postgres",
                    "dsn": SecretStr(source),
                    "heartbeat_seconds": 1.0,
                    "write_back": True,
                    "write_back_dsn": None,
                }
            ),
            "quickbooks": QuickBooksSettings(
                enabled=True,
                environment="simulator",
                api_url=url,
                client_id=CLIENT_ID,
                client_secret=SecretStr(CLIENT_SECRET),
                key_file=folder / "quickbooks.key",
            ),
        }
    )
    app = stack.enter_context(open_app(own, time=BusinessTime()))
    app.init()
    _connect(app)
    return School(app, simulator, url, source, seed=seed)


def _anew(server: EmbeddedPostgres, name: str) -> str:
    """An empty database; its connection string."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    return server.ensure_database(name)


def _connect(app: App) -> None:
    """What `rowtide quickbooks connect` does, with nobody at the browser: the page of consent is answered here."""
    options = app.settings.quickbooks.options()
    key = connecting.ready_key(options, lambda _: True)
    oauth = connecting.authorization(options)
    state = connecting.new_state()
    page = urlsplit(oauth.address(state))
    form = {**dict(parse_qsl(page.query)), "answer": "yes"}
    answer = requests.post(
        f"{page.scheme}://{page.netloc}{page.path}/consent", data=form, allow_redirects=False, timeout=_ANSWER
    )
    consent = connecting.consent_of(answer.headers.get("location", ""), state)
    connecting.redeem(app.dsn, options, key, oauth, consent, app.outside)
