"""The accounting API below /v3/company: which request is what, and what it is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from connectors.quickbooks.simulator import query
from connectors.quickbooks.simulator.company import KINDS, Company, Kind
from connectors.quickbooks.simulator.people import read, show, write
from connectors.quickbooks.simulator.replies import Call, FaultError, Reply, as_json, moment, seconds

_PATH = re.compile(r"/v3/company/(?P<realm>[^/]+)/(?P<resource>[^/]+)(?:/(?P<number>[^/]+))?/?")
_BY_RESOURCE: Mapping[str, Kind] = {kind.lower(): kind for kind in KINDS}
_OTHERS = {
    ("GET", "query", False),
    ("POST", "query", False),
    ("POST", "batch", False),
    ("GET", "cdc", False),
    ("GET", "companyinfo", True),
    ("GET", "customertype", True),
}
_CDC_DAYS = 30
_CDC_MOST = 1000
WRITES = ("create", "update", "batch")


@dataclass(frozen=True)
class Target:
    """What a request is about.

    Attributes:
        operation: create, update, read, query, batch, cdc, companyinfo, customertype; "" where it is nothing known.
        kind: Customer, Vendor or Employee, where it is about one.
        number: the id it names in its address.
    """

    operation: str
    realm: str
    kind: Kind | None = None
    number: str = ""


def target(call: Call) -> Target | None:
    """What the request is about; None where it is not for this API."""
    found = _PATH.fullmatch(call.path)
    if found is None:
        return None
    realm, resource, number = found["realm"], found["resource"].lower(), unquote(found["number"] or "")
    kind = _BY_RESOURCE.get(resource)
    operation = ""
    if kind and call.method == "POST" and not number and call.query.get("operation", "update") == "update":
        operation = "update" if _names_an_id(call.body) else "create"
    elif kind and call.method == "GET" and number:
        operation = "read"
    elif (call.method, resource, bool(number)) in _OTHERS:
        operation = resource
    return Target(operation, realm, kind, number)


def json_of(call: Call) -> dict[str, Any]:
    """The request's body. Raises FaultError."""
    try:
        text = call.body.decode()
    except UnicodeDecodeError:
        raise FaultError("500", "Operation Invalid byte of a UTF-8 sequence is not supported.") from None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FaultError("2010", "Property Name:failed to parse json object is unsupported or invalid")
    return found


def perform(company: Company, call: Call, about: Target, now: float) -> Reply:
    """Do what is asked, but a batch, and answer. Raises FaultError."""
    include = call.query.get("include", "")
    if about.kind and about.operation in ("create", "update"):
        return _entity(about.kind, write(company, about.kind, json_of(call), now, include=include), now)
    if about.kind and about.operation == "read":
        return _entity(about.kind, read(company, about.kind, about.number, include=include), now)
    if about.operation == "query":
        statement = call.query.get("query", "") if call.method == "GET" else call.body.decode(errors="replace")
        return as_json({"QueryResponse": query.answer(company, statement, include=include), "time": moment(now)})
    if about.operation == "cdc":
        return as_json({"CDCResponse": [{"QueryResponse": _changes(company, call, now)}], "time": moment(now)})
    if about.operation == "companyinfo":
        return _entity("CompanyInfo", query.company_info(company), now)
    if about.operation == "customertype":
        name = company.customer_types.get(about.number)
        if name is None:
            raise FaultError("610")
        return _entity("CustomerType", query.customer_type(about.number, name), now)
    if about.kind:
        raise FaultError("500", f"Operation {call.query.get('operation', call.method.lower())} is not supported.")
    raise FaultError("2000", f"Object Name: {call.path.rpartition('/')[2]} is unsupported or invalid")


def _changes(company: Company, call: Call, now: float) -> list[dict[str, Any]]:
    """What changed since a moment, by kind; at most a thousand objects, those that changed first."""
    try:
        since = seconds(call.query.get("changedSince", "").replace(" ", "+"))
    except ValueError:
        raise FaultError("2020", "Required parameter changedSince is missing or is no date and time") from None
    if since < now - _CDC_DAYS * 86_400:
        raise FaultError("2190", f"changedSince can be at most {_CDC_DAYS} days ago.")
    kinds = [name.strip() for name in call.query.get("entities", "").split(",") if name.strip()]
    unknown = [name for name in kinds if name.lower() not in _BY_RESOURCE]
    if unknown or not kinds:
        raise FaultError("2000", f"Object Name: {', '.join(unknown)} is unsupported or invalid")
    left = _CDC_MOST
    answer: list[dict[str, Any]] = []
    for kind in (_BY_RESOURCE[name.lower()] for name in kinds):
        changed = [entry for entry in company.entries.values() if entry.kind == kind and entry.updated >= since]
        told = [show(company, entry) for entry in sorted(changed, key=lambda entry: entry.updated)[:left]]
        left -= len(told)
        counts: Mapping[str, Any] = {"startPosition": 1, "maxResults": len(told), "totalCount": len(told)}
        answer.append({kind: told, **counts} if told else {})
    return answer


def _entity(kind: str, told: Mapping[str, Any], now: float) -> Reply:
    return as_json({kind: told, "time": moment(now)})


def _names_an_id(body: bytes) -> bool:
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return isinstance(found, dict) and bool(found.get("Id"))
