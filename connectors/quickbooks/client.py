"""A company's customers over QuickBooks' API: each request paced, told in the audit, and answered honestly.

On python-quickbooks, which forms addresses and bodies; what came back is judged by `faults` from the answer itself, since the
library loses statuses and headers and puts bodies into its exceptions. Nothing is retried here but once after the access token was
renewed, under the same requestid.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import requests
from quickbooks.client import QuickBooks

from connectors.quickbooks import audit, faults, realm
from connectors.quickbooks.clock import Clock
from connectors.quickbooks.database import Connections
from connectors.quickbooks.errors import (
    QuickBooksBlockedError,
    QuickBooksError,
    QuickBooksRefusedError,
    QuickBooksUnavailableError,
    ReconnectNeededError,
)
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.options import Options
from connectors.quickbooks.pace import Held, Pace, Slot
from connectors.quickbooks.session import UnansweredError, UnsentError, Wire
from connectors.quickbooks.tokens import Access, Tokens, TokensBusyError

MINOR_VERSION = 75
MOST_OPERATIONS = 30
MOST_CHANGES = 1000  # of one answer about changes
CHANGES_DAYS = 30
ENHANCED = {"include": "enhancedAllCustomFields"}


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Args:
        verdict: never EXPIRED.
        entity: as QuickBooks has it now; only with DONE. Never write it back: it may be masked.
        http_status: None where no answer came.
        code: the fault code.
        reason: for people; holds no value of a customer.
        tid: Intuit's number for the request.
        sent: False where the request certainly did not leave.
        wait: seconds after which trying again makes sense, where that is known.
    """

    verdict: Verdict
    entity: Mapping[str, Any] | None = None
    http_status: int | None = None
    code: str | None = None
    reason: str = ""
    tid: str | None = None
    sent: bool = True
    wait: float = 0.0

    @property
    def done(self) -> bool:
        """Applied, and the entity is there."""
        return self.verdict is Verdict.DONE


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


@dataclass(frozen=True)
class _Request:
    operation: str
    call: Callable[[_Library], Any]
    told: Mapping[str, Any]
    kind: Literal["request", "batch"] = "request"
    mutating: bool = False
    record: str | None = None
    requestid: str | None = None
    finds: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] = lambda document: document


class _Library(QuickBooks):  # type: ignore[misc]
    """python-quickbooks for one request: our way out, the present token, the answer kept as it came."""

    wire: Wire
    token: Access
    kept: requests.Response | None = None

    def process_request(
        self, request_type: str, url: str, headers: Any = None, params: Any = None, data: Any = None
    ) -> requests.Response:
        """Send it and keep what comes back. Raises what `Wire.send` raises."""
        headers = {**(headers or {}), "Authorization": f"Bearer {self.token.access}"}
        if headers.get("Content-Type") == "application/text":
            headers["Content-Type"] = "application/text; charset=utf-8"
        body = data.encode() if isinstance(data, str) else None
        self.kept = self.wire.send(request_type, url, headers=headers, params=params, data=body)
        return self.kept


