"""A company file: its customers, vendors and employees, its customer types, and what it was bought with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["Customer", "Vendor", "Employee"]
KINDS: tuple[Kind, ...] = ("Customer", "Vendor", "Employee")


@dataclass(frozen=True)
class CustomField:
    """A definition of an enhanced custom field of customers."""

    name: str
    type: Literal["StringType", "NumberType", "DateType"] = "StringType"


@dataclass
class Entry:
    """One object of the list of names.

    Attributes:
        fields: what was written, as written.
        custom: definition id -> value.
        version: the SyncToken.
        gone: why it is found no longer.
    """

    kind: Kind
    id: str
    fields: dict[str, Any]
    created: float
    updated: float
    custom: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    active: bool = True
    gone: Literal["", "merged", "deleted"] = ""
    merged_into: str = ""

    @property
    def name(self) -> str:
        """The DisplayName."""
        return str(self.fields["DisplayName"])


class Company:
    """The state of one company. Not thread-safe: the simulator holds its lock.

    Args:
        realm: the company's id.
        sandbox: whether it is one of the sandbox's, which have no enhanced custom fields.
        enhanced_fields: whether the company's plan and the app's tier allow enhanced custom fields.
        custom_fields: definition id -> definition; the API shows at most twelve.
        customer_types: names of the customer types.
        country: two or three letters.
        inactive_names_block: whether the names of inactive objects cannot be used again; not documented.
        ignore_case: whether comparing names, here and in queries, ignores case; not documented for queries.
        subscription: what CompanyInfo tells.
    """

    def __init__(
        self,
        realm: str = "9130347596842384",
        *,
        name: str = "Rowtide School",
        sandbox: bool = False,
        enhanced_fields: bool = False,
        custom_fields: Mapping[str, CustomField] | None = None,
        customer_types: tuple[str, ...] = (),
        country: str = "US",
        inactive_names_block: bool = False,
        ignore_case: bool = True,
        subscription: str = "PAID",
    ) -> None:
        self.realm = realm
        self.name = name
        self.sandbox = sandbox
        self.enhanced_fields = enhanced_fields
        self.custom_fields = dict(list((custom_fields or {}).items())[:12])
        self.country = country
        self.inactive_names_block = inactive_names_block
        self.ignore_case = ignore_case
        self.subscription = subscription
        self.entries: dict[str, Entry] = {}
        self.customer_types = {str(number): text for number, text in enumerate(customer_types, start=100_001)}
        self.created = 0
        self._ids = 0
        self._names: dict[str, set[str]] = {}  # folded name -> ids that have it

    @property
    def has_enhanced_fields(self) -> bool:
        """Whether enhanced custom fields work."""
        return self.enhanced_fields and not self.sandbox

    def new(self, kind: Kind, fields: Mapping[str, Any], now: float) -> Entry:
        """Add an object. The name is the caller's care."""
        self._ids += 1
        entry = Entry(kind, str(self._ids), copy.deepcopy(dict(fields)), now, now)
        self.entries[entry.id] = entry
        self._name(entry)
        self.created += 1
        return entry

    def change(self, entry: Entry, now: float, act: Callable[[Entry], None]) -> None:
        """Change an object: its version and its time go up. What the act raises, it raises before it changes anything."""
        self._unname(entry)
        try:
            act(entry)
            entry.version += 1
            entry.updated = now
        finally:
            self._name(entry)

    def find(self, kind: str, number: str) -> Entry | None:
        """The object, inactive ones too; None where there is none, or no longer."""
        entry = self.entries.get(number)
        return entry if entry is not None and entry.kind == kind and not entry.gone else None

    def of(self, kind: str) -> Iterator[Entry]:
        """The objects of a kind in the order of their ids, inactive ones too."""
        return (entry for entry in self.entries.values() if entry.kind == kind and not entry.gone)

    def named(self, name: str) -> list[Entry]:
        """The objects of every kind that have a name, inactive ones too."""
        return [self.entries[number] for number in sorted(self._names.get(self.fold(name), ()), key=int)]

    def taken(self, name: str, *, but: Entry | None = None) -> bool:
        """Whether another customer, vendor or employee has the name."""
        return any(entry is not but and (entry.active or self.inactive_names_block) for entry in self.named(name))

    def fold(self, text: str) -> str:
        """A text as it is compared."""
        return text.strip().casefold() if self.ignore_case else text.strip()

    def _name(self, entry: Entry) -> None:
        if not entry.gone:
            self._names.setdefault(self.fold(entry.name), set()).add(entry.id)

    def _unname(self, entry: Entry) -> None:
        self._names.get(self.fold(entry.name), set()).discard(entry.id)
