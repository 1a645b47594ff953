"""Questions that settle what became of a request: who has a name, what was made since, what a customer is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from connectors.quickbooks.client import quoted
from connectors.quickbooks.customer import Entity
from connectors.quickbooks.decide import SKEW, Found

KINDS = ("Customer", "Vendor", "Employee")  # a display name is unique among all of them
_NAMES = 30  # names of one question
_ROWS = 1000  # of one answer at most


class Questions(Protocol):
    """What is needed of a client to ask."""

    def query(self, statement: str) -> list[Mapping[str, Any]]:
        """The rows of a SELECT; see `QuickBooksClient.query`."""


def who_has(client: Questions, names: Sequence[str]) -> list[Found]:
    """Everything that has one of the names, inactive or not. Raises as `QuickBooksClient.query`."""
    found: list[Found] = []
    wanted = list(dict.fromkeys(names))
    for start in range(0, len(wanted), _NAMES):
        listed = ", ".join(quoted(name) for name in wanted[start : start + _NAMES])
        for kind in KINDS:
            where = f"DisplayName IN ({listed}) AND Active IN (true, false)"
            found += [
                Found(kind, row) for row in client.query(f"SELECT * FROM {kind} WHERE {where} MAXRESULTS {_ROWS}")
            ]
    return found


def made_since(client: Questions, moment: float) -> list[Found]:
    """Customers made since a moment (seconds since 1970), inactive ones too."""
    since = datetime.fromtimestamp(moment - SKEW, UTC).isoformat(timespec="seconds")
    where = f"MetaData.CreateTime >= {quoted(since)} AND Active IN (true, false)"
    return [Found("Customer", row) for row in paged(client, where)]


def by_id(client: Questions, quickbooks_id: str) -> Entity | None:
    """A customer, an inactive one too; None where there is none: it was deleted, or merged into another."""
    where = f"Id = {quoted(quickbooks_id)} AND Active IN (true, false)"
    rows = client.query(f"SELECT * FROM Customer WHERE {where} MAXRESULTS 1")
    return rows[0] if rows else None


def paged(client: Questions, where: str) -> list[Mapping[str, Any]]:
    """All customers that fit, by id. A customer is never removed from the answers but by a merge."""
    rows: list[Mapping[str, Any]] = []
    while True:
        page = client.query(
            f"SELECT * FROM Customer WHERE {where} ORDERBY Id STARTPOSITION {len(rows) + 1} MAXRESULTS {_ROWS}"
        )
        rows += page
        if len(page) < _ROWS:
            return rows
