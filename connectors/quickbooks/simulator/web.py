"""The simulator as a FastAPI application: the API itself, a control API beside it, and a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.concurrency import run_in_threadpool

from connectors.quickbooks.clock import Clock
from connectors.quickbooks.simulator import control
from connectors.quickbooks.simulator.company import Company
from connectors.quickbooks.simulator.replies import Call, Lost, Reply
from connectors.quickbooks.simulator.simulator import Simulator

BREAK = "rowtide.break"  # extension of the ASGI scope: breaks the connection
_SHOWN = 200  # customers and requests on the page

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


def create_app(simulator: Simulator | Company, clock: Clock | None = None) -> FastAPI:
    """The application for a simulator, or for a company in one with the usual rules."""
    found = simulator if isinstance(simulator, Simulator) else Simulator(simulator, clock)
    app = FastAPI(
        title="QuickBooks Online, simulated", docs_url=None, redoc_url=None, openapi_url="/control/openapi.json"
    )
    app.state.simulator = found
    app.include_router(control.router(found))

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return _templates.get_template("page.html").render(title=found.company.name, **view(found))

    @app.get("/view", response_class=HTMLResponse, include_in_schema=False)
    def parts() -> str:
        """What of the page changes."""
        return _templates.get_template("view.html").render(**view(found))

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
    async def anything(request: Request) -> Response:
        call = await _call(request)
        outcome = await run_in_threadpool(found.handle, call)
        try:
            if outcome.delay:
                await run_in_threadpool(found.clock.sleep, outcome.delay, found.stopping)
            if isinstance(outcome, Lost):
                request.scope.get("extensions", {}).get(BREAK, _cannot_break)()
                return Response(status_code=502)  # nobody hears it
            return _response(outcome, found)
        finally:
            found.done()

    return app


def view(simulator: Simulator) -> dict[str, Any]:
    """What the page shows: the newest customers, the newest requests, the numbers, the faults asked for."""
    with simulator.lock:
        company = simulator.company
        entries = sorted((e for e in company.of("Customer")), key=lambda e: (e.updated, int(e.id)), reverse=True)
        shown = [
            {
                "id": entry.id,
                "name": entry.name,
                "active": entry.active,
                "version": entry.version,
                "email": (entry.fields.get("PrimaryEmailAddr") or {}).get("Address", ""),
                "phone": (entry.fields.get("PrimaryPhone") or {}).get("FreeFormNumber", ""),
                "type": company.customer_types.get((entry.fields.get("CustomerTypeRef") or {}).get("value", ""), ""),
                "notes": entry.fields.get("Notes", ""),
            }
            for entry in entries[:_SHOWN]
        ]
        last = simulator.requests.since()[-30:]
        return {
            "summary": simulator.summary(),
            "customers": shown,
            "requests": [
                {
                    "number": seen.number,
                    "operation": seen.operation or seen.path,
                    "status": "broken" if seen.status is None else seen.status,
                    "code": seen.code,
                    "fault": seen.fault,
                    "replayed": seen.replayed,
                }
                for seen in reversed(last)
            ],
            "faults": [
                {"number": rule.number, "kind": rule.fault.kind, "operation": rule.fault.operation, "fired": rule.fired}
                for rule in simulator.faults.all()
            ],
        }


async def _call(request: Request) -> Call:
    return Call(
        request.method,
        request.url.path,
        dict(request.query_params),
        {name.lower(): value for name, value in request.headers.items()},
        await request.body(),
        str(request.base_url).rstrip("/"),
    )


def _response(reply: Reply, simulator: Simulator) -> Response:
    headers = {**reply.headers, "content-type": reply.content_type}
    if not reply.trickle:
        return Response(reply.body, reply.status, headers)

    async def bytes_of() -> AsyncIterator[bytes]:
        for number in range(len(reply.body)):
            await asyncio.sleep(reply.trickle)
            if simulator.stopping.is_set():
                return
            yield reply.body[number : number + 1]

    return StreamingResponse(bytes_of(), reply.status, {**headers, "content-length": str(len(reply.body))})


def _cannot_break() -> None:
    raise ConnectionError("This server cannot break a connection; use connectors.quickbooks.simulator.serve.")
