"""One table from what QuickBooks answers, its HTTP status and fault code, to what that means for the request.

Nothing here looks at a fault's `type` or at the text of its Detail: the gateway and the service word them as they like. The
same table judges a whole answer and an item of a batch, which has no status of its own and is taken as 200.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree as ET

_CODE = re.compile(r"errorCode=0*(\d{1,9})")
_NUMBER = re.compile(r"\d{1,9}")


class Verdict(StrEnum):
    """What became of a request."""

    DONE = "done"  # applied, and the entity is there
    NAME_TAKEN = "name taken"  # 6240: a customer, vendor or employee has the display name
    STALE = "stale"  # 5010: somebody changed the object; read it, merge, send under a new requestid
    GONE = "gone"  # 610: deleted, inactive or merged; never create blindly
    DATA = "data"  # not applied, and never will be as it is: for a person
    UNSUPPORTED = "unsupported"  # not applied; QuickBooks does not know the operation
    FEW_RETRIES = "few retries"  # 6000: try a few times, then park
    RETRY = "retry"  # not applied for certain: the same request may be sent again later
    UNKNOWN = "unknown"  # sent, and nobody knows whether it was applied: resolve it
    THROTTLED = "throttled"  # not applied; the whole company waits, and no attempt is spent
    BLOCKED = "blocked"  # nothing is sent for this company until a person, or a while, has changed that
    EXPIRED = "expired"  # the access token: the client renews it and sends again; never leaves the client


@dataclass(frozen=True)
class Rule:
    """A line of the table.

    Args:
        statuses: HTTP statuses for which it holds; empty: all.
        code: the fault code; None: whatever it is, or none.
        verdict: for a request that changes something; where it is UNKNOWN, a question is to be asked again (RETRY).
        reason: for people; no value of a customer.
    """

    statuses: frozenset[int]
    code: str | None
    verdict: Verdict
    reason: str


def _rules(codes: str, statuses: Sequence[int], verdict: Verdict, reason: str) -> list[Rule]:
    return [Rule(frozenset(statuses), code, verdict, reason) for code in codes.split()]


def _status(statuses: Sequence[int], verdict: Verdict, reason: str) -> Rule:
    return Rule(frozenset(statuses), None, verdict, reason)


_REFUSED = (200, 400, 401, 403, 404)
# The first line that fits counts. Faults come with 200 too, and in the items of a batch.
TABLE: tuple[Rule, ...] = (
    _status([429], Verdict.THROTTLED, "too many requests"),
    *_rules("3001", (), Verdict.THROTTLED, "too many requests"),
    *_rules("3200 100", (200, 400, 401, 403), Verdict.EXPIRED, "the access token is not accepted"),
    *_rules("120 3100 6190", _REFUSED, Verdict.BLOCKED, "QuickBooks refuses this app or this company's subscription"),
    *_rules("6240", _REFUSED, Verdict.NAME_TAKEN, "a customer, vendor or employee has this name already"),
    *_rules("5010", _REFUSED, Verdict.STALE, "the customer was changed in QuickBooks meanwhile"),
    *_rules("610", _REFUSED, Verdict.GONE, "the customer is deleted, inactive or merged in QuickBooks"),
    *_rules("2010 2020 2030 2040 2050 2500 4001", _REFUSED, Verdict.DATA, "QuickBooks does not accept the data"),
    *_rules("500", _REFUSED, Verdict.UNSUPPORTED, "QuickBooks does not know this operation, or not this encoding"),
    *_rules("6000", _REFUSED, Verdict.FEW_RETRIES, "QuickBooks could not process this request"),
    *_rules("10000", (), Verdict.UNKNOWN, "QuickBooks failed inside"),
    _status([401], Verdict.EXPIRED, "the access token is not accepted"),
    _status([403, 404, 407], Verdict.RETRY, "something before QuickBooks refused the request"),
    _status([408], Verdict.UNKNOWN, "QuickBooks waited too long for the request"),
    _status(range(300, 400), Verdict.RETRY, "the request was redirected, which is not followed"),
    _status(range(500, 600), Verdict.UNKNOWN, "QuickBooks, or something before it, failed"),
    _status([405, 406, 411, 413, 414, 415, 431], Verdict.UNSUPPORTED, "QuickBooks does not take such a request"),
    _status([200, *range(400, 500)], Verdict.DATA, "QuickBooks refused the request"),
    _status([], Verdict.UNKNOWN, "the answer makes no sense"),
)
NO_ENTITY = Rule(frozenset(), None, Verdict.UNKNOWN, "the answer has no usable content")
ACCEPTED = Rule(frozenset(), None, Verdict.DONE, "")

# Where a fault has several errors the gravest counts.
_GRAVITY = (
    Verdict.THROTTLED,
    Verdict.BLOCKED,
    Verdict.EXPIRED,
    Verdict.UNKNOWN,
    Verdict.UNSUPPORTED,
    Verdict.DATA,
    Verdict.GONE,
    Verdict.STALE,
    Verdict.NAME_TAKEN,
    Verdict.FEW_RETRIES,
    Verdict.RETRY,
)


@dataclass(frozen=True)
class Content:
    """An answer's body as far as it can be understood.

    Args:
        document: the JSON object; None where the body is none.
        codes: fault codes, leading zeros removed; "" for an error without.
        elements: the attributes that the errors name.
        faulty: whether it says that something failed.
    """

    document: Mapping[str, Any] | None
    codes: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    faulty: bool = False


def content(body: bytes) -> Content:
    """Understand a body: JSON, the gateway's JSON in lower case, XML; anything else is content without meaning."""
    text = body.strip()
    if text[:1] == b"<":
        return _xml(text)
    try:
        document = json.loads(text)
    except ValueError:
        return Content(None)
    return of_document(document) if isinstance(document, Mapping) else Content(None)


