"""Questions that settle what became of a request: who has a name, what was made since, what a customer is now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from connectors.quickbooks.client import quoted
from connectors.quickbooks.customer import Entity
from connectors.quickbooks.decide import SKEW, Found

KINDS = ("Customer", "Vendor", "Employee")  # a display name is unique among all of them
_NAMES, _IDS = 30, 100  # of one question
_ROWS = 1000  # of one answer at most


class Questions(Protocol):
    """What is needed of a client to ask."""

    def query(self, statement: str) -> list[Mapping[str, Any]]:
        """The rows of a SELECT; see `QuickBooksClient.query`."""


def who_has(client: Questions, names: Sequence[str]) -> list[Found]:
    """Everything that has one of the names, inactive or not. Raises as `QuickBooksClient.query`."""
    found: list[Found] = []
    for listed in _listed(names, _NAMES):
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


def by_ids(client: Questions, ids: Sequence[str]) -> dict[str, Entity]:
    """Customers by their ids, inactive ones too. Those that are lacking were deleted, or merged into others."""
    rows: list[Entity] = []
    for listed in _listed(ids, _IDS):
        where = f"Id IN ({listed}) AND Active IN (true, false)"
        rows += client.query(f"SELECT * FROM Customer WHERE {where} MAXRESULTS {_ROWS}")
    return {str(row.get("Id")): row for row in rows}


def _listed(texts: Sequence[str], most: int) -> Iterator[str]:
    """Each once, as the lists of as many questions as it takes."""
    wanted = list(dict.fromkeys(texts))
    for start in range(0, len(wanted), most):
        yield ", ".join(quoted(text) for text in wanted[start : start + most])


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
