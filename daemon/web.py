"""The daemon's page: state, tables and reports, on loopback unless told otherwise. It only reads.

Beside it, below `/api`, is the API of the domains that push. The page has no login, so nothing about people may be on
it: what such a domain's reports and queries tell is told only to who has a token of the API.
"""

from __future__ import annotations

import csv
import errno
import io
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape

from connectors.errors import RowtideError
from connectors.listening import listen
from daemon.api.guard import CHALLENGE, presented
from daemon.api.tokens import Keys
from daemon.api.web import create_api, is_served
from daemon.app import App, QueryError, Table
from daemon.metrics import CONTENT_TYPE, exposition
from daemon.queries import defaults

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


class PortTakenError(RowtideError):
    """The page's port is in use."""


class ExposedError(RowtideError):
    """Page and API cannot be served as the settings ask: others could read along, or the certificate will not do."""


def render_report(title: str, sections: Sequence[Table]) -> str:
    """A report as a page that needs nothing else."""
    return _templates.get_template("report.html").render(title=title, sections=sections)


def create_web(*apps: App, stop: threading.Event | None = None) -> FastAPI:
    """The page, its JSON beside it, and what a supervisor and Prometheus ask for; the API where there is one.

    Several instances have a page each below `/instances/NAME`, and the same addresses at the top tell of all.

    Args:
        apps: whose page it is.
        stop: ends what requests wait for.
    """
    stop = stop or threading.Event()
    if len(apps) == 1:
        return _instance_web(apps[0], stop)
    web = _web()

    @web.get("/", response_class=HTMLResponse)
    def page() -> str:
        return _templates.get_template("instances.html").render(instances=[app.status() for app in apps])

    @web.get("/health")
    def health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @web.get("/ready")
    def ready() -> JSONResponse:
        """Every instance is worked on, by this daemon or another."""
        states = {app.name: app.status() for app in apps}
        fine = all(status["state"] in ("running", "degraded") for status in states.values())
        return JSONResponse({"instances": states}, status_code=200 if fine else 503)

    @web.get("/status")
    def status() -> dict[str, Any]:
        return {"instances": {app.name: app.status(probe=True) for app in apps}}

    @web.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(*apps), media_type=CONTENT_TYPE)

    for app in apps:
        web.mount(f"/instances/{app.name}", _instance_web(app, stop))
    return web


def _web() -> FastAPI:
    web = FastAPI(title="Rowtide", docs_url=None, redoc_url=None)

    @web.exception_handler(RowtideError)
    def unavailable(request: Request, error: RowtideError) -> JSONResponse:
        del request
        return JSONResponse({"state": "unavailable", "reason": error.message, "hint": error.hint}, status_code=503)

    return web


def _instance_web(app: App, stop: threading.Event) -> FastAPI:
    """The page of one instance, at the top or below an address of its own."""
    web = _web()
    is_public = app.domain.push is None
    keys = Keys(app.dsn, app.settings.api.token)

    def may_see(request: Request) -> None:
        if not is_public and not keys.opens(presented(request.scope) or b""):
            raise HTTPException(401, "This tells of people, and needs a token of the API.", headers=CHALLENGE)

    @web.get("/", response_class=HTMLResponse)
    def page(request: Request) -> str:
        lag = app.worker.lag_ms if app.worker else None
        totals = app.worker.totals if app.worker else None
        return _templates.get_template("page.html").render(
            status=app.status(),
            lag_ms=lag,
            totals=totals,
            reports=app.domain.reports if is_public else {},
            queries=app.domain.queries if is_public else {},
            base=request.scope.get("root_path", ""),
        )

    @web.get("/health")
    def health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @web.get("/ready")
    def ready() -> JSONResponse:
        """The instance is worked on, by this daemon or the one it stands by for."""
        status = app.status()
        fine = status["state"] in ("running", "degraded")
        return JSONResponse(status, status_code=200 if fine else 503)

    @web.get("/status")
    def status() -> dict[str, Any]:
        return app.status(probe=True)

    @web.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(app), media_type=CONTENT_TYPE)

    @web.get("/reports/{name}", response_class=HTMLResponse, dependencies=[Depends(may_see)])
    def report(name: str) -> Any:
        as_csv = name.endswith(".csv")
        try:
            file = app.named("reports", name.removesuffix(".csv"))
            sections = app.report(file.name)
        except QueryError as error:
            raise HTTPException(404, error.message) from None
        return (
            PlainTextResponse(_csv(sections), media_type="text/csv") if as_csv else render_report(file.title, sections)
        )

    @web.get("/queries/{name}", response_class=HTMLResponse, dependencies=[Depends(may_see)])
    def query(name: str) -> str:
        try:
            file = app.named("queries", name)
            return render_report(file.title, [app.query(file.title, file.sql, defaults(file))])
        except QueryError as error:
            raise HTTPException(404, error.message) from None

    if is_served(app):
        web.mount("/api", create_api(app, stop))
    return web


def _csv(sections: Sequence[Table]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for section in sections:
        writer.writerow([section.title])
        writer.writerow(section.columns)
        writer.writerows(section.rows)
    return buffer.getvalue()


@contextmanager
def serve_page(apps: Sequence[App], host: str, port: int) -> Iterator[int]:
    """Serve page and API in a thread. Yields the port.

    Raises PortTakenError where the port is taken, ExposedError where it may not be served so.
    """
    _refuse_exposed(apps)
    stop = threading.Event()
    settings = apps[0].settings.api
    config = uvicorn.Config(
        create_web(*apps, stop=stop),
        log_config=None,
        access_log=False,  # a token in an address, put there by mistake, is nowhere to be read
        server_header=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_keyfile_password="none",  # noqa: S106 - so a sealed key is refused, and the terminal not asked
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise ExposedError(
            f"The certificate or its key cannot be used: {error.strerror or type(error).__name__}.",
            hint="Check api.tls_cert and api.tls_key: PEM files that this user may read, the key without a passphrase.",
        ) from None
    sock = _listen(host, port)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="page", daemon=True)
    thread.start()
    try:
        yield int(sock.getsockname()[1])
    finally:
        stop.set()
        server.should_exit = True
        thread.join(timeout=2)
        sock.close()


def _refuse_exposed(apps: Sequence[App]) -> None:
    """Raise where the API would be reached from other machines without TLS, and nobody said that this is meant."""
    settings = apps[0].settings
    if settings.web.is_local or settings.api.tls_cert is not None or settings.api.allow_plaintext:
        return
    if any(is_served(app) for app in apps):
        raise ExposedError(
            f"The API would be reached at {settings.web.host} without TLS: others could read tokens and people's data.",
            hint="Set api.tls_cert and api.tls_key; or api.allow_plaintext = true behind a proxy that speaks TLS.",
        )


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        kind = PortTakenError if error.errno == errno.EADDRINUSE else RowtideError
        raise kind(
            f"The page cannot listen on {host}:{port}: {error.strerror}.",
            hint="Set web.port (ROWTIDE_WEB__PORT) to a free port, or web.enabled = false.",
        ) from None
