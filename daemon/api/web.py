"""Puts the API together: an ASGI application to be mounted at `/api` beside the page."""

from __future__ import annotations

import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from daemon.api.desk import Desk
from daemon.api.errors import handle_errors
from daemon.api.guard import Guard
from daemon.api.openapi import document
from daemon.api.tokens import Keys
from daemon.failures import explained

if TYPE_CHECKING:
    from daemon.app import App

_DOCUMENT = "/openapi.json"


def is_served(app: App) -> bool:
    """Whether an instance has the API: its domain pushes customers, and the settings do not turn it off."""
    return app.settings.api.enabled and app.domain.push is not None


def create_api(app: App, stop: threading.Event) -> ASGIApp:
    """The API of an instance. `stop` ends pushes that requests wait for."""
    from daemon.api.routes import routes  # noqa: PLC0415 - brings QuickBooks' libraries, which few domains need

    api = FastAPI(
        title="Rowtide",
        version=version("rowtide"),
        description=f"Customers of “{app.domain.title}” in QuickBooks Online. Every answer is in one envelope.",
        docs_url=None,
        redoc_url=None,
        openapi_url=_DOCUMENT,
        redirect_slashes=False,
    )
    handle_errors(api, lambda error: explained(error, app.settings))
    api.include_router(routes(app, Desk(stop)))

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = document(api)
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]
    return Guard(api, Keys(app.dsn, app.settings.api.token), frozenset({_DOCUMENT}))
