"""The OpenAPI document: what FastAPI derives, put right where this API differs from its habits."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_HABITS = ("HTTPValidationError", "ValidationError")  # of 422, which is never answered here


def document(api: FastAPI) -> dict[str, Any]:
    """The document of an API whose wrong requests are answered 400 in the envelope."""
    found: dict[str, Any] = get_openapi(
        title=api.title, version=api.version, description=api.description, routes=api.routes
    )
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in _HABITS:
        found["components"]["schemas"].pop(name, None)
    return found