def of_document(document: Mapping[str, Any]) -> Content:
    """The same for a decoded object: a whole answer, or an item of a batch."""
    fault = document.get("Fault", document.get("fault"))
    if fault is None:
        return Content(document)
    errors = fault.get("Error", fault.get("error")) if isinstance(fault, Mapping) else None
    errors = errors if isinstance(errors, list) else [errors]
    errors = [error for error in errors if isinstance(error, Mapping)]
    codes = tuple(_code(error.get("code"), error.get("Message", error.get("message"))) for error in errors)
    elements = tuple(str(error["element"]) for error in errors if isinstance(error.get("element"), str))
    return Content(document, codes, elements, faulty=True)


def _code(code: Any, message: Any) -> str:
    """The code as digits. The gateway's message carries it as `errorCode=003001` where the field is absent."""
    told = str(code).strip() if code is not None else ""
    if _NUMBER.fullmatch(told):
        return str(int(told))
    found = _CODE.search(message) if isinstance(message, str) else None
    return found[1] if found else ""


def _xml(text: bytes) -> Content:
    if b"<!" in text.replace(b"<![CDATA[", b"").replace(b"<!--", b""):
        return Content(None)  # HTML has a doctype; one with entities of its own is not read at all
    try:
        root = ET.fromstring(text)  # noqa: S314 - entities cannot be declared without what was refused above
    except ET.ParseError:
        return Content(None)
    codes = []
    for element in root.iter():
        if element.tag.rpartition("}")[2].lower() == "error":
            parts = {child.tag.rpartition("}")[2].lower(): child.text for child in element}
            codes.append(_code(element.get("code") or parts.get("code"), parts.get("message")))
    faulty = any(element.tag.rpartition("}")[2].lower() == "fault" for element in root.iter())
    return Content(None, tuple(codes), faulty=faulty)


def judge(status: int, found: Content, *, mutating: bool) -> tuple[Rule, str | None]:
    """The line of the table that fits, and the fault code; of several errors the gravest.

    For 200 without a fault the line says DONE: whether the entity is there is the caller's to look (`NO_ENTITY`).
    """
    if status == 200 and not found.faulty:
        rule, code = (ACCEPTED if found.document is not None else NO_ENTITY), None
    else:
        fitting = [(_fitting(status, code), code or None) for code in found.codes or ("",)]
        rule, code = min(fitting, key=lambda one: _GRAVITY.index(one[0].verdict))
    return for_reading(rule, mutating=mutating), code


def for_reading(rule: Rule, *, mutating: bool) -> Rule:
    """The same line for a question, which leaves nothing unknown behind."""
    if mutating or rule.verdict is not Verdict.UNKNOWN:
        return rule
    return Rule(rule.statuses, rule.code, Verdict.RETRY, rule.reason)


def _fitting(status: int, code: str) -> Rule:
    return next(
        rule
        for rule in TABLE
        if (not rule.statuses or status in rule.statuses) and (rule.code is None or rule.code == code)
    )
