"""What is known of a record's customer after something became of a request. Pure: what was known in, what is known out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from connectors.quickbooks import naming
from connectors.quickbooks.customer import Entity, Wished, attributes_of, dropped_fields
from connectors.quickbooks.decide import OPTIONAL, Held, Request, definitions


def applied(held: Held, request: Request, entity: Entity, now: float, by: str) -> Held:
    """What is known once a request was carried out and `entity` is the customer since."""
    refused, stayed = dict(held.fields_refused), dict(held.fields_sent)
    if request.operation == "fields":
        dropped = dropped_fields(definitions(request), entity)
        for name, (_, _, value) in request.defined.items():
            if name in dropped and value:
                refused[name] = value
            else:
                stayed[name] = value
                refused.pop(name, None)
    sent = {**(held.sent or {}), **{name: value for name, value in request.attributes.items() if name != "Notes"}}
    told_notes = entity.get(
        "Notes", request.attributes.get("Notes", held.notes if request.operation != "create" else "")
    )
    return replace(
        held,
        quickbooks_id=str(entity.get("Id") or held.quickbooks_id),
        sync_token=str(entity.get("SyncToken", held.sync_token or "0")),
        sent={name: value for name, value in sent.items() if value},
        notes=str(told_notes or ""),
        display_name=request.name or held.display_name,
        real_name=request.real_name if request.name else held.real_name,
        names_refused={} if request.name else held.names_refused,
        fields_sent={name: value for name, value in stayed.items() if value},
        fields_refused=refused,
        doubt_since=None,
        attempts=0,
        pushed_at=now,
        pushed_by=by,
    )


def read(held: Held, entity: Entity, sent: Mapping[str, str] | None = None) -> Held:
    """What is known once the customer was read.

    Args:
        held: as known before.
        entity: the customer now.
        sent: what counts as sent from now on; None: what was sent. Then what a person changed since stays.
    """
    name = attributes_of(entity).get("DisplayName")
    named = {"DisplayName": name} if name else {}
    return replace(
        held,
        sync_token=str(entity.get("SyncToken", held.sync_token or "0")),
        sent={**(held.sent if sent is None and held.sent is not None else sent or {}), **named},
        display_name=name or held.display_name,
        notes=str(entity.get("Notes") or ""),
    )


def finished(held: Held, wished: Wished, remarks: Sequence[str], now: float, by: str) -> Held:
    """What is known once QuickBooks holds what is wished."""
    return replace(
        held,
        state="synced",
        fingerprint=wished.fingerprint,
        tried=wished.fingerprint,
        real_name=wished.real_name,
        attempts=0,
        due_at=None,
        reason=None,
        remarks="; ".join(remarks) or None,
        told=False,
        pushed_at=now if held.fingerprint != wished.fingerprint else held.pushed_at,
        pushed_by=by if held.fingerprint != wished.fingerprint else held.pushed_by,
    )


def name_refused(held: Held, request: Request) -> Held:
    """What is known once another has the name that a request asked for."""
    real = request.real_name or ""
    keys = [*held.names_refused.get(real, ()), naming.key(request.name or "")]
    return replace(held, names_refused={real: keys}, doubt_since=None)


# In which order that is tried where QuickBooks refuses the data: nothing else is lost than what it does not take.
_TRIALS: tuple[tuple[str, ...], ...] = (
    ("PrimaryEmailAddr",),
    ("PrimaryPhone",),
    ("CustomerTypeRef",),
    ("PrimaryEmailAddr", "PrimaryPhone"),
    OPTIONAL,
)


def without(held: Held, request: Request) -> Held | None:
    """What to leave out of a request that QuickBooks refused for its data; None where nothing is left to try."""
    values = {**held.left_out, **{name: request.attributes[name] for name in OPTIONAL if request.attributes.get(name)}}
    present = tuple(name for name in OPTIONAL if name in values)
    trials = list(dict.fromkeys(tuple(n for n in trial if n in present) for trial in _TRIALS))
    trials = [trial for trial in trials if trial]
    now = tuple(name for name in OPTIONAL if name in held.left_out)
    position = trials.index(now) + 1 if now in trials else 0
    if position >= len(trials):
        return None
    return replace(held, left_out={name: values[name] for name in trials[position]})


def refused_fields(held: Held, request: Request) -> Held:
    """What is known once QuickBooks refused custom fields: they go to Notes."""
    return replace(held, fields_refused={**held.fields_refused, **{n: e[2] for n, e in request.defined.items()}})
