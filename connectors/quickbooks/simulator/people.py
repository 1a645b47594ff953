"""Creating, updating and showing customers, vendors and employees, by the rules of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.quickbooks.simulator.company import Company, Entry, Kind
from connectors.quickbooks.simulator.names import ADDRESSES, NAME_PARTS, check
from connectors.quickbooks.simulator.replies import FaultError, stamp

ENHANCED = "enhancedAllCustomFields"
_VALUES = {"StringType": "StringValue", "NumberType": "NumberValue", "DateType": "DateValue"}
# What is told of a country, whatever was written; a few, the others as they are.
_COUNTRIES = {
    "US": "USA", "UNITED STATES": "USA", "GB": "GBR", "UK": "GBR", "UNITED KINGDOM": "GBR", "KE": "KEN", "KENYA": "KEN",
    "UG": "UGA", "UGANDA": "UGA", "TZ": "TZA", "TANZANIA": "TZA", "RW": "RWA", "RWANDA": "RWA", "ZA": "ZAF",
    "SOUTH AFRICA": "ZAF", "NG": "NGA", "NIGERIA": "NGA", "GH": "GHA", "GHANA": "GHA", "CA": "CAN", "CANADA": "CAN",
    "DE": "DEU", "GERMANY": "DEU", "FR": "FRA", "FRANCE": "FRA", "IN": "IND", "INDIA": "IND", "AU": "AUS",
    "AUSTRALIA": "AUS", "IE": "IRL", "IRELAND": "IRL", "NL": "NLD", "NETHERLANDS": "NLD",
}  # fmt: skip


def write(company: Company, kind: Kind, body: Mapping[str, Any], now: float, *, include: str = "") -> dict[str, Any]:
    """Create the object, or update the one whose Id is given. Returns it as told. Raises FaultError."""
    entry = _update(company, kind, body, now) if body.get("Id") else _create(company, kind, body, now)
    if ENHANCED in include.split(",") and company.has_enhanced_fields and kind == "Customer":
        _customize(company, entry, body)
    return show(company, entry, include=include)


def read(company: Company, kind: str, number: str, *, include: str = "") -> dict[str, Any]:
    """The object as told, inactive or not. Raises FaultError where there is none."""
    return show(company, _found(company, kind, number), include=include)


def show(company: Company, entry: Entry, *, include: str = "") -> dict[str, Any]:
    """An object as the API tells it: with what it adds, and without what it hides."""
    if entry.gone:
        changed = {"CreateTime": stamp(entry.created), "LastUpdatedTime": stamp(entry.updated)}
        return {"domain": "QBO", "status": "Deleted", "Id": entry.id, "MetaData": changed}
    told: dict[str, Any] = {attribute: value for attribute, value in entry.fields.items() if value is not None}
    for attribute in ("PrimaryTaxIdentifier", "SecondaryTaxIdentifier"):
        if attribute in told:
            told[attribute] = masked(told[attribute])
    for attribute in ADDRESSES:
        if "Country" in told.get(attribute, {}):
            country = str(told[attribute]["Country"])
            told[attribute] = {**told[attribute], "Country": _COUNTRIES.get(country.upper(), country)}
    if entry.kind == "Customer":
        told = {
            "Taxable": True,
            "Job": False,
            "BillWithParent": False,
            "Balance": 0,
            "BalanceWithJobs": 0,
            "PreferredDeliveryMethod": "Print",
            "IsProject": False,
            "CurrencyRef": {"value": "USD", "name": "United States Dollar"},
            "FullyQualifiedName": _qualified(company, entry),
            **told,
        }
    if ENHANCED in include.split(",") and company.has_enhanced_fields and entry.custom:
        told["CustomField"] = [
            {"DefinitionId": number, "Name": definition.name, "Type": definition.type, _VALUES[definition.type]: value}
            for number, value in entry.custom.items()
            if (definition := company.custom_fields.get(number))
        ]
    return {
        **told,
        "Active": entry.active,
        "domain": "QBO",
        "sparse": False,
        "Id": entry.id,
        "SyncToken": str(entry.version),
        "MetaData": {"CreateTime": stamp(entry.created), "LastUpdatedTime": stamp(entry.updated)},
    }


def masked(text: str) -> str:
    """An identifier as it is told: its last five characters."""
    plain = "".join(letter for letter in text if letter.isalnum())
    return f"XXXXXX{plain[-5:]}"


def deactivate(entry: Entry, company: Company) -> None:
    """Make it inactive, which renames it."""
    if entry.active:
        entry.active = False
        name = f"{entry.name} (deleted)"
        number = 1
        while company.named(name):
            number += 1
            name = f"{entry.fields['DisplayName']} (deleted {number})"
        entry.fields["DisplayName"] = name


def activate(entry: Entry, company: Company) -> None:
    """Make it active; it gets its name back where that is free. Raises FaultError where its present one is not."""
    if not entry.active:
        plain = entry.name.rpartition(" (deleted")[0]
        if plain and not company.taken(plain, but=entry):
            entry.fields["DisplayName"] = plain
        if company.taken(entry.name, but=entry):
            raise FaultError("6240")
        entry.active = True


def _create(company: Company, kind: Kind, body: Mapping[str, Any], now: float) -> Entry:
    given = check(body)
    active = given.pop("Active", None)
    fields = {attribute: value for attribute, value in given.items() if value is not None}
    _refer(company, fields)
    name = fields.get("DisplayName") or _joined(fields)
    if not name.strip():
        raise FaultError("6080")
    fields["DisplayName"] = name.strip()
    fields.setdefault("PrintOnCheckName", fields["DisplayName"][:110])
    if company.taken(fields["DisplayName"]):
        raise FaultError("6240")
    entry = company.new(kind, fields, now)
    if active is False:
        company.change(entry, now, lambda made: deactivate(made, company))
        entry.version = 0
    return entry


def _update(company: Company, kind: Kind, body: Mapping[str, Any], now: float) -> Entry:
    entry = _found(company, kind, str(body["Id"]))
    token = body.get("SyncToken")
    if token is None or token == "":
        raise FaultError("2020", "Required parameter SyncToken is missing in the request", element="SyncToken")
    if not entry.active and body.get("Active") is not True:
        raise FaultError(
            "610", "Object Not Found : Something you're trying to use has been made inactive. Check the fields."
        )
    if str(token) != str(entry.version):
        raise FaultError("5010")
    given = check(body)
    active = given.pop("Active", None)
    _refer(company, given)
    sparse = body.get("sparse") is True
    named = not sparse or bool(given.get("DisplayName"))
    if sparse:
        fields = {**entry.fields, **{n: v for n, v in given.items() if v is not None or n not in _STAYS}}
    else:
        fields = {attribute: value for attribute, value in given.items() if value is not None}
        fields["DisplayName"] = fields.get("DisplayName") or _joined(fields) or entry.name
        fields.setdefault("PrintOnCheckName", fields["DisplayName"][:110])
    fields = {attribute: value for attribute, value in fields.items() if value is not None}
    fields["DisplayName"] = fields["DisplayName"].strip()
    if (
        (entry.active or active)
        and fields["DisplayName"] != entry.name
        and company.taken(fields["DisplayName"], but=entry)
    ):
        raise FaultError("6240")

    def act(found: Entry) -> None:
        if active is True:
            activate(found, company)
        renamed = fields["DisplayName"] if named else found.name
        found.fields = {**fields, "DisplayName": renamed}
        if active is False:
            deactivate(found, company)

    company.change(entry, now, act)
    return entry


_STAYS = ("DisplayName", "PrintOnCheckName")  # cannot be removed by a sparse update


def _found(company: Company, kind: str, number: str) -> Entry:
    if not number.isdigit():
        raise FaultError("2030", f"Id should be a valid number. Supplied value:{number}", element="Id")
    entry = company.find(kind, number)
    if entry is None:
        why = "Something you're trying to use has been made inactive. Check the fields with accounts, customers, "
        raise FaultError("610", f"Object Not Found : {why}items, vendors or employees.")
    return entry


def _refer(company: Company, fields: Mapping[str, Any]) -> None:
    """What is referred to is there and active."""
    kind = fields.get("CustomerTypeRef")
    if kind is not None and str(kind.get("value")) not in company.customer_types:
        raise FaultError(
            "2500", f"Invalid Reference Id : CustomerTypeRef {kind.get('value')}", element="CustomerTypeRef"
        )
    parent = fields.get("ParentRef")
    if parent is not None:
        found = company.find("Customer", str(parent.get("value")))
        if found is None or not found.active:
            raise FaultError("2500", f"Invalid Reference Id : ParentRef {parent.get('value')}", element="ParentRef")


def _customize(company: Company, entry: Entry, body: Mapping[str, Any]) -> None:
    """Keep the custom fields that fit their definition; the others are dropped without a word."""
    given = body.get("CustomField")
    if not isinstance(given, list):
        return
    if body.get("sparse") is not True:
        entry.custom = {}
    for item in given:
        if not isinstance(item, dict):
            continue
        number = str(item.get("DefinitionId"))
        definition = company.custom_fields.get(number)
        if definition is None or item.get("Type") != definition.type:
            continue
        value = item.get(_VALUES[definition.type])
        if value is None or value == "":
            entry.custom.pop(number, None)
        elif isinstance(value, int | float) == (definition.type == "NumberType"):
            entry.custom[number] = value


def _joined(fields: Mapping[str, Any]) -> str:
    return " ".join(str(fields[part]).strip() for part in NAME_PARTS if fields.get(part))


def _qualified(company: Company, entry: Entry, levels: int = 5) -> str:
    parent = company.find("Customer", str((entry.fields.get("ParentRef") or {}).get("value")))
    return f"{_qualified(company, parent, levels - 1)}:{entry.name}" if parent and levels else entry.name
