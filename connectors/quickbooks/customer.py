"""The customer: as it is wished, as it is sent, and what is compared. Pure; knows nothing of where either comes from.

Attributes are flat here (`PrimaryPhone` is a text) and nested only in a body. An attribute that is absent is empty.
What was sent is remembered as it was sent, never as QuickBooks returned it: some of what it returns is masked or
rewritten, and must not be written back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from connectors.errors import RowtideError
from connectors.quickbooks import naming, notes

PARTS = {"GivenName": naming.NAME_PART, "MiddleName": naming.NAME_PART, "FamilyName": naming.NAME_PART}
PHONE, EMAIL = 30, 100  # characters
# Attributes that are objects in a body, with the name inside that holds the text.
_NESTED = {"PrimaryPhone": "FreeFormNumber", "PrimaryEmailAddr": "Address", "CustomerTypeRef": "value"}
ATTRIBUTES = ("DisplayName", *PARTS, *_NESTED)
_ADDRESS = re.compile(r"[^@\s,;:<>()\[\]\\\"]+@[^@\s,;:<>()\[\]\\\"]+\.[^@\s.,;:<>()\[\]\\\"]+")
_DEFINITION = re.compile(r"definition:(\d+)(?::(string|number|date))?", re.IGNORECASE)
_TYPED = {"string": ("StringType", "StringValue"), "number": ("NumberType", "NumberValue"),
          "date": ("DateType", "DateValue")}  # fmt: skip
MOST_DEFINITIONS = 12
TYPE_FIELD = "CustomerType"

Entity = Mapping[str, Any]


@dataclass(frozen=True)
class Wished:
    """A customer as the models say it should be.

    Args:
        record: whose customer it is, as in "student:9".
        real_name: the display name where it is free.
        name_suffix: what tells namesakes apart.
        known_id: the id that the source itself holds; only for adoption.
        fields: what QuickBooks has no attribute for, by name; empty values are left out.
        fingerprint: changes whenever something that is sent does.
    """

    record: str
    kind: str
    record_id: str
    real_name: str
    fingerprint: str
    name_suffix: str | None = None
    known_id: str | None = None
    given_name: str | None = None
    middle_name: str | None = None
    family_name: str | None = None
    phone: str | None = None
    email: str | None = None
    customer_type: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The display names to try, in order."""
        return naming.candidates(self.real_name, self.name_suffix, self.record, self.record_id)


class Definition(NamedTuple):
    """A custom field of the company: its id, and the type of its values (string, number or date)."""

    id: str
    type: str


