"""The daemon's page: state, tables and reports, on loopback unless told otherwise. It only reads."""

from __future__ import annotations

import csv
import io
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from connectors.errors import RowtideError
from daemon.app import App, QueryError, Table

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


def render_report(title: str, sections: Sequence[Table]) -> str:
    """A report as a page that needs nothing else."""
    return _templates.get_template("report.html").render(title=title, sections=sections)


def create_web(app: App) -> FastAPI:
    """The page and its JSON beside it."""
    web = FastAPI(title="Rowtide", docs_url=None, redoc_url=None)

    @web.get("/", response_class=HTMLResponse)
    def page() -> str:
        lag = app.worker.lag_ms if app.worker else None
        totals = app.worker.totals if app.worker else None
        return _templates.get_template("page.html").render(
            status=app.status(),
            lag_ms=lag,
            totals=totals,
            reports=app.domain.reports,
            queries=app.domain.queries,
        )

    @web.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @web.get("/ready")
    def ready() -> JSONResponse:
        status = app.status()
        return JSONResponse(status, status_code=200 if status["state"] != "stopped" else 503)

    @web.get("/status")
    def status() -> dict[str, Any]:
        return app.status()

    @web.get("/reports/{name}", response_class=HTMLResponse)
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

    @web.get("/queries/{name}", response_class=HTMLResponse)
    def query(name: str) -> str:
        try:
            file = app.named("queries", name)
            defaults = dict(part.split("=", 1) for part in file.header.get("parameters", "").split() if "=" in part)
            return render_report(file.title, [app.query(file.title, file.sql, defaults)])
        except QueryError as error:
            raise HTTPException(404, error.message) from None

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
def serve_page(app: App, host: str, port: int) -> Iterator[int]:
    """Serve the page in a thread. Yields the port. Raises RowtideError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise RowtideError(
            f"The page cannot listen on {host}:{port}: {error.strerror}.",
            hint="Another program uses the port: set web.port (ROWTIDE_WEB__PORT), or web.enabled = false.",
        ) from None
    server = uvicorn.Server(uvicorn.Config(create_web(app), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="page", daemon=True)
    thread.start()
    try:
        yield int(sock.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(timeout=3)
        sock.close()
