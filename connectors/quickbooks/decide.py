"""What to do next about one customer: pure decisions over what is stored and what QuickBooks answered.

    plan         what is wished and what QuickBooks holds -> the next request, or none
    judge        a request and its answer -> what that means
    judge_found  a create that may have been carried out, and who has its name -> whose that customer is
    judge_read   an update that was refused as stale, and the customer as it is -> whether it holds what was sent

A request that may have been carried out is *doubtful*. It is sent again with the same body and requestid until its
outcome is known; neither body nor name change before. What protects where QuickBooks has forgotten the requestid is
that a display name can be there once: so a create whose name is nowhere to be found is sent again with that name, and
never with another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from connectors.quickbooks import naming, notes
from connectors.quickbooks.customer import (
    Company,
    Definition,
    Entity,
    Wished,
    changed,
    differences,
    dropped_fields,
    fields_body,
    is_active,
    nested,
    prepare,
    update_body,
)
from connectors.quickbooks.faults import Verdict

Operation = Literal["create", "update", "fields"]
State = Literal["available", "running", "retryable", "synced", "failed", "parked"]
# What a customer may be sent without.
OPTIONAL = ("PrimaryEmailAddr", "PrimaryPhone", "CustomerTypeRef")
SKEW = 600.0  # seconds that QuickBooks' clock may be behind ours
FEW = 3  # how often what QuickBooks could not process (6000) is sent


@dataclass(frozen=True)
class Held:
    """What is known of a record's customer.

    Args:
        seed: random, of the record's first push; makes requestids differ from those of any other state database.
        sequence: number of the last request.
        version: of this row, as it was read.
        real_name: the real name for which the display name was chosen.
        display_name: as QuickBooks holds it.
        sent: attributes as they were sent, without Notes; None with an id: not known, to be read first.
        notes: all of Notes as last seen.
        fields_sent: custom fields as they were sent and came to stay.
        fields_refused: custom fields that did not, with the value.
        left_out: attributes that QuickBooks refused, with the value.
        names_refused: keys of display names that others have, by the real name they were tried for.
        doubt_since: since when creates of this record were given up without an answer.
        fingerprint: of the wish that QuickBooks holds.
        tried: of the wish last tried.
    """

    record: str
    seed: str
    kind: str | None = None
    sequence: int = 0
    version: int = 0
    quickbooks_id: str | None = None
    sync_token: str | None = None
    real_name: str | None = None
    display_name: str | None = None
    sent: Mapping[str, str] | None = None
    notes: str | None = None
    fields_sent: Mapping[str, str] = field(default_factory=dict)
    fields_refused: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    names_refused: Mapping[str, Sequence[str]] = field(default_factory=dict)
    doubt_since: float | None = None
    fingerprint: str | None = None
    tried: str | None = None
    state: State = "available"
    attempts: int = 0
    due_at: float | None = None
    reason: str | None = None
    remarks: str | None = None
    told: bool = True
    pushed_at: float | None = None
    pushed_by: str | None = None


@dataclass(frozen=True)
class Request:
    """A mutating request, stored before it is sent.

    Args:
        attributes: what it sends, flat, Notes included; texts that are empty empty the attribute.
        defined: custom fields that it sends: name -> (definition, type, value).
        name: the display name that it asks for, if any; `real_name` is what that was chosen for.
        since: when the first create was stored that may have made this customer (seconds since 1970).
        sent_at: when it was last sent, or stored.
        sends: how often an answer, or none, was recorded.
        refusals: how often QuickBooks could not process it.
        doubtful: whether it may have been carried out.
    """

    requestid: str
    record: str
    operation: Operation
    body: Mapping[str, Any]
    attributes: Mapping[str, str]
    stored_at: float
    since: float
    sent_at: float
    defined: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name: str | None = None
    real_name: str | None = None
    batch_id: str | None = None
    position: int | None = None
    sends: int = 0
    refusals: int = 0
    doubtful: bool = False


# --- what to ask for ---


@dataclass(frozen=True)
class Change:
    """A request that is to be made."""

    operation: Operation
    body: Mapping[str, Any]
    attributes: Mapping[str, str]
    defined: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name: str | None = None


class Next(Enum):
    """What else can be next."""

    NOTHING = "QuickBooks holds what is wished"
    READ = "what QuickBooks holds is not known"
    NO_NAME = "every display name is taken"


@dataclass(frozen=True)
class Plan:
    """What is next, and what was left out of it."""

    step: Change | Next
    remarks: tuple[str, ...] = ()


def plan(wished: Wished, held: Held, company: Company, taken: Collection[str] = ()) -> Plan:
    """The next request for a record without an open one. `taken`: keys of names that other records of ours have."""
    left_out = [name for name, value in held.left_out.items() if value == _optional(wished, company).get(name)]
    refused = [name for name, value in held.fields_refused.items() if value == wished.fields.get(name)]
    ready = prepare(wished, company, left_out=left_out, refused_fields=refused)
    remarks = [*ready.remarks, *(f"{name} did not come to stay in its custom field" for name in refused)]
    if held.quickbooks_id is not None and held.sent is None:
        return Plan(Next.READ)
    name = _name(wished, held, taken)
    if name is None:
        return Plan(Next.NO_NAME, tuple(remarks))
    merged = notes.merge(held.notes, ready.in_notes)
    remarks += [f"{field} has no room in Notes" for field in merged.left_out]
    if held.quickbooks_id is None:
        sends = {"DisplayName": name, **ready.attributes, **({"Notes": merged.text} if merged.text else {})}
        return Plan(Change("create", nested(sends), sends, name=name), tuple(remarks))
    quickbooks_id, token, sent = held.quickbooks_id, held.sync_token or "0", held.sent or {}
    differing = changed({"DisplayName": name, **ready.attributes}, sent)
    if merged.text != notes.plain(held.notes):
        differing["Notes"] = merged.text
    if differing:
        body = update_body(quickbooks_id, token, differing)
        return Plan(Change("update", body, differing, name=differing.get("DisplayName")), tuple(remarks))
    defined = {key: entry for key, entry in ready.defined.items() if held.fields_sent.get(key) != entry[1]}
    emptied = {
        key: (place, "")
        for key in held.fields_sent
        if key not in ready.defined
        and held.fields_sent[key]
        and company.has_definitions
        and isinstance(place := company.places.get(key), Definition)
        and place.type == "string"
    }
    if defined or emptied:
        entries = {**defined, **emptied}
        flat = {key: (*definition, value) for key, (definition, value) in entries.items()}
        return Plan(Change("fields", fields_body(quickbooks_id, token, entries), {}, flat), tuple(remarks))
    return Plan(Next.NOTHING, tuple(remarks))


def reactivation(held: Held) -> Change:
    """The request that takes a deactivated customer back into use, under the name it had."""
    name = {"DisplayName": held.display_name} if held.display_name else {}
    body = {**update_body(held.quickbooks_id or "", held.sync_token or "0", name), "Active": True}
    return Change("update", body, name)


def pruned(held: Held, wished: Wished, company: Company) -> Held:
    """Without the memory of refused values that are wished no more."""
    present = _optional(wished, company)
    kept = {name: value for name, value in held.left_out.items() if present.get(name) == value}
    refused = {name: value for name, value in held.fields_refused.items() if wished.fields.get(name) == value}
    return replace(held, left_out=kept, fields_refused=refused)


def _name(wished: Wished, held: Held, taken: Collection[str]) -> str | None:
    """The display name it keeps or takes; None: all are taken."""
    if held.display_name and held.quickbooks_id:
        if held.real_name == wished.real_name:
            return held.display_name
        # What only the log told has no real name with it: a name that the record may have stays.
        if held.real_name is None and naming.key(held.display_name) in map(naming.key, wished.names):
            return held.display_name
    refused = {*held.names_refused.get(wished.real_name, ()), *taken}
    return next((name for name in wished.names if naming.key(name) not in refused), None)


def _optional(wished: Wished, company: Company) -> dict[str, str]:
    """The attributes without which a customer may be sent, as they would be sent."""
    ready = prepare(wished, company)
    return {name: ready.attributes[name] for name in OPTIONAL if name in ready.attributes}


def requestid(realm: str, instance: str, held: Held) -> str:
    """The requestid of the record's next request: made from which change it is, never from what it holds.

    A repeated value (A, B, A) is another change. At most 40 characters; QuickBooks takes 50.
    """
    text = "\0".join((realm, instance, held.record, held.seed, str(held.sequence + 1)))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def batch_requestid(requestids: Sequence[str]) -> str:
    """The requestid of a batch of these requests; QuickBooks takes 36 characters."""
    return hashlib.sha256("\0".join(requestids).encode()).hexdigest()[:32]


def new_request(realm: str, instance: str, held: Held, change: Change, wished: Wished, now: float) -> Request:
    """The request for a change, to be stored."""
    doubt = held.doubt_since if change.operation == "create" else None
    return Request(
        requestid(realm, instance, held),
        held.record,
        change.operation,
        change.body,
        change.attributes,
        now,
        min(now, doubt) if doubt is not None else now,
        now,
        defined=change.defined,
        name=change.name,
        real_name=wished.real_name,
        doubtful=doubt is not None,
    )


# --- what an answer means ---


class Ruling(Enum):
    """What an answer means for the request."""

    APPLIED = "applied"
    NAME_REFUSED = "another has the name"
    REFUSED = "refused for certain"
    LOOK_UP = "look up who has the name"
    READ = "read the customer"
    GONE = "find out what became of the customer"
    UNKNOWN = "nobody knows: again"
    RETRY = "not applied: again"
    FEW = "could not be processed: again, a few times"
    PUT_BACK = "nothing was tried that counts"


def judge(request: Request, verdict: Verdict) -> Ruling:
    """What an answer means."""
    if verdict is Verdict.NAME_TAKEN:
        return Ruling.LOOK_UP if request.doubtful and request.name else Ruling.NAME_REFUSED
    if verdict is Verdict.STALE:
        return Ruling.READ if request.operation != "create" else Ruling.REFUSED
    if verdict is Verdict.GONE:
        return Ruling.GONE if request.operation != "create" else Ruling.REFUSED
    return _RULINGS[verdict]


_RULINGS = {
    Verdict.DONE: Ruling.APPLIED,
    Verdict.DATA: Ruling.REFUSED,
    Verdict.UNSUPPORTED: Ruling.REFUSED,
    Verdict.FEW_RETRIES: Ruling.FEW,
    Verdict.RETRY: Ruling.RETRY,
    Verdict.UNKNOWN: Ruling.UNKNOWN,
    Verdict.THROTTLED: Ruling.PUT_BACK,
    Verdict.BLOCKED: Ruling.PUT_BACK,
    Verdict.EXPIRED: Ruling.PUT_BACK,
}


@dataclass(frozen=True)
class Found:
    """Something in QuickBooks that has a name, or was made since: `kind` is Customer, Vendor or Employee."""

    kind: str
    entity: Entity

    @property
    def id(self) -> str:
        """Its id, unique within its kind."""
        return str(self.entity.get("Id", ""))


def judge_found(
    request: Request, found: Sequence[Found], mapped: Mapping[str, str], quickbooks_id: str | None
) -> tuple[Ruling, Entity | None]:
    """Whose is the name that a request asked for, or a customer made since.

    Args:
        request: doubtful, of a record without a customer; or one that renames the customer it has.
        found: everything that has the request's name, and customers made since it was first stored.
        mapped: the owners of customers in the map, by id; this record's own is not among them.
        quickbooks_id: of the record's own customer, if it has one: then the request renames it.

    Returns APPLIED with the customer, NAME_REFUSED, or UNKNOWN where nobody has the name.
    """
    found = list({(one.kind, one.id): one for one in found}.values())
    wanted = naming.key(request.name or "")
    named = [one for one in found if naming.key(str(one.entity.get("DisplayName", ""))) == wanted]
    if quickbooks_id is not None:
        own = next((one for one in named if one.kind == "Customer" and one.id == quickbooks_id), None)
        if own is not None:
            return (Ruling.APPLIED, own.entity)
        return (Ruling.NAME_REFUSED if named else Ruling.UNKNOWN), None
    ours = [one for one in named if _is_ours(request, one, mapped, dict(request.attributes))]
    if not ours and request.since < request.stored_at:
        # An earlier create was given up in doubt, and the source has changed since: the name is reserved for this record,
        # so what has both the name and a block of ours is what that one made.
        ours = [
            one
            for one in named
            if notes.fields_in(one.entity.get("Notes"))
            and _is_ours(request, one, mapped, {"DisplayName": str(request.name)})
        ]
    if not ours and not named:
        # A person may have renamed, or deactivated, what we made: everything else is then as it was sent.
        rest = {name: value for name, value in request.attributes.items() if name != "DisplayName"}
        ours = [one for one in found if _is_ours(request, one, mapped, rest)] if len(rest) > 1 else []
    if len(ours) == 1:
        return Ruling.APPLIED, ours[0].entity
    return (Ruling.NAME_REFUSED if named else Ruling.UNKNOWN), None


def _is_ours(request: Request, one: Found, mapped: Mapping[str, str], sent: Mapping[str, str]) -> bool:
    made = created_at(one.entity)
    return (
        one.kind == "Customer"
        and bool(one.id)
        and one.id not in mapped
        and (made is None or made >= request.since - SKEW)
        and not differences(sent, one.entity)
    )


def judge_read(request: Request, entity: Entity) -> Ruling:
    """Whether a customer holds what an update sent: APPLIED, else REFUSED (it has to be made anew on what is there)."""
    if request.operation == "fields":
        return Ruling.REFUSED if dropped_fields(definitions(request), entity) else Ruling.APPLIED
    return Ruling.REFUSED if differences(request.attributes, entity) else Ruling.APPLIED


def created_at(entity: Entity) -> float | None:
    """When QuickBooks made an entity, in seconds since 1970; None where it does not tell."""
    data = entity.get("MetaData")
    text = data.get("CreateTime") if isinstance(data, Mapping) else None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def inactive(entity: Entity) -> bool:
    """Whether a person has deactivated the customer."""
    return not is_active(entity)


def definitions(request: Request) -> dict[str, tuple[Definition, str]]:
    """The custom fields that a request sends."""
    return {name: (Definition(id_, kind), value) for name, (id_, kind, value) in request.defined.items()}