@dataclass(frozen=True)
class Company:
    """What bodies depend on besides the customer.

    Args:
        places: where fields go, by name: a Definition, "notes" or "nothing"; fields without an entry go to Notes.
        types: the company's customer types: name in lower case -> id.
        has_definitions: whether the company takes custom fields of customers; where not, they go to Notes.
    """

    places: Mapping[str, Definition | str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    has_definitions: bool = True


def read_places(entries: Mapping[str, str]) -> dict[str, Definition | str]:
    """`[quickbooks.fields]` of the settings: "definition:3", "definition:3:number", "notes" or "nothing" for each field."""
    found: dict[str, Definition | str] = {}
    for name, text in entries.items():
        match = _DEFINITION.fullmatch(text.strip())
        if match:
            found[name] = Definition(match[1], (match[2] or "string").lower())
        elif text in ("notes", "nothing"):
            found[name] = text
        else:
            raise RowtideError(
                f"The setting quickbooks.fields.{name} is wrong: “{text}”.",
                hint='Write "definition:3" (the id of a custom field), "notes" or "nothing".',
            )
    definitions = [place for place in found.values() if isinstance(place, Definition)]
    if len(definitions) > MOST_DEFINITIONS:
        raise RowtideError(
            f"The settings name {len(definitions)} custom fields; QuickBooks has at most {MOST_DEFINITIONS}.",
            hint='Put some of [quickbooks.fields] to "notes".',
        )
    if len({definition.id for definition in definitions}) < len(definitions):
        raise RowtideError(
            "Two fields of the settings go into one custom field.",
            hint="Give each entry of [quickbooks.fields] a definition of its own.",
        )
    return found


class Prepared(NamedTuple):
    """A wished customer as it can be sent, without its display name.

    Args:
        attributes: flat, only those that are not empty.
        in_notes: fields for the block in Notes.
        defined: fields for custom fields, by name.
        remarks: what was left out or cut, without values.
    """

    attributes: dict[str, str]
    in_notes: dict[str, str]
    defined: dict[str, tuple[Definition, str]]
    remarks: tuple[str, ...]


def prepare(
    wished: Wished, company: Company, *, left_out: Collection[str] = (), refused_fields: Collection[str] = ()
) -> Prepared:
    """Bring a wished customer into QuickBooks' limits. Nothing is a reason to fail.

    Args:
        wished: as the models say.
        company: what else bodies depend on.
        left_out: attributes that QuickBooks refused with these values.
        refused_fields: fields that did not come to stay in their definition; they go to Notes.
    """
    attributes: dict[str, str] = {}
    remarks: list[str] = []
    given = {"GivenName": wished.given_name, "MiddleName": wished.middle_name, "FamilyName": wished.family_name}
    for name, limit in PARTS.items():
        cleaned = naming.clean(given[name], limit)
        if cleaned.text:
            attributes[name] = cleaned.text
        if cleaned.cut:
            remarks.append(f"{name} was cut to {limit} characters")
    if naming.clean(wished.real_name, naming.DISPLAY_NAME).cut:
        remarks.append(f"DisplayName was cut to {naming.DISPLAY_NAME} characters")
    for name, value, problem in (
        ("PrimaryPhone", *fit_phone(wished.phone)),
        ("PrimaryEmailAddr", *fit_email(wished.email)),
    ):
        if problem:
            remarks.append(f"{name} was left out: {problem}")
        elif value and name in left_out:
            remarks.append(f"{name} was left out: QuickBooks refuses it")
        elif value:
            attributes[name] = value
    fields = {name: text for name, value in wished.fields.items() if (text := naming.clean(value, 10_000).text)}
    if wished.customer_type:
        type_id = company.types.get(wished.customer_type.lower())
        if type_id and "CustomerTypeRef" not in left_out:
            attributes["CustomerTypeRef"] = type_id
        else:
            fields = {TYPE_FIELD: wished.customer_type, **fields}
    in_notes: dict[str, str] = {}
    defined: dict[str, tuple[Definition, str]] = {}
    for name, value in fields.items():
        place = company.places.get(name, "notes")
        if isinstance(place, Definition) and company.has_definitions and name not in refused_fields:
            defined[name] = (place, value)
        elif place != "nothing":
            in_notes[name] = value
    return Prepared(attributes, in_notes, defined, tuple(remarks))


def fit_phone(text: str | None) -> tuple[str, str]:
    """A phone number and "", or "" and why it cannot be sent."""
    phone = " ".join((text or "").split())
    if not phone:
        return "", ""
    if len(phone) > PHONE:
        return "", f"longer than {PHONE} characters"
    if not any(character.isdigit() for character in phone) or not phone.isprintable():
        return "", "not a phone number"
    return phone, ""


def fit_email(text: str | None) -> tuple[str, str]:
    """An e-mail address and "", or "" and why it cannot be sent."""
    address = (text or "").strip()
    if not address:
        return "", ""
    if len(address) > EMAIL:
        return "", f"longer than {EMAIL} characters"
    sane = _ADDRESS.fullmatch(address) and ".." not in address and address.isprintable() and "@." not in address
    return (address, "") if sane and not address.startswith(".") else ("", "not an e-mail address")


# --- bodies ---


def nested(attributes: Mapping[str, str]) -> dict[str, Any]:
    """The part of a body that holds these attributes. An empty text empties the attribute."""
    return {name: {_NESTED[name]: value} if name in _NESTED else value for name, value in attributes.items()}


def update_body(quickbooks_id: str, sync_token: str, attributes: Mapping[str, str]) -> dict[str, Any]:
    """A sparse update: what is not named stays."""
    return {"Id": quickbooks_id, "SyncToken": sync_token, "sparse": True, **nested(attributes)}


def fields_body(quickbooks_id: str, sync_token: str, defined: Mapping[str, tuple[Definition, str]]) -> dict[str, Any]:
    """A sparse update of custom fields alone."""
    entries = []
    for definition, value in defined.values():
        kind, slot = _TYPED[definition.type]
        entries.append({"DefinitionId": definition.id, "Type": kind, slot: value})
    return {"Id": quickbooks_id, "SyncToken": sync_token, "sparse": True, "CustomField": entries}


# --- comparing ---


def changed(wished: Mapping[str, str], sent: Mapping[str, str]) -> dict[str, str]:
    """The attributes that differ from what was sent; those to be emptied with an empty text."""
    found = {name: value for name, value in wished.items() if sent.get(name, "") != value}
    # A type once given stays: a sparse update cannot take it away.
    gone = [name for name in sent if name not in wished and sent[name] and name != "CustomerTypeRef"]
    return {**found, **dict.fromkeys((name for name in gone if name in ATTRIBUTES), "")}


def attributes_of(entity: Entity) -> dict[str, str]:
    """The attributes of a customer as QuickBooks tells them, flat, without Notes; only those we ever send."""
    found: dict[str, str] = {}
    for name in ATTRIBUTES:
        value = entity.get(name)
        if name in _NESTED:
            value = value.get(_NESTED[name]) if isinstance(value, Mapping) else None
        if value:
            found[name] = str(value)
    return found


def known_of(entity: Entity, wished: Wished) -> dict[str, str]:
    """The attributes that a customer holds and a wish has too: what the wish has nothing for is not ours to empty."""
    ready = prepare(wished, Company()).attributes
    return {
        name: value
        for name, value in attributes_of(entity).items()
        if name in ready or name in ("DisplayName", "CustomerTypeRef")
    }


def differences(sent: Mapping[str, str], entity: Entity) -> list[str]:
    """The names of the attributes in which a customer differs from what was sent to it; Notes by lines."""
    held = attributes_of(entity)
    found = [
        name
        for name, value in sent.items()
        if name in ATTRIBUTES and _compared(name, held.get(name, "")) != _compared(name, value)
    ]
    if "Notes" in sent and notes.plain(str(entity.get("Notes") or "")).strip() != notes.plain(sent["Notes"]).strip():
        found.append("Notes")
    return found


def dropped_fields(defined: Mapping[str, tuple[Definition, str]], entity: Entity) -> list[str]:
    """The names of the custom fields that the answer does not hold as they were sent: QuickBooks drops them in silence."""
    held: dict[str, str] = {}
    entries = entity.get("CustomField")
    for entry in entries if isinstance(entries, list) else []:
        values = [entry.get(slot) for _, slot in _TYPED.values() if entry.get(slot) is not None]
        if values:
            held[str(entry.get("DefinitionId"))] = str(values[0])
    return [name for name, (definition, value) in defined.items() if held.get(definition.id) != value]


def is_active(entity: Entity) -> bool:
    """Whether a customer is in use; one that does not tell is."""
    return entity.get("Active", True) is not False


def _compared(name: str, value: str) -> str:
    text = " ".join(value.split())
    return text.casefold() if name == "PrimaryEmailAddr" else text
