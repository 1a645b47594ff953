"""What the simulator answers: replies, and the faults in the forms in which they were documented or recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

# The API tells its times in its home's; the offset is constant here.
_HOME = timezone(timedelta(hours=-7))


@dataclass(frozen=True)
class Call:
    """One HTTP request as it reached the simulator.

    Attributes:
        query: the parameters, the last of each name.
        headers: by lower-case name.
        base_url: how the caller reached it, without a slash at the end.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    base_url: str = "http://127.0.0.1"


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        delay: seconds before its first byte.
        trickle: seconds between its bytes; 0 sends it at once.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json;charset=UTF-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    trickle: float = 0.0


@dataclass(frozen=True)
class Lost:
    """No answer: the connection breaks, `delay` seconds after the request."""

    delay: float = 0.0


@dataclass(frozen=True)
class FaultForm:
    """How one fault code is said."""

    status: int
    message: str
    detail: str
    kind: str = "ValidationFault"


# code -> its form. Those that Intuit documents and Rowtide may meet with customers, and what the gateway says.
FAULTS: Mapping[str, FaultForm] = {
    "100": FaultForm(401, "General Authentication Error", "AuthenticationErrorGeneral: 100", "AUTHENTICATION"),
    "120": FaultForm(401, "Authorization Failure", ": -11014-You do not have access to use QuickBooks Online Plus."),
    "500": FaultForm(400, "Unsupported Operation", "Operation is not supported."),
    "610": FaultForm(
        400, "Object Not Found", "Object Not Found : Something you're trying to use has been made inactive."
    ),
    "1040": FaultForm(400, "Batch size exceeds allowed limit", "The batch holds more than 30 operations."),
    "2000": FaultForm(400, "Invalid or unsupported object name", "Object name is unsupported or invalid"),
    "2010": FaultForm(400, "Request has invalid or unsupported property", "Property Name is unsupported or invalid"),
    "2020": FaultForm(400, "Required param missing, need to supply the required value for the API", "Required param"),
    "2030": FaultForm(400, "Invalid ID", "Id should be a valid number."),
    "2040": FaultForm(400, "Invalid String", "Element contains invalid characters"),
    "2050": FaultForm(
        400,
        "String length is either shorter or longer than supported by specification",
        "String length specified does not match the supported length.",
    ),
    "2130": FaultForm(400, "Invalid Request Id Format", "The format of the request id is not supported."),
    "2190": FaultForm(400, "Invalid Date Range", "The date range isn't valid."),
    "2210": FaultForm(
        400, "Invalid Email Address format", "Email Address does not conform to the RFC 822 syntax rules."
    ),
    "2500": FaultForm(
        400, "Invalid Reference Id", "Invalid Reference Id : Something you're trying to use is inactive."
    ),
    "3001": FaultForm(429, "message=ThrottleExceeded; errorCode=003001; statusCode=429", "", "SERVICE"),
    "3100": FaultForm(
        403,
        "message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403",
        "The application is not authorized for this company.",
        "AuthorizationFault",
    ),
    "3200": FaultForm(
        401, "message=AuthenticationFailed; errorCode=003200; statusCode=401", "Token expired", "AUTHENTICATION"
    ),
    "4000": FaultForm(400, "Error parsing query", "QueryParserError"),
    "4001": FaultForm(400, "Invalid query", "QueryValidationError"),
    "5010": FaultForm(
        400,
        "Stale Object Error",
        "Stale Object Error : You and root were working on this at the same time. "
        "root finished before you did, so your work was not saved.",
    ),
    "6000": FaultForm(
        400,
        "A business validation error has occurred while processing your request",
        "Business Validation Error: An unexpected error occurred. Please wait a few minutes and try again.",
    ),
    "6080": FaultForm(400, "No Name Provided", "At least one of the parts of a name is required."),
    "6190": FaultForm(
        400,
        "Invalid Company Status",
        "Subscription period has ended or canceled or there was a billing problem : "
        "You can't add data because your trial or subscription period ended.",
    ),
    "6240": FaultForm(
        400,
        "Duplicate Name Exists Error",
        "The name supplied already exists. : Another customer, vendor or employee is already using this name. "
        "Please use a different name.",
    ),
    "10000": FaultForm(500, "An application error has occurred while processing your request", "System Failure Error"),
}


class FaultError(Exception):
    """A request is refused with a fault of the API.

    Args:
        code: of `FAULTS`.
        detail: in place of the form's own.
        element: the attribute at fault.
    """

    def __init__(self, code: str, detail: str = "", *, element: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.element = element

    def body(self) -> dict[str, Any]:
        """What stands under `Fault`."""
        form = FAULTS[self.code]
        error: dict[str, Any] = {"Message": form.message, "Detail": self.detail or form.detail, "code": self.code}
        if self.element:
            error["element"] = self.element
        return {"Error": [error], "type": form.kind}

    def reply(self, now: float, *, status: int | None = None) -> Reply:
        """The fault as the answer to a whole request."""
        return as_json({"Fault": self.body(), "time": moment(now)}, status=status or FAULTS[self.code].status)


def as_json(value: Mapping[str, Any], *, status: int = 200) -> Reply:
    """A reply of JSON."""
    return Reply(status, json.dumps(value, ensure_ascii=False).encode())


def moment(now: float) -> str:
    """Seconds since 1970 as the API writes the time of an answer."""
    return datetime.fromtimestamp(now, _HOME).isoformat(timespec="milliseconds")


def stamp(now: float) -> str:
    """Seconds since 1970 as the API writes times in an object: whole seconds."""
    return datetime.fromtimestamp(now, _HOME).isoformat(timespec="seconds")


def seconds(text: str) -> float:
    """An ISO 8601 date or moment as seconds since 1970; without a zone it is UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def gateway_refusal(code: str, now: float, token: str) -> Reply:
    """The gateway's 401, which has lower-case keys and tells a part of the token."""
    form = FAULTS[code]
    error = {
        "message": form.message,
        "detail": f"{form.detail}: {token[:12]}..." if token else "Missing bearer token",
        "code": code,
        "element": None,
    }
    body = {
        "warnings": None,
        "intuitObject": None,
        "fault": {"error": [error], "type": "AUTHENTICATION"},
        "report": None,
        "queryResponse": None,
        "time": int(now * 1000),
    }
    return as_json(body, status=form.status)


def throttled(now: float, *, status: int = 429) -> Reply:
    """The recorded answer to too many requests: XML, whatever was asked for."""
    body = (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        f'<IntuitResponse time="{moment(now)}" xmlns="http://schema.intuit.com/finance/v3">\n'
        '    <Fault type="SERVICE">\n        <Error code="3001">\n'
        f"            <Message>message=ThrottleExceeded; errorCode=003001; statusCode={status}</Message>\n"
        "            <Detail>The request limit was reached.  Try again later</Detail>\n"
        "        </Error>\n    </Fault>\n</IntuitResponse>\n"
    )
    return Reply(status, body.encode(), "application/xml")


def gateway_page(status: int) -> Reply:
    """What stands before the API answers for it when that does not: a page of HTML."""
    title = {502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable", 504: "504 Gateway Time-out"}[status]
    body = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body></html>"
    return Reply(status, body.encode(), "text/html")
