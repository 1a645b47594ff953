"""The sweep: what QuickBooks holds beside what was sent. Pure; finds, and says what may be repaired.

changed       a person changed what we send; may be sent again
deactivated   a person took the customer out of use; only a person, or --reactivate, takes it back
gone          deleted, or merged into another: for a person
duplicate     another customer looks like one of ours: for a person
left          the record has gone from the source; its customer stays, for books may refer to it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from connectors.quickbooks import naming, notes
from connectors.quickbooks.customer import Entity, Wished, differences, is_active
from connectors.quickbooks.decide import Held

Kind = Literal["changed", "deactivated", "gone", "duplicate", "left"]
KINDS: tuple[Kind, ...] = ("changed", "deactivated", "gone", "duplicate", "left")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was sent.

    Args:
        kind: see above.
        record: whose.
        quickbooks_id: of the customer.
        detail: names of attributes, or another id; no values.
        entity: the customer as it is; None where it is gone.
    """

    kind: Kind
    record: str
    quickbooks_id: str
    detail: str = ""
    entity: Entity | None = None


def compare(
    helds: Mapping[str, Held], wishes: Mapping[str, Wished], entities: Mapping[str, Entity], *, partial: bool = False
) -> list[Finding]:
    """What is found.

    Args:
        helds: the map.
        wishes: what the models say.
        entities: customers by id, inactive ones too.
        partial: only the customers that changed since a moment are among them, those that went marked as such.
    """
    found: list[Finding] = []
    for record, held in helds.items():
        if held.quickbooks_id is None:
            continue
        entity = entities.get(held.quickbooks_id)
        if entity is None and partial:
            continue
        found += _of_one(record, held, wishes.get(record), entity)
    found += _duplicates(helds, wishes, entities)
    return sorted(found, key=lambda one: (KINDS.index(one.kind), one.record))


def _of_one(record: str, held: Held, wished: Wished | None, entity: Entity | None) -> Iterable[Finding]:
    id_ = held.quickbooks_id or ""
    if entity is None or str(entity.get("status", "")).lower() == "deleted":
        yield Finding("gone", record, id_)
        return
    if wished is None:
        yield Finding("left", record, id_, "" if is_active(entity) else "deactivated", entity)
        return
    if not is_active(entity):
        yield Finding("deactivated", record, id_, "", entity)
        return
    if held.sent is None:
        return
    names = list(differences(held.sent, entity))
    if notes.fields_in(held.notes) != notes.fields_in(str(entity.get("Notes") or "")):
        names.append("Notes")
    if names:
        yield Finding("changed", record, id_, ", ".join(sorted(set(names))), entity)


def _duplicates(
    helds: Mapping[str, Held], wishes: Mapping[str, Wished], entities: Mapping[str, Entity]
) -> Iterable[Finding]:
    """Customers in use that are nobody's and have a name, or a block in their Notes, as one of ours has."""
    ours = {held.quickbooks_id for held in helds.values()}
    names: dict[str, str] = {}
    blocks: dict[tuple[tuple[str, str], ...], str] = {}
    for record, held in helds.items():
        if held.quickbooks_id is None or record not in wishes:
            continue
        for name in wishes[record].names:
            names.setdefault(naming.key(name), record)
        if block := notes.fields_in(held.notes):
            blocks.setdefault(tuple(sorted(block.items())), record)
    for id_, entity in entities.items():
        if id_ in ours or not is_active(entity) or str(entity.get("status", "")).lower() == "deleted":
            continue
        block_of = tuple(sorted(notes.fields_in(str(entity.get("Notes") or "")).items()))
        twin = blocks.get(block_of) or names.get(naming.key(str(entity.get("DisplayName", ""))))
        if twin is not None:
            yield Finding("duplicate", twin, id_, f"of the customer {helds[twin].quickbooks_id}", entity)
