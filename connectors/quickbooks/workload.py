"""What a pusher works on and with: records, outcomes to record, and what it needs of a client and of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from connectors.quickbooks.answers import Answer
from connectors.quickbooks.client import BatchOperation
from connectors.quickbooks.customer import Wished
from connectors.quickbooks.decide import Held, Request


class ClaimLostError(Exception):
    """Another session has taken the record over: what this one knows of it is old."""


@dataclass
class Item:
    """A record that is worked on.

    Args:
        held: what is known of its customer.
        wished: as the models say it should be; None where its row has gone.
        request: stored and not settled.
        over: whether this set of steps has nothing more to do for it.
        error: why it did not come through, for people; None where it did or only waits.
        taken: keys of display names that other records of ours have.
        remarks: what QuickBooks holds otherwise than it was sent.
        reactivates: whether its customer is to be taken back into use first.
        refusal: the answer that refused a create in doubt, while it is looked up whether an earlier sending made the customer.
    """

    held: Held
    wished: Wished | None
    request: Request | None = None
    over: bool = False
    error: str | None = None
    taken: set[str] = field(default_factory=set)
    remarks: tuple[str, ...] = ()
    reactivates: bool = False
    refusal: Answer | None = None

    @property
    def open(self) -> Request:
        """The request that is not settled. Only where there is one."""
        if self.request is None:
            raise LookupError("the record has no open request")
        return self.request


@dataclass(frozen=True)
class Recorded:
    """What came of a request, and what is known since; without a request only that."""

    held: Held
    request: Request | None = None
    settled: bool = False
    outcome: str = ""


@dataclass
class Counts:
    """What was done: requests that came through, and how records ended that did not."""

    created: int = 0
    updated: int = 0
    unknown: int = 0
    throttled: int = 0
    failed: int = 0
    parked: int = 0


class Client(Protocol):
    """What is needed of `QuickBooksClient`."""

    def create(self, body: Mapping[str, Any], *, requestid: str, record: str) -> Answer:
        """Create a customer."""

    def update(self, body: Mapping[str, Any], *, requestid: str, record: str, enhanced_fields: bool = False) -> Answer:
        """Update a customer sparsely."""

    def batch(self, operations: Sequence[BatchOperation], *, requestid: str) -> list[Answer]:
        """Several of them."""

    def query(self, statement: str) -> list[Mapping[str, Any]]:
        """The rows of a SELECT."""


Pack = Callable[[Sequence[Request]], Sequence[Request]]


class Store(Protocol):
    """Where customers and requests are kept; every call is one transaction. See `consumers.customers`."""

    def begin(
        self, items: Sequence[tuple[Held, Request]], pack: Pack
    ) -> tuple[dict[str, tuple[Held, Request]], dict[str, str]]:
        """Store requests, packed, and reserve their names; what was stored, and names that others have, by record."""

    def again(self, requests: Sequence[Request]) -> None:
        """Note that requests are sent once more."""

    def record(self, outcomes: Sequence[Recorded]) -> dict[str, Held]:
        """Record what came of requests."""

    def owners(self, ids: Sequence[str]) -> dict[str, str]:
        """Who has customers in the map, by QuickBooks id."""
