"""Adoption: which customers that a company has already belong to which records. Pure, and it never guesses.

A customer is a record's by a mapping file that a person wrote, by the id that the source itself holds, or by a display
name that only one record could have. Whatever is not clear is listed for a person.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connectors.errors import RowtideError
from connectors.quickbooks import naming
from connectors.quickbooks.customer import Entity, Wished, is_active, known_of
from connectors.quickbooks.decide import Held

COLUMNS = ("record", "quickbooks_id")


class MappingError(RowtideError):
    """The mapping file cannot be used; the message names the line."""


@dataclass(frozen=True)
class Match:
    """A record and its customer: `how` is mapping, known id or name."""

    record: str
    entity: Entity
    how: str

    @property
    def id(self) -> str:
        """The customer's id."""
        return str(self.entity.get("Id", ""))


@dataclass
class Matches:
    """What an adoption would do.

    Args:
        matches: records with their customers.
        anew: records that a mapping file gives a new customer instead of the one they had.
        unclear: (record, why) for what a person has to decide.
        unmatched: records for which there is no customer: they get a new one.
        others: customers of the company that are nobody's.
    """

    matches: list[Match] = field(default_factory=list)
    anew: list[str] = field(default_factory=list)
    unclear: list[tuple[str, str]] = field(default_factory=list)
    unmatched: int = 0
    others: int = 0


def read_mapping(path: Path) -> dict[str, str]:
    """A CSV file with the columns record and quickbooks_id; an empty id stands for a new customer. Raises MappingError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not CSV in UTF-8"
        raise MappingError(f"{path} cannot be read: {reason}.", hint=_EXAMPLE) from None
    if not rows or tuple(name.strip().lower() for name in rows[0][:2]) != COLUMNS:
        raise MappingError(f"{path} does not begin with the line “record,quickbooks_id”.", hint=_EXAMPLE)
    found: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(COLUMNS):
            raise MappingError(f"{path}, line {number}: there are not two values.", hint=_EXAMPLE)
        record, id_ = row[0].strip(), row[1].strip()
        if not record or record in found:
            reason = "the record is named twice" if record else "there is no record"
            raise MappingError(f"{path}, line {number}: {reason}.", hint=_EXAMPLE)
        found[record] = id_
    twice = [id_ for id_, count in Counter(id_ for id_ in found.values() if id_).items() if count > 1]
    if twice:
        raise MappingError(f"{path}: the customer {twice[0]} is given to several records.", hint=_EXAMPLE)
    return found


_EXAMPLE = "Write record,quickbooks_id in the first line, then lines such as student:9,57."


def match(
    wishes: Mapping[str, Wished],
    held: Mapping[str, Held],
    entities: Sequence[Entity],
    *,
    mapping: Mapping[str, str] | None = None,
    by_name: bool = False,
) -> Matches:
    """Which customer belongs to which record.

    Args:
        wishes: all records.
        held: the map: their customers are theirs, unless the mapping file says otherwise.
        entities: all customers of the company, inactive ones too.
        mapping: record -> id, as a person wrote it.
        by_name: whether a display name may tell.
    """
    found = Matches()
    mapping = mapping or {}
    present = {str(entity.get("Id", "")): entity for entity in entities}
    mapped = {one.quickbooks_id: record for record, one in held.items() if one.quickbooks_id and record not in mapping}
    claims: dict[str, list[Match]] = defaultdict(list)
    open_: list[Wished] = []
    for record, wished in wishes.items():
        id_, how = (mapping[record], "mapping") if record in mapping else (wished.known_id or "", "known id")
        if how != "mapping" and record in mapped.values():
            continue
        if how == "mapping" and not id_:
            found.anew.append(record)
        elif id_ in present:
            claims[id_].append(Match(record, present[id_], how))
        elif how == "mapping":
            found.unclear.append((record, f"the company has no customer {id_}"))
        else:
            open_.append(wished)
    for record in mapping:
        if record not in wishes:
            found.unclear.append((record, "there is no such record"))
    if by_name:
        _by_name(open_, present, {*mapped, *claims}, claims, found)
    _decide(claims, mapped, found)
    matched = {one.record for one in found.matches} | {record for record, _ in found.unclear} | set(found.anew)
    found.unmatched = sum(1 for record in wishes if record not in matched and record not in mapped.values())
    taken = {one.id for one in found.matches} | set(mapped)
    found.others = sum(1 for id_, entity in present.items() if id_ not in taken and is_active(entity))
    return found


def _by_name(
    wishes: Sequence[Wished],
    present: Mapping[str, Entity],
    taken: set[str],
    claims: dict[str, list[Match]],
    found: Matches,
) -> None:
    named = {
        naming.key(str(entity.get("DisplayName", ""))): (id_, entity)
        for id_, entity in present.items()
        if is_active(entity) and id_ not in taken
    }
    namesakes = Counter(naming.key(wished.names[0]) for wished in wishes)
    for wished in wishes:
        first, *others = (naming.key(name) for name in wished.names)
        if own := next((key for key in others if key in named), None):
            id_, entity = named[own]
            claims[id_].append(Match(wished.record, entity, "name"))
        elif first in named and namesakes[first] == 1:
            id_, entity = named[first]
            claims[id_].append(Match(wished.record, entity, "name"))
        elif first in named:
            found.unclear.append((wished.record, "several records have the name of one customer"))


def _decide(claims: Mapping[str, Sequence[Match]], mapped: Mapping[str, str], found: Matches) -> None:
    for id_, claimants in claims.items():
        if id_ in mapped:
            reason = f"the customer {id_} is that of {mapped[id_]}"
        elif len(claimants) > 1 and not (given := [one for one in claimants if one.how == "mapping"]):
            reason = f"several records have the customer {id_}"
        elif not is_active(claimants[0].entity):
            reason = f"the customer {id_} is deactivated in QuickBooks"
        else:
            chosen = claimants[0] if len(claimants) == 1 else given[0]
            found.matches.append(chosen)
            found.unclear += [
                (one.record, f"the mapping gives the customer {id_} to {chosen.record}")
                for one in claimants
                if one is not chosen
            ]
            continue
        found.unclear += [(one.record, reason) for one in claimants]


def adopted(wished: Wished, entity: Entity) -> Held:
    """What is known of a customer that was adopted: what it holds counts as sent, and its name stays.

    What the record has nothing for is left as it is in QuickBooks.
    """
    attributes = known_of(entity, wished)
    return Held(
        wished.record,
        "",
        kind=wished.kind,
        quickbooks_id=str(entity.get("Id", "")),
        sync_token=str(entity.get("SyncToken", "0")),
        real_name=wished.real_name,
        display_name=attributes.get("DisplayName"),
        sent=attributes,
        notes=str(entity.get("Notes") or ""),
        told=False,
    )


def anew(wished: Wished) -> Held:
    """What is known of a record that is to get a new customer: nothing."""
    return Held(wished.record, "", kind=wished.kind, told=False)
