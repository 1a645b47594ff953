"""The daemon as a service: page, capture, worker, retention and systemd around one app."""

from __future__ import annotations

import contextvars
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from typing import Any

import structlog

from connectors.errors import RowtideError
from connectors.state import connect
from consumers.worker import BatchStats
from daemon import lead, retention, sources, writeback
from daemon.app import App
from daemon.logs import open_log
from daemon.web import PortTakenError, serve_page

log = structlog.get_logger()
_GRACE = 2.0  # seconds that a thread gets to end before the process ends without it


def stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` at SIGTERM and SIGINT."""

    def handle(number: int, frame: object) -> None:
        del number, frame
        # In a thread of its own: the handler may have interrupted the main thread inside the event's own lock.
        threading.Thread(target=stop.set, name="signal").start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def notify(message: str) -> None:
    """Tell systemd, where it started us (`Type=notify`)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(message.encode())


def serve(
    app: App,
    stop: threading.Event,
    *,
    until_idle: bool = False,
    clock: datetime | None = None,
    on_batch: Callable[[BatchStats], None] | None = None,
) -> dict[str, Any]:
    """Run the app with what the settings ask for, until stopped or idle. Raises what made it stop."""
    with ExitStack() as stack, structlog.contextvars.bound_contextvars(instance=app.name):
        page = None
        if app.settings.web.enabled and not until_idle:
            page = Page([app], stack)
            page.open(wait=page.is_led())
        app.init()
        notify("READY=1")
        stack.callback(notify, "STOPPING=1")
        watchdog(stop)
        return serve_instance(app, stop, page, until_idle=until_idle, clock=clock, on_batch=on_batch)


def serve_instance(
    app: App,
    stop: threading.Event,
    page: Page | None,
    *,
    until_idle: bool = False,
    clock: datetime | None = None,
    on_batch: Callable[[BatchStats], None] | None = None,
) -> dict[str, Any]:
    """Run an app that was set up, without what a process has once. Raises what made it stop."""
    log.info("daemon.started", domain=app.name)
    told: list[Callable[[BatchStats], None]] = []

    def committed(stats: BatchStats) -> None:
        for tell in [*told, *([on_batch] if on_batch else [])]:
            tell(stats)

    @contextmanager
    def during(term: lead.Term) -> Iterator[None]:
        if page is not None:
            page.open(wait=True)
        with _captured(app, term, until_idle=until_idle), ExitStack() as beside:
            if not until_idle:
                in_thread("retention", retention.keep_enforcing, app, term.over)
                if writeback.enabled(app.settings, app.domain):
                    beside.enter_context(_written_back(app, term, told))
                if app.settings.quickbooks.enabled and app.domain.push is not None:
                    beside.enter_context(_pushed(app, term, told))
            yield

    summary = app.run(stop, until_idle=until_idle, clock=clock, on_batch=committed, during=during)
    log.info("daemon.stopped", **summary)
    return summary


class Page:
    """The page of a process, opened once; a standby beside its leader on one machine gets the port when that left it.

    Args:
        apps: whose instances it shows.
        stack: closes it.
    """

    def __init__(self, apps: Sequence[App], stack: ExitStack) -> None:
        self._apps = apps
        self._stack = stack
        self._one_at_a_time = threading.Lock()
        self._is_open = False

    def is_led(self) -> bool:
        """Whether some process leads one of the instances, and may have the port."""
        with connect(self._apps[0].dsn) as connection:
            return any(lead.is_led(connection, app.name) for app in self._apps)

    def open(self, *, wait: bool) -> None:
        """Open it if it is not. Raises PortTakenError, unless there will be another time to try (`wait`)."""
        with self._one_at_a_time:
            if self._is_open:
                return
            web = self._apps[0].settings.web
            try:
                port = self._stack.enter_context(serve_page(self._apps, web.host, web.port))
            except PortTakenError as error:
                if not wait:
                    raise
                log.warning("page.waiting", reason=error.message)
                return
            self._is_open = True
        log.info("page.opened", host=web.host, port=port)


@contextmanager
def _captured(app: App, term: lead.Term, *, until_idle: bool) -> Iterator[None]:
    """Capture beside what is done inside; raises what made it stop, which ends the term too."""
    if app.settings.source.kind == "none":
        yield
        return
    with closing(open_log(app.settings, app.dsn, as_name=lead.capture_name(app.name))) as target:
        capture = sources.open_capture(app, target)
        if until_idle:
            capture.run_until_now(term.over)
            yield
            return
        if term.waited:
            sources.evict(app.settings, app.name)
        with _beside("capture", capture.run, term.over):
            yield


@contextmanager
def _written_back(app: App, term: lead.Term, told: list[Callable[[BatchStats], None]]) -> Iterator[None]:
    """Write the domain's flags to the source beside what is done inside."""
    app.dispatcher, tell = writeback.open_dispatcher(app, term)
    with _telling(told, tell), _beside("dispatcher", app.dispatcher.run, term.over):
        yield


@contextmanager
def _pushed(app: App, term: lead.Term, told: list[Callable[[BatchStats], None]]) -> Iterator[None]:
    """Push the domain's customers beside what is done inside."""
    from daemon.lane import open_lane  # noqa: PLC0415 - brings QuickBooks' libraries, which other domains do not need

    app.lane, tell = open_lane(app, term)
    with _telling(told, tell), _beside("customers", app.lane.run, term.over):
        yield


@contextmanager
def _telling(told: list[Callable[[BatchStats], None]], tell: Callable[[BatchStats], None]) -> Iterator[None]:
    """Have somebody told of committed batches, as long as the block lasts."""
    told.append(tell)
    try:
        yield
    finally:
        told.remove(tell)


@contextmanager
def _beside(name: str, run: Callable[[threading.Event], None], over: threading.Event) -> Iterator[None]:
    """Run in a thread until the block or the term is over; what made it stop ends the term and is raised."""
    failures: list[Exception] = []

    def follow() -> None:
        try:
            run(over)
        except RowtideError as error:
            event = f"{name}.stopped"
            log.error(event, reason=error.message)  # noqa: TRY400 - a trace tells an operator nothing
            failures.append(error)
        except Exception as error:
            event = f"{name}.failed"
            log.exception(event)
            failures.append(error)
        finally:
            over.set()

    thread = in_thread(name, follow)
    try:
        yield
    finally:
        over.set()
        thread.join(_GRACE)
    if failures:
        raise failures[0]


def in_thread(name: str, target: Callable[..., None], *arguments: Any) -> threading.Thread:
    """Start a thread whose log lines belong to the instance of this one."""
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(target, *arguments), name=name, daemon=True)
    thread.start()
    return thread


def watchdog(stop: threading.Event) -> None:
    """Tell systemd in time that we live, where it asks for that."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    if not microseconds or not os.environ.get("NOTIFY_SOCKET"):
        return

    def beat() -> None:
        while not stop.wait(int(microseconds) / 2_000_000):
            notify("WATCHDOG=1")

    in_thread("watchdog", beat)