def quoted(text: str) -> str:
    """A literal of QuickBooks' query language, with its quotes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class QuickBooksClient:
    """Thread-safe; one for each process and company. Made by `realm.open_client`.

    Every method may wait for its turn; `stop` ends that. A request that got no turn comes back with `sent` False.
    """

    def __init__(
        self,
        connections: Connections,
        realm_id: str,
        options: Options,
        wire: Wire,
        tokens: Tokens,
        clock: Clock,
        instance: str | None,
    ) -> None:
        self.realm_id = realm_id
        self.options = options
        self.instance = instance
        self.stop = threading.Event()
        self.pace = Pace(connections, realm_id, options.limits, clock)
        self._connections = connections
        self._wire = wire
        self._tokens = tokens
        self._clock = clock

    def close(self) -> None:
        """Let nobody wait any longer, and release connections."""
        self.stop.set()
        self.pace.close()
        self._connections.close()

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

        def call(library: _Library) -> Any:
            return library.create_object("Customer", text, request_id=requestid)

        return self._customer("create", call, body, requestid, record)

    def update(self, body: Mapping[str, Any], *, requestid: str, record: str, enhanced_fields: bool = False) -> Answer:
        """Change exactly these attributes. Raises ValueError for a body without Id, SyncToken or `sparse`: the rest would be emptied."""
        _sparse(body)
        text = json.dumps(body)

        def call(library: _Library) -> Any:
            return library.update_object(
                "Customer", text, request_id=requestid, params=dict(ENHANCED) if enhanced_fields else None
            )

        return self._customer("update", call, body, requestid, record)

    def _customer(
        self, operation: str, call: Callable[[_Library], Any], body: Mapping[str, Any], requestid: str, record: str
    ) -> Answer:
        _requestid(requestid, 50)
        request = _Request(
            operation,
            call,
            audit.entity(body),
            mutating=True,
            record=record,
            requestid=requestid,
            finds=_found_customer,
        )
        return self._perform(request)[0]

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

        def call(library: _Library) -> Any:
            return library.post(f"{library.api_url}/company/{self.realm_id}/batch", text, request_id=requestid)

        told = {
            "items": [
                {"record": one.record, "bId": one.bid, "operation": one.operation, **audit.entity(one.body)}
                for one in operations
            ]
        }
        request = _Request("batch", call, told, kind="batch", mutating=True, requestid=requestid, finds=_found_items)
        answer, document = self._perform(request)
        if document is None:
            return [_whole(answer)] * len(operations)
        found = {item.get("bId"): item for item in document["BatchItemResponse"] if isinstance(item, Mapping)}
        answers = [_item(found.get(one.bid), answer) for one in operations]
        if any(one.verdict is Verdict.THROTTLED for one in answers):
            self.pace.throttled()
        if (blocked := next((one for one in answers if one.verdict is Verdict.BLOCKED), None)) is not None:
            self._stop(blocked)
        return answers

    def read(self, quickbooks_id: str, *, enhanced_fields: bool = False) -> Answer:
        """A customer by its id, an inactive one too."""
        if audit.kept_id(quickbooks_id) is None:
            raise ValueError("this is no id of QuickBooks")

        def call(library: _Library) -> Any:
            return library.get_single_object(
                "Customer", quickbooks_id, params=dict(ENHANCED) if enhanced_fields else None
            )

        return self._perform(_Request("read", call, {"Id": quickbooks_id}, finds=_found_customer))[0]

    # --- questions ---

    def query(self, statement: str) -> list[Mapping[str, Any]]:
        """The rows of a SELECT, whatever the entity; at most 1000, 100 without MAXRESULTS.

        Raises:
            QuickBooksBlockedError: nothing may be sent now.
            QuickBooksUnavailableError: no usable answer came.
            QuickBooksRefusedError: the question is refused.
        """

        def call(library: _Library) -> Any:
            return library.query(statement)

        document = self._asked(_Request("query", call, audit.question(statement), finds=_found_response))
        return _rows(document["QueryResponse"])

    def changes_since(self, moment: float) -> Changes:
        """Customers changed, deactivated, merged or deleted since a moment at most 30 days ago. Raises as `query`."""
        if moment < self._clock.now() - CHANGES_DAYS * 86400:
            raise ValueError(f"QuickBooks remembers changes for {CHANGES_DAYS} days")
        since = realm.moment(moment).isoformat(timespec="seconds")

        def call(library: _Library) -> Any:
            return library.change_data_capture("Customer", since)

        document = self._asked(_Request("changes", call, {"since": since}, finds=_found_changes))
        rows = [
            row
            for part in document["CDCResponse"]
            for response in part.get("QueryResponse", [])
            for row in _rows(response)
        ]
        return Changes(rows, len(rows) < MOST_CHANGES)

    def company(self) -> Mapping[str, Any]:
        """CompanyInfo. Raises as `query`."""

        def call(library: _Library) -> Any:
            return library.get(f"{library.api_url}/company/{self.realm_id}/companyinfo/{self.realm_id}")

        document = self._asked(_Request("company", call, {}, finds=_found_company))
        found: Mapping[str, Any] = document["CompanyInfo"]
        return found

    def customer_types(self) -> dict[str, str]:
        """Names of the active customer types with their ids. Raises as `query`."""
        rows = self.query("SELECT * FROM CustomerType MAXRESULTS 1000")
        return {str(row["Name"]): str(row["Id"]) for row in rows if row.get("Active", True) and "Name" in row}

    def _asked(self, request: _Request) -> Mapping[str, Any]:
        answer, document = self._perform(request)
        if document is not None:
            return document
        about = f"QuickBooks was asked ({request.operation}) and the answer was: {answer.reason}"
        if answer.verdict in (Verdict.BLOCKED, Verdict.THROTTLED):
            raise QuickBooksBlockedError(f"{about}.", wait=answer.wait)
        if answer.verdict in (Verdict.RETRY, Verdict.UNKNOWN, Verdict.FEW_RETRIES):
            raise QuickBooksUnavailableError(f"{about}.")
        raise QuickBooksRefusedError(f"{about}.", hint="`rowtide customers audit` shows the request.")

    # --- the way of each request ---

    def _perform(self, request: _Request) -> tuple[Answer, Mapping[str, Any] | None]:
        """The answer, and the document that the request is about where it is DONE."""
        token = self._token(None)
        if isinstance(token, Answer):
            return token, None
        answer, document = self._once(request, token)
        if answer.verdict is not Verdict.EXPIRED:
            return answer, document
        token = self._token(token)
        if isinstance(token, Answer):
            # It was refused for its token, so it was not applied: as good as not sent.
            return replace(token, http_status=answer.http_status, code=answer.code, tid=answer.tid), None
        answer, document = self._once(request, token)
        if answer.verdict is Verdict.EXPIRED:
            # Not a reason to ask a person: the whole company rests a little, and is tried again.
            wait = self.pace.rest("QuickBooks does not accept an access token that it has just given")
            answer = replace(answer, verdict=Verdict.BLOCKED, sent=False, wait=wait)
        return answer, document

    def _token(self, refused: Access | None) -> Access | Answer:
        """The token to use; a newer one than that which was refused."""
        try:
            return self._tokens.current() if refused is None else self._tokens.renewed(refused)
        except ReconnectNeededError as error:
            return Answer(Verdict.BLOCKED, reason=error.message, sent=False)
        except TokensBusyError as error:
            return Answer(Verdict.THROTTLED, reason=error.message, sent=False, wait=error.wait)
        except QuickBooksUnavailableError as error:
            return Answer(Verdict.RETRY, reason=error.message, sent=False)
        except QuickBooksBlockedError as error:
            return Answer(Verdict.BLOCKED, reason=error.message, sent=False, wait=error.wait)

    def _once(self, request: _Request, token: Access) -> tuple[Answer, Mapping[str, Any] | None]:
        slot = self.pace.take(request.kind, self.stop)
        if isinstance(slot, Held):
            return Answer(slot.verdict, reason=slot.reason, sent=False, wait=slot.wait), None
        started = self._clock.now()
        entry = audit.Entry(started, self.realm_id, request.operation, "interrupted", 0.0)
        try:
            answer, document, response = self._sent(request, token)
            entry = replace(
                entry,
                outcome=str(answer.verdict),
                http_status=answer.http_status,
                fault_code=answer.code,
                tid=answer.tid,
                response=response,
            )
        finally:
            self.pace.settle(slot, self._entry(entry, request))
        if answer.verdict is Verdict.THROTTLED:
            answer = replace(answer, wait=self.pace.throttled())
        elif answer.verdict is Verdict.BLOCKED:
            self._stop(answer)
        return answer, document

    def _entry(self, entry: audit.Entry, request: _Request) -> audit.Entry:
        return replace(
            entry,
            duration=self._clock.now() - entry.at,
            instance=self.instance,
            record=request.record,
            requestid=request.requestid,
            request=request.told,
        )

    def _sent(self, request: _Request, token: Access) -> tuple[Answer, Mapping[str, Any] | None, Mapping[str, Any]]:
        library = _Library(company_id=self.realm_id, minorversion=MINOR_VERSION)
        library.api_url_v3 = self.options.base_url
        library.wire, library.token = self._wire, token
        unknown = Verdict.UNKNOWN if request.mutating else Verdict.RETRY
        try:
            request.call(library)
        except UnsentError:
            return Answer(Verdict.RETRY, reason="QuickBooks could not be reached", sent=False), None, {}
        except UnansweredError:
            return Answer(unknown, reason="no answer came, or not the whole of it"), None, {}
        except QuickBooksError:
            raise
        except Exception:  # noqa: BLE001 - what the library makes of the answer does not count, nor its texts, which quote it
            if library.kept is None:
                raise QuickBooksRefusedError(
                    f"The request ({request.operation}) could not be formed.",
                    hint="This is a mistake of Rowtide's own; report it with `rowtide customers audit`.",
                ) from None
        assert library.kept is not None  # noqa: S101 - the library has returned, so it was sent
        return self._judged(request, library.kept)

    def _judged(
        self, request: _Request, kept: requests.Response
    ) -> tuple[Answer, Mapping[str, Any] | None, Mapping[str, Any]]:
        found = faults.content(kept.content)
        rule, code = faults.judge(kept.status_code, found, mutating=request.mutating)
        document = found.document
        if rule.verdict is Verdict.DONE:
            document = request.finds(document or {})
            if document is None:
                rule = faults.for_reading(faults.NO_ENTITY, mutating=request.mutating)
        response: dict[str, Any] = audit.answered(found.document)
        if names := audit.elements(found.elements):
            response["elements"] = names
        if rule.verdict is Verdict.DONE and request.kind == "batch" and document is not None:
            response["items"] = [_told_item(item) for item in document["BatchItemResponse"]]
        answer = Answer(
            rule.verdict,
            entity=document.get("Customer") if document is not None and rule.verdict is Verdict.DONE else None,
            http_status=kept.status_code,
            code=code,
            reason=_reason(rule.reason, names),
            tid=audit.kept_id(kept.headers.get("intuit_tid")),
        )
        return answer, document if answer.done else None, response

    def _stop(self, answer: Answer) -> None:
        reason = f"{answer.reason} (code {answer.code})" if answer.code else answer.reason
        with self._connections.use() as connection:
            realm.set_state(connection, self.realm_id, realm.STOPPED, reason, self._clock.now())


def _requestid(requestid: str, most: int) -> None:
    if not 0 < len(requestid) <= most or audit.kept_id(requestid) is None:
        raise ValueError(f"a requestid has 1 to {most} letters, digits, - and _")


def _sparse(body: Mapping[str, Any]) -> None:
    if body.get("sparse") is not True or not body.get("Id") or body.get("SyncToken") in (None, ""):
        raise ValueError("an update needs Id, SyncToken and sparse = true: all else would be emptied")


def _reason(reason: str, names: Sequence[str]) -> str:
    return f"{reason}: {', '.join(names)}" if names else reason


def _found_customer(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    customer = document.get("Customer")
    return document if isinstance(customer, Mapping) and customer.get("Id") else None


def _found_items(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return document if isinstance(document.get("BatchItemResponse"), list) else None


def _found_response(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return document if isinstance(document.get("QueryResponse"), Mapping) else None


def _found_changes(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return document if isinstance(document.get("CDCResponse"), list) else None


def _found_company(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return document if isinstance(document.get("CompanyInfo"), Mapping) else None


def _rows(response: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for rows in response.values() if isinstance(rows, list) for row in rows if isinstance(row, Mapping)]


def _whole(answer: Answer) -> Answer:
    """A batch that was refused as a whole says nothing about any one of its customers."""
    if answer.verdict in (Verdict.DATA, Verdict.NAME_TAKEN, Verdict.STALE, Verdict.GONE, Verdict.UNSUPPORTED):
        return replace(answer, verdict=Verdict.FEW_RETRIES, reason=f"the batch as a whole: {answer.reason}")
    return answer


def _item(item: Mapping[str, Any] | None, whole: Answer) -> Answer:
    if item is None:
        return replace(whole, verdict=Verdict.UNKNOWN, reason="the batch's answer leaves this one out")
    found = faults.of_document(item)
    rule, code = faults.judge(200, found, mutating=True)
    customer = item.get("Customer")
    if rule.verdict is Verdict.DONE and not (isinstance(customer, Mapping) and customer.get("Id")):
        rule = faults.NO_ENTITY
    if rule.verdict is Verdict.EXPIRED:
        rule = replace(rule, verdict=Verdict.RETRY)  # renewing is for the next request; this item was not applied
    return replace(
        whole,
        verdict=rule.verdict,
        entity=customer if rule.verdict is Verdict.DONE else None,
        code=code,
        reason=_reason(rule.reason, audit.elements(found.elements)),
    )


def _told_item(item: Any) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        return {}
    found = faults.of_document(item)
    told: dict[str, Any] = {"bId": audit.kept_id(item.get("bId")), **audit.answered(item)}
    if found.faulty:
        told["codes"] = list(found.codes)
        told["elements"] = audit.elements(found.elements)
    return told


__all__ = ["Answer", "BatchOperation", "Changes", "QuickBooksClient", "Slot", "quoted"]
