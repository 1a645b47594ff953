"""What was sent to QuickBooks: one row for each request, with nothing in it that is a person's or a secret.

Payloads are redacted by keeping, never by removing: ids, SyncToken, the names of known attributes, codes. What is not on
the list is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_NAMES = """Active Balance BalanceWithJobs BillAddr BillWithParent City CompanyName Country CountrySubDivisionCode CurrencyRef
    CustomField CustomerTypeRef DefaultTaxCodeRef DefinitionId DisplayName FamilyName Fax FreeFormNumber FullyQualifiedName
    GivenName Id IsProject Job Level Line1 Line2 MetaData MiddleName Mobile Name Notes NumberValue DateValue StringValue
    ParentRef PaymentMethodRef PreferredDeliveryMethod PrimaryEmailAddr PrimaryPhone PrimaryTaxIdentifier PrintOnCheckName
    ResaleNum SalesTermRef ShipAddr Suffix SyncToken Taxable Title Type WebAddr Address PostalCode domain sparse status
    CreateTime LastUpdatedTime"""
ATTRIBUTES = frozenset(_NAMES.split())
ENTITIES = frozenset({"Customer", "CustomerType", "Vendor", "Employee", "CompanyInfo", "Preferences"})
_ID = re.compile(r"[A-Za-z0-9._:-]{1,50}")
_FROM = re.compile(r"\bFROM\s+(\w+)", re.IGNORECASE)
_WORD = re.compile(r"'(?:\\.|[^'\\])*'|([A-Za-z]+)")


@dataclass(frozen=True)
class Entry:
    """A row of `rowtide.quickbooks_audit`; moments in seconds since 1970, durations in seconds."""

    at: float
    realm_id: str
    operation: str
    outcome: str
    duration: float
    instance: str | None = None
    record: str | None = None
    requestid: str | None = None
    http_status: int | None = None
    fault_code: str | None = None
    tid: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    response: Mapping[str, Any] = field(default_factory=dict)


def kept_id(value: Any) -> str | None:
    """An id, SyncToken or intuit_tid if it looks like one."""
    text = str(value) if isinstance(value, str | int) else ""
    return text if _ID.fullmatch(text) else None


def element(name: str) -> str | None:
    """The attribute that a fault names, without its path, if it is one that we know."""
    last = re.split(r"[./]", name)[-1]
    return last if last in ATTRIBUTES else None


def entity(body: Mapping[str, Any]) -> dict[str, Any]:
    """What may be kept of a customer: its id, its SyncToken, which attributes are there."""
    found: dict[str, Any] = {"attributes": sorted(name for name in body if name in ATTRIBUTES)}
    for name in ("Id", "SyncToken"):
        if (told := kept_id(body.get(name))) is not None:
            found[name] = told
    return found


def question(statement: str) -> dict[str, Any]:
    """What may be kept of a query: the entity and the attributes it is about, no literal."""
    about = _FROM.search(statement)
    words = {word for word in _WORD.findall(statement) if word in ATTRIBUTES}
    return {"entity": about[1] if about and about[1] in ENTITIES else None, "attributes": sorted(words)}


def answered(document: Mapping[str, Any] | None) -> dict[str, Any]:
    """What may be kept of an answer: the entity's ids, or how many rows there were."""
    found: dict[str, Any] = {}
    for name, value in (document or {}).items():
        if name in ENTITIES and isinstance(value, Mapping):
            found[name] = entity(value)
        elif name == "QueryResponse" and isinstance(value, Mapping):
            found["rows"] = {
                key: len(rows) for key, rows in value.items() if key in ENTITIES and isinstance(rows, list)
            }
    return found


def elements(names: Sequence[str]) -> list[str]:
    """The known attributes that an answer's errors name."""
    return sorted(set(_known(names)))


def _known(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if (known := element(name)) is not None:
            yield known
