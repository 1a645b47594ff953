"""The demo: a shop and a school, their captures and domains on one embedded PostgreSQL, a QuickBooks simulated beside.

Business time of the shop runs fast; the school and QuickBooks live in real time.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel

from connectors.embedded import EmbeddedPostgres
from connectors.errors import RowtideError
from daemon import logging
from daemon.cli.common import print_json
from daemon.demo.part import Part
from daemon.settings import Settings, Web
from daemon.web import PortTakenError, serve_page

DOMAINS = ("rental", "mis")
SEED = 7
_SETTLE = 30.0  # seconds for the log
_SETTLE_CUSTOMERS = 150.0  # QuickBooks' limits run in real time, and one refusal pauses everything for a minute


def run_demo(
    settings: Settings,
    *,
    seconds: float | None,
    json_output: bool,
    data: Path | None,
    state: Path | None,
    domains: Sequence[str] = DOMAINS,
) -> int:
    """Run until interrupted or for so many seconds.

    Returns 1 if verify then finds a difference, or not everybody is one customer.
    """
    if data is not None and "rental" not in domains:
        raise RowtideError("--data is about the shop.", hint="Leave --domain away, or say --domain rental.")
    logging.configure("warning", settings.log_format)
    console = Console(stderr=True)
    with ExitStack() as stack:
        folder = state or Path(tempfile.mkdtemp(prefix="rowtide-demo-"))
        if state is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        settings = settings.model_copy(
            update={"web": settings.web.model_copy(update={"enabled": settings.web.enabled and not json_output})}
        )
        server = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        show = _Show(stack, console, quietly=json_output)
        show.open(settings, server, folder, domains, data)
        return show.run(seconds)


class _Show:
    """What is on show, from its start to its summary."""

    def __init__(self, stack: ExitStack, console: Console, *, quietly: bool) -> None:
        self._stack = stack
        self._console = console
        self._quietly = quietly
        self._parts: list[Part] = []
        self._quiet, self._stop = threading.Event(), threading.Event()
        self._failures: list[Exception] = []
        self._began = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._quiet.set())

    def open(
        self, settings: Settings, server: EmbeddedPostgres, folder: Path, domains: Sequence[str], data: Path | None
    ) -> None:
        """Set up each domain and begin with it while the next is set up."""
        if "rental" in domains:
            from daemon.demo.rental import open_rental  # noqa: PLC0415 - a domain that is not shown is not waited for

            self._say("loading the shop …")
            self._begin(open_rental(self._stack, settings, server, folder, data=data, seed=SEED))
        if "mis" in domains:
            from daemon.demo.mis import open_school  # noqa: PLC0415

            self._say("loading the school, connecting it to QuickBooks, simulated …")
            school = open_school(self._stack, settings, server, folder, seed=SEED)
            self._begin(school)
            self._say(f"its customers appear at {school.url}/")
        if settings.web.enabled:
            port = self._serve_page(settings.web)
            self._say(f"tables and reports at http://{settings.web.host}:{port}/")

    def _serve_page(self, web: Web) -> int:
        """The page of what is shown, on any free port where its own is taken: a daemon may be at work here too."""
        apps = [part.app for part in self._parts]
        try:
            return self._stack.enter_context(serve_page(apps, web.host, web.port))
        except PortTakenError:
            return self._stack.enter_context(serve_page(apps, web.host, 0))

    def _begin(self, part: Part) -> None:
        self._parts.append(part)
        self._stack.callback(self._end, part)
        part.start(self._quiet, self._stop, self._failures)

    def _end(self, part: Part) -> None:
        """Before its app is closed, however this ends."""
        self._quiet.set()
        self._stop.set()
        part.join("traffic")
        part.join("service")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def run(self, seconds: float | None) -> int:
        """Until it is time to end; then wait until everything has come through, and prove it."""
        self._watch(None if seconds is None else time.monotonic() + seconds)
        self._quiet.set()
        for part in self._parts:
            part.join("traffic")
        self._settle()
        self._stop.set()
        for part in self._parts:
            part.join("service")
        if self._failures:
            raise self._failures[0]
        return self._summary()

    def _watch(self, end: float | None) -> None:
        """Draw until it is time to end."""

        def over() -> bool:
            return self._quiet.is_set() or (end is not None and time.monotonic() >= end)

        if self._console.is_terminal and not self._quietly:
            with Live(self._picture(), console=self._console, screen=True, auto_refresh=False) as live:
                while not over():
                    live.update(self._picture(), refresh=True)
                    self._quiet.wait(0.25)
            return
        while not over():
            self._quiet.wait(2.0 if end is None else max(0.0, min(2.0, end - time.monotonic())))
            if not self._quietly:
                sys.stderr.writelines(f"{part.line()}\n" for part in self._parts)

    def _picture(self) -> Group:
        pieces: list[Any] = []
        for part in self._parts:
            first, *tables = part.draw()
            pieces += [Panel(first, padding=(0, 1)), Columns(tables, padding=(0, 3))]
        return Group(*pieces)

    def _settle(self) -> None:
        """Wait until everything has come through; nothing new comes."""
        for part in self._parts:
            end = time.monotonic() + (_SETTLE if part.app.domain.push is None else _SETTLE_CUSTOMERS)
            said, rounds = "", 0
            # Twice in a row: what was pushed is told to the log, and flags in the source come back from there.
            while rounds < 2 and time.monotonic() < end and not self._failures:
                waits = part.waits()
                rounds = 0 if waits else rounds + 1
                if waits and not said and not self._quietly:
                    said = f"{part.app.name}: waiting for {waits} …"
                    self._say(said)
                self._stop.wait(0.1)

    def _summary(self) -> int:
        from daemon.demo.mis import School  # noqa: PLC0415

        checks = [(part.app.name, check) for part in self._parts for check in part.app.verify()]
        clean = all(check.clean for _, check in checks)
        lags = sorted(lag for part in self._parts for lag in part.lags()) or [0.0]
        lag = {
            "p50_ms": round(lags[len(lags) // 2], 2),
            "p99_ms": round(lags[int(len(lags) * 0.99)], 2),
            "events_behind": sum(part.behind() for part in self._parts),
        }
        summary: dict[str, Any] = {
            "events": sum(part.result.get("events", 0) for part in self._parts),
            "batches": sum(part.result.get("batches", 0) for part in self._parts),
            "lag": lag,
            "verify": {"clean": clean, "tables": [{"domain": name, **check.as_dict()} for name, check in checks]},
            "seconds": round(time.monotonic() - self._began, 1),
            "business_time": self._parts[0].app.clock().isoformat(),
        }
        school = next((part for part in self._parts if isinstance(part, School)), None)
        figures = school.figures() if school else None
        if figures:
            summary["customers"] = {**figures.__dict__, "one_each": figures.one_each}
        if self._quietly:
            print_json(summary)
        else:
            sys.stdout.write(
                f"{summary['events']} events in {summary['batches']} batches; business time {summary['business_time']}; "
                f"lag p50 {lag['p50_ms']} ms, p99 {lag['p99_ms']} ms\n"
            )
            sys.stdout.write(f"verify: {'every model equals its query' if clean else 'NOT CLEAN'}\n")
            if figures:
                outcome = "each is one customer" if figures.one_each else "NOT ONE EACH"
                sys.stdout.write(
                    f"QuickBooks: {figures.admitted} admitted, {figures.synced} synced, {figures.pending} pending, "
                    f"{figures.failed} failed, {figures.duplicates} duplicates, {figures.missing} missing: {outcome}\n"
                )
        return 0 if clean and (figures is None or figures.one_each) else 1
