"""What may stand in the attributes of a person, and what the API answers where it may not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from connectors.quickbooks.simulator.replies import FaultError

NAME_PARTS = ("Title", "GivenName", "MiddleName", "FamilyName", "Suffix")
# attribute -> the most characters
TEXTS: Mapping[str, int] = {
    "DisplayName": 500,
    "Title": 16,
    "GivenName": 100,
    "MiddleName": 100,
    "FamilyName": 100,
    "Suffix": 16,
    "CompanyName": 100,
    "PrintOnCheckName": 110,
    "Notes": 2000,
    "ResaleNum": 16,
    "PrimaryTaxIdentifier": 30,
    "SecondaryTaxIdentifier": 30,
    "PreferredDeliveryMethod": 15,
    "GSTIN": 15,
    "GSTRegistrationType": 15,
    "BusinessNumber": 10,
    "OpenBalanceDate": 30,
    "Source": 30,
}
# attribute -> (the one text inside, the most characters)
WRAPPED: Mapping[str, tuple[str, int]] = {
    "PrimaryPhone": ("FreeFormNumber", 30),
    "AlternatePhone": ("FreeFormNumber", 30),
    "Mobile": ("FreeFormNumber", 30),
    "Fax": ("FreeFormNumber", 30),
    "PrimaryEmailAddr": ("Address", 100),
    "WebAddr": ("URI", 1000),
}
ADDRESSES = ("BillAddr", "ShipAddr")
REFERENCES = (
    "CustomerTypeRef",
    "ParentRef",
    "CurrencyRef",
    "DefaultTaxCodeRef",
    "SalesTermRef",
    "PaymentMethodRef",
    "ARAccountRef",
)
SWITCHES = ("Active", "Job", "BillWithParent", "Taxable")
# Sent back by those who write what they read; ignored.
READ_ONLY = (
    "Id",
    "SyncToken",
    "sparse",
    "domain",
    "MetaData",
    "FullyQualifiedName",
    "Level",
    "Balance",
    "BalanceWithJobs",
    "IsProject",
    "ClientEntityId",
    "V4IDPseudonym",
    "TaxExemptionReasonId",
    "status",
)
CHECKED = ("DisplayName", *NAME_PARTS, "PrintOnCheckName")
_FORBIDDEN_IN_NAMES = re.compile("[:\t\r\n]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """The writable attributes of a request; null and "" stand for nothing. Raises FaultError."""
    found: dict[str, Any] = {}
    for attribute, value in given.items():
        if attribute in READ_ONLY or attribute == "CustomField":
            continue
        if value is None or value == "":
            _known(attribute)
            found[attribute] = None
        elif attribute in TEXTS:
            found[attribute] = _text(attribute, value, TEXTS[attribute])
        elif attribute in WRAPPED:
            found[attribute] = _wrapped(attribute, value)
        elif attribute in SWITCHES:
            if not isinstance(value, bool):
                raise FaultError("2010", f"Property Name:{attribute} specified is unsupported or invalid")
            found[attribute] = value
        elif attribute in (*REFERENCES, *ADDRESSES) and isinstance(value, dict):
            found[attribute] = dict(value)
        else:
            raise FaultError("2010", f"Property Name:{attribute} specified is unsupported or invalid")
    return found


def _known(attribute: str) -> None:
    if attribute not in (*TEXTS, *WRAPPED, *SWITCHES, *REFERENCES, *ADDRESSES):
        raise FaultError("2010", f"Property Name:{attribute} specified is unsupported or invalid")


def _text(attribute: str, value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise FaultError("2010", f"Property Name:{attribute} specified is unsupported or invalid")
    if len(value) > most:
        raise FaultError(
            "2050",
            "String length specified does not match the supported length. "
            f"Min:0 Max:{most} supported. Supplied length:{len(value)}",
            element=attribute,
        )
    forbidden = _FORBIDDEN_IN_NAMES if attribute in CHECKED else _CONTROL
    if forbidden.search(value) or _CONTROL.search(value):
        raise FaultError(
            "2040", f"Invalid String. Element contains invalid characters : {attribute}", element=attribute
        )
    return value


def _wrapped(attribute: str, value: Any) -> dict[str, Any] | None:
    inside, most = WRAPPED[attribute]
    if not isinstance(value, dict) or set(value) - {inside, "Id", "Default", "Tag"}:
        raise FaultError("2010", f"Property Name:{attribute} specified is unsupported or invalid")
    text = value.get(inside)
    if text is None or text == "":
        return None
    text = _text(attribute, text, most)
    if attribute == "PrimaryEmailAddr" and not ("@" in text and "." in text):
        raise FaultError("2210", "Email Address does not conform to the RFC 822 syntax rules.", element=attribute)
    return {inside: text}
