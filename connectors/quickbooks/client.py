"""A company's customers over QuickBooks' API: each request paced, told in the audit, and answered honestly.

Nothing is retried here but once after the access token was renewed, under the same requestid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from connectors.quickbooks import answers, audit, realm
from connectors.quickbooks.answers import Answer
from connectors.quickbooks.clock import Clock
from connectors.quickbooks.errors import QuickBooksBlockedError, QuickBooksRefusedError, QuickBooksUnavailableError
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.sending import Library, Request, Sender
from connectors.quickbooks.tokens import Tokens

MOST_OPERATIONS = 30
MOST_CHANGES = 1000  # of one answer about changes
CHANGES_DAYS = 30
ENHANCED = {"include": "enhancedAllCustomFields"}


@dataclass(frozen=True)
class BatchOperation:
    """One of up to 30 operations of a batch.

    Args:
        bid: its name within the batch, 1 to 10 characters; the same when the batch is sent again.
        operation: an update is sparse: the body has Id, SyncToken and `sparse`.
        body: of the customer.
        record: whose customer; goes to the audit.
    """

    bid: str
    operation: Literal["create", "update"]
    body: Mapping[str, Any]
    record: str


@dataclass(frozen=True)
class Changes:
    """Customers changed, deleted ones too (`status` "Deleted"); `complete` is False where there were more than fit."""

    customers: Sequence[Mapping[str, Any]]
    complete: bool


def quoted(text: str) -> str:
    """A literal of QuickBooks' query language, with its quotes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class QuickBooksClient:
    """Thread-safe; one for each process and company. Made by `realm.open_client`.

    Every method may wait for its turn; `stop` ends that. A request that got no turn comes back with `sent` False.
    """

    def __init__(self, sender: Sender, tokens: Tokens, clock: Clock) -> None:
        self.realm_id = sender.realm_id
        self.stop = sender.stop
        self._sender = sender
        self._tokens = tokens
        self._clock = clock

    def close(self) -> None:
        """Let nobody wait any longer, and release connections."""
        self._sender.close()

    def tend(self) -> None:
        """Keep the consent alive where nothing is sent; to be called now and then, and cheap.

        Raises:
            ReconnectNeededError, QuickBooksUnavailableError, QuickBooksBlockedError: as their names say.
        """
        self._tokens.tend()

    # --- customers ---

    def create(self, body: Mapping[str, Any], *, requestid: str, record: str) -> Answer:
        """Create a customer of exactly these attributes."""
        text = json.dumps(body)

        def call(library: Library) -> Any:
            return library.create_object("Customer", text, request_id=requestid)

        return self._customer("create", call, body, requestid, record)

    def update(self, body: Mapping[str, Any], *, requestid: str, record: str, enhanced_fields: bool = False) -> Answer:
        """Change exactly these attributes. Raises ValueError for a body without Id, SyncToken or `sparse`: the rest would be emptied."""
        _sparse(body)
        text = json.dumps(body)

        def call(library: Library) -> Any:
            return library.update_object(
                "Customer", text, request_id=requestid, params=dict(ENHANCED) if enhanced_fields else None
            )

        return self._customer("update", call, body, requestid, record)

    def _customer(
        self, operation: str, call: Callable[[Library], Any], body: Mapping[str, Any], requestid: str, record: str
    ) -> Answer:
        _requestid(requestid, 50)
        request = Request(
            operation,
            call,
            audit.entity(body),
            mutating=True,
            record=record,
            requestid=requestid,
            finds=answers.found_customer,
        )
        return self._sender.perform(request)[0]

    def batch(self, operations: Sequence[BatchOperation], *, requestid: str) -> list[Answer]:
        """One answer for each operation, in their order.

        Where the batch as a whole got no usable answer all are UNKNOWN; where it was refused as a whole none was applied.
        """
        _requestid(requestid, 36)
        names = {operation.bid for operation in operations}
        if not 0 < len(operations) <= MOST_OPERATIONS or len(names) != len(operations):
            raise ValueError(f"a batch has 1 to {MOST_OPERATIONS} operations, each with a bId of its own")
        if not all(0 < len(name) <= 10 for name in names):
            raise ValueError("a bId has 1 to 10 characters")
        items = []
        for operation in operations:
            if operation.operation == "update":
                _sparse(operation.body)
            items.append({"bId": operation.bid, "operation": operation.operation, "Customer": dict(operation.body)})
        text = json.dumps({"BatchItemRequest": items})

        def call(library: Library) -> Any:
            return library.post(f"{library.api_url}/company/{self.realm_id}/batch", text, request_id=requestid)

        told = {
            "items": [
                {"record": one.record, "bId": one.bid, "operation": one.operation, **audit.entity(one.body)}
                for one in operations
            ]
        }
        request = Request(
            "batch", call, told, kind="batch", mutating=True, requestid=requestid, finds=answers.found_items
        )
        answer, document = self._sender.perform(request)
        if document is None:
            return [answers.of_batch(answer)] * len(operations)
        parts = {item.get("bId"): item for item in document["BatchItemResponse"] if isinstance(item, Mapping)}
        found = [answers.of_item(parts.get(one.bid), answer) for one in operations]
        self._sender.heed(found)
        return found

    def read(self, quickbooks_id: str, *, enhanced_fields: bool = False) -> Answer:
        """A customer by its id, an inactive one too."""
        if audit.kept_id(quickbooks_id) is None:
            raise ValueError("this is no id of QuickBooks")

        def call(library: Library) -> Any:
            return library.get_single_object(
                "Customer", quickbooks_id, params=dict(ENHANCED) if enhanced_fields else None
            )

        return self._sender.perform(Request("read", call, {"Id": quickbooks_id}, finds=answers.found_customer))[0]

    # --- questions ---

    def query(self, statement: str) -> list[Mapping[str, Any]]:
        """The rows of a SELECT, whatever the entity; at most 1000, 100 without MAXRESULTS.

        Raises:
            QuickBooksBlockedError: nothing may be sent now.
            QuickBooksUnavailableError: no usable answer came.
            QuickBooksRefusedError: the question is refused.
        """

        def call(library: Library) -> Any:
            return library.query(statement)

        document = self._asked(Request("query", call, audit.question(statement), finds=answers.found_response))
        return answers.rows(document["QueryResponse"])

    def changes_since(self, moment: float) -> Changes:
        """Customers changed, deactivated, merged or deleted since a moment at most 30 days ago. Raises as `query`."""
        if moment < self._clock.now() - CHANGES_DAYS * 86400:
            raise ValueError(f"QuickBooks remembers changes for {CHANGES_DAYS} days")
        since = realm.moment(moment).isoformat(timespec="seconds")

        def call(library: Library) -> Any:
            return library.change_data_capture("Customer", since)

        document = self._asked(Request("changes", call, {"since": since}, finds=answers.found_changes))
        rows = [
            row
            for part in document["CDCResponse"]
            for response in part.get("QueryResponse", [])
            for row in answers.rows(response)
        ]
        return Changes(rows, len(rows) < MOST_CHANGES)

    def company(self) -> Mapping[str, Any]:
        """CompanyInfo. Raises as `query`."""

        def call(library: Library) -> Any:
            return library.get(f"{library.api_url}/company/{self.realm_id}/companyinfo/{self.realm_id}")

        document = self._asked(Request("company", call, {}, finds=answers.found_company))
        found: Mapping[str, Any] = document["CompanyInfo"]
        return found

    def customer_types(self) -> dict[str, str]:
        """Names of the active customer types with their ids. Raises as `query`."""
        rows = self.query("SELECT * FROM CustomerType MAXRESULTS 1000")
        return {str(row["Name"]): str(row["Id"]) for row in rows if row.get("Active", True) and "Name" in row}

    def _asked(self, request: Request) -> Mapping[str, Any]:
        answer, document = self._sender.perform(request)
        if document is not None:
            return document
        about = f"QuickBooks was asked ({request.operation}) and the answer was: {answer.reason}"
        if answer.verdict in (Verdict.BLOCKED, Verdict.THROTTLED):
            raise QuickBooksBlockedError(f"{about}.", wait=answer.wait)
        if answer.verdict in (Verdict.RETRY, Verdict.UNKNOWN, Verdict.FEW_RETRIES):
            raise QuickBooksUnavailableError(f"{about}.")
        raise QuickBooksRefusedError(f"{about}.", hint="`rowtide customers audit` shows the request.")


def _requestid(requestid: str, most: int) -> None:
    if not 0 < len(requestid) <= most or audit.kept_id(requestid) is None:
        raise ValueError(f"a requestid has 1 to {most} letters, digits, - and _")


def _sparse(body: Mapping[str, Any]) -> None:
    if body.get("sparse") is not True or not body.get("Id") or body.get("SyncToken") in (None, ""):
        raise ValueError("an update needs Id, SyncToken and sparse = true: all else would be emptied")
