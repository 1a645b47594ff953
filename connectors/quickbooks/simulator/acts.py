"""What a person does in QuickBooks itself, behind the back of every app."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from connectors.quickbooks.clock import Clock
from connectors.quickbooks.simulator.company import Company, Entry, Kind
from connectors.quickbooks.simulator.people import ENHANCED, activate, deactivate, show, write
from connectors.quickbooks.simulator.replies import FaultError


class Acts:
    """Acts on a company, each under the simulator's lock."""

    company: Company
    clock: Clock
    lock: threading.RLock

    def add(self, kind: Kind, name: str, **fields: Any) -> str:
        """A person adds a customer, vendor or employee; its id. Raises FaultError where the name is taken."""
        with self.lock:
            told = write(self.company, kind, {"DisplayName": name, **fields}, self.clock.now())
            return str(told["Id"])

    def seed(self, count: int, *, seed: int = 0) -> None:
        """So many customers of made-up people are there already."""
        from faker import Faker  # noqa: PLC0415 - slow to load, and rarely wanted

        fake = Faker()
        fake.seed_instance(seed)
        for _ in range(count):
            given, family = fake.first_name(), fake.last_name()
            name = f"{given} {family}"
            while self.company.named(name):
                name = f"{given} {fake.random_uppercase_letter()}. {family} {fake.random_int(2, 9999)}"
            email = {"Address": fake.safe_email()}
            self.add("Customer", name, GivenName=given, FamilyName=family, PrimaryEmailAddr=email)

    def edit(self, number: str, **fields: Any) -> None:
        """A person edits attributes, in the API's form. Raises FaultError."""
        with self.changing(number) as entry:
            body = {"Id": number, "SyncToken": str(entry.version), "sparse": True, **fields}
            write(self.company, entry.kind, body, self.clock.now())

    def deactivate(self, number: str) -> None:
        """A person makes it inactive, which renames it."""
        with self.changing(number) as entry:
            self.company.change(entry, self.clock.now(), lambda found: deactivate(found, self.company))

    def activate(self, number: str) -> None:
        """A person makes it active again. Raises FaultError where the name is taken."""
        with self.changing(number) as entry:
            self.company.change(entry, self.clock.now(), lambda found: activate(found, self.company))

    def merge(self, number: str, into: str) -> None:
        """A person merges one customer into another: the first is found no longer."""
        with self.changing(number) as entry, self.changing(into):
            self._remove(entry, "merged", into)

    def delete(self, number: str) -> None:
        """A person deletes it: it is found no longer."""
        with self.changing(number) as entry:
            self._remove(entry, "deleted", "")

    @contextmanager
    def changing(self, number: str) -> Iterator[Entry]:
        """The object, under the lock. Raises FaultError where there is none."""
        with self.lock:
            entry = self.company.entries.get(number)
            if entry is None or entry.gone:
                raise FaultError("610")
            yield entry

    def _remove(self, entry: Entry, how: Literal["merged", "deleted"], into: str) -> None:
        def act(found: Entry) -> None:
            found.gone, found.merged_into, found.active = how, into, False

        self.company.change(entry, self.clock.now(), act)

    def customers(self, *, inactive: bool = False) -> list[dict[str, Any]]:
        """The customers as the API tells them, with their custom fields; those in use, or inactive ones too."""
        with self.lock:
            found = [entry for entry in self.company.of("Customer") if entry.active or inactive]
            return [show(self.company, entry, include=ENHANCED) for entry in found]
