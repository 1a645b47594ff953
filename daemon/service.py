"""The daemon as a service: capture, worker, page and systemd around one app."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import structlog

from connectors.capture.postgres import PostgresCapture
from connectors.errors import RowtideError
from consumers.worker import BatchStats
from daemon.app import App
from daemon.web import serve_page

log = structlog.get_logger()


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
    failures: list[BaseException] = []
    with ExitStack() as stack:
        settings = app.settings
        if settings.web.enabled and not until_idle:
            stack.enter_context(serve_page(app, settings.web.host, settings.web.port))
        app.init()
        capture = _capture(app)
        if capture is not None and until_idle:
            capture.run_until_now(stop)
        elif capture is not None:
            thread = threading.Thread(target=_follow, args=(capture, stop, failures), name="capture", daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(stop.set)
        notify("READY=1")
        stack.callback(notify, "STOPPING=1")
        _watchdog(stop)
        log.info("daemon.started", domain=app.name)
        try:
            summary = app.run(stop, until_idle=until_idle, clock=clock, on_batch=on_batch)
        finally:
            stop.set()
    if failures:
        raise failures[0]
    log.info("daemon.stopped", **summary)
    return summary


def _capture(app: App) -> PostgresCapture | None:
    source = app.settings.source
    if source.kind == "none" or source.dsn is None:
        return None
    return PostgresCapture(
        source.dsn.get_secret_value(),
        list(app.domain.tables.values()),
        app.log,
        app.domain.topics[0],
        name=app.name,
        schema=source.db_schema,
        heartbeat_seconds=source.heartbeat_seconds,
        to_business_ms=app.time.of_source_ms,
    )


def _follow(capture: PostgresCapture, stop: threading.Event, failures: list[BaseException]) -> None:
    try:
        capture.run(stop)
    except RowtideError as error:
        log.error("capture.stopped", reason=error.message)  # noqa: TRY400 - the trace tells an operator nothing
        failures.append(error)
        stop.set()
    except Exception as error:
        log.exception("capture.failed")
        failures.append(error)
        stop.set()


def _watchdog(stop: threading.Event) -> None:
    """Tell systemd in time that we live, where it asks for that."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    if not microseconds or not os.environ.get("NOTIFY_SOCKET"):
        return

    def beat() -> None:
        while not stop.wait(int(microseconds) / 2_000_000):
            notify("WATCHDOG=1")

    threading.Thread(target=beat, name="watchdog", daemon=True).start()
