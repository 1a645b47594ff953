"""The envelope of every answer: {success, message, timestamp, data} or {success, message, timestamp, error, details}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Generic, Literal, TypeVar

from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

T = TypeVar("T")
Timestamp = Annotated[AwareDatetime, Field(description="When the answer was made, in UTC.")]


class Code(StrEnum):
    """What went wrong, for programs; `message` says it for people."""

    INVALID_REQUEST = "invalid_request"
    NOT_CONNECTED = "not_connected"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BLOCKED = "blocked"
    TOO_LARGE = "too_large"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    BUSY = "busy"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Success(_Answer, Generic[T]):
    """What an answer with data looks like."""

    success: Literal[True] = True
    message: str
    timestamp: Timestamp
    data: T


class FieldProblem(_Answer):
    """What is wrong with one field of a request."""

    field: str = Field(description="The field's name; “body” where the request's body is not JSON at all.")
    reason: str


class Details(_Answer):
    """More about a failure, where there is more to say."""

    fields: list[FieldProblem] = Field(default_factory=list, description="The fields that are wrong.")
    hint: str = Field("", description="What to do next.")


class Failure(_Answer):
    """What an answer without data looks like."""

    success: Literal[False] = False
    message: str
    timestamp: Timestamp
    error: Code
    details: Details = Field(default_factory=Details)


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def failure(
    status: int,
    code: Code,
    message: str,
    *,
    fields: Sequence[FieldProblem] = (),
    hint: str = "",
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A failure as a response."""
    body = Failure(message=message, timestamp=now(), error=code, details=Details(fields=list(fields), hint=hint))
    return JSONResponse(body.model_dump(mode="json"), status_code=status, headers=headers)


def internal() -> JSONResponse:
    """What is told of a mistake of our own: nothing of it, for its text may hold values."""
    return failure(500, Code.INTERNAL, "Rowtide made a mistake of its own.")
