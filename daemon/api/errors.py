"""What goes wrong while a request is answered, as envelopes: one place says which status and code each has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from connectors.errors import RowtideError
from connectors.quickbooks.errors import (
    NotConnectedError,
    QuickBooksBlockedError,
    QuickBooksError,
    QuickBooksUnavailableError,
    ReconnectNeededError,
)
from daemon.api.envelope import Code, FieldProblem, failure, internal
from daemon.customers import NotAdoptedError, NotCurrentError

log = structlog.get_logger()
_BUSY = 5.0  # seconds after which asking again makes sense


class BusyError(RowtideError):
    """As many requests push as may at once."""


_OF_STATUS: Mapping[int, tuple[Code, str]] = {
    400: (Code.INVALID_REQUEST, "The request cannot be read."),
    404: (Code.NOT_FOUND, "There is nothing at this address."),
    405: (Code.METHOD_NOT_ALLOWED, "This address does not know the method."),
}
_REASONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda context: f"must be {context['ge']} or more",
    "less_than_equal": lambda context: f"must be {context['le']} or less",
    "extra_forbidden": lambda _: "is not known here",
    "int_type": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_parsing_size": lambda _: "must be a smaller number",
    "bool_type": lambda _: "must be true or false",
    "json_invalid": lambda _: "is not JSON",
    "missing": lambda _: "is missing",
    "model_attributes_type": lambda _: "must be a JSON object, sent as application/json",
    "model_type": lambda _: "must be a JSON object, sent as application/json",
}


def handle_errors(api: FastAPI, explained: Callable[[Exception], RowtideError | None]) -> None:
    """Answer errors in the envelope.

    Args:
        api: whose errors.
        explained: tells of an error what an operator can do about it; None where nobody can.
    """

    @api.exception_handler(RequestValidationError)
    def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        del request
        problems = [_problem(entry) for entry in error.errors()]
        message = "; ".join(f"{problem.field} {problem.reason}" for problem in problems) + "."
        return failure(400, Code.INVALID_REQUEST, message, fields=problems)

    @api.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        del request
        code, message = _OF_STATUS.get(error.status_code, (Code.INVALID_REQUEST, "The request cannot be answered."))
        return failure(error.status_code, code, message, headers=error.headers)

    @api.exception_handler(NotConnectedError)
    @api.exception_handler(ReconnectNeededError)
    def not_connected(request: Request, error: RowtideError) -> JSONResponse:
        del request
        return failure(400, Code.NOT_CONNECTED, "QuickBooks not connected", hint=error.hint)

    @api.exception_handler(QuickBooksBlockedError)
    def blocked(request: Request, error: QuickBooksBlockedError) -> JSONResponse:
        del request
        if error.wait:
            return failure(503, Code.BUSY, error.message, hint=error.hint, headers=_after(error.wait))
        return failure(409, Code.BLOCKED, error.message, hint=error.hint)

    @api.exception_handler(QuickBooksError)
    @api.exception_handler(NotAdoptedError)
    def for_a_person(request: Request, error: RowtideError) -> JSONResponse:
        del request
        return failure(409, Code.BLOCKED, error.message, hint=error.hint)

    @api.exception_handler(BusyError)
    @api.exception_handler(NotCurrentError)
    def busy(request: Request, error: RowtideError) -> JSONResponse:
        del request
        return failure(503, Code.BUSY, error.message, hint=error.hint, headers=_after(_BUSY))

    @api.exception_handler(RowtideError)
    @api.exception_handler(QuickBooksUnavailableError)
    def unavailable(request: Request, error: RowtideError) -> JSONResponse:
        del request
        log.warning("api.unavailable", reason=error.message)
        return failure(503, Code.UNAVAILABLE, error.message, hint=error.hint)

    @api.exception_handler(Exception)
    def mistake(request: Request, error: Exception) -> JSONResponse:
        del request, error  # raised on after this; the guard has it logged
        return internal()

    @api.exception_handler(psycopg.Error)
    def database(request: Request, error: psycopg.Error) -> JSONResponse:
        known = explained(error)
        if known is None:
            raise error
        return unavailable(request, known)


def _after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds))}


def _problem(entry: Mapping[str, Any]) -> FieldProblem:
    """The name of a field and what is wrong with it. What was sent is not repeated."""
    places: Sequence[Any] = [part for part in entry["loc"][1:] if isinstance(part, str)]
    kind = entry["type"]
    field = "body" if kind == "json_invalid" or not places else ".".join(places)
    reason = _REASONS.get(kind)
    if reason is not None:
        return FieldProblem(field=field, reason=reason(entry.get("ctx") or {}))
    return FieldProblem(field=field, reason=str(entry["msg"]).removeprefix("Value error, "))
