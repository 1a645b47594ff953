"""The way of each request: its token, its turn, the wire, the audit, and what the whole company learns from the answer.

python-quickbooks forms addresses and bodies; what came back is judged by `faults` from the answer itself, since the library
loses statuses and headers and puts bodies into its exceptions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import requests
from quickbooks.client import QuickBooks

from connectors.quickbooks import audit, faults, realm
from connectors.quickbooks.answers import Answer, reason_of, told_item
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
from connectors.quickbooks.pace import Held, Pace
from connectors.quickbooks.session import UnansweredError, UnsentError, Wire
from connectors.quickbooks.tokens import Access, Tokens, TokensBusyError

MINOR_VERSION = 75


@dataclass(frozen=True)
class Request:
    """One request.

    Args:
        operation: as the audit names it.
        call: has the library form and send it.
        told: what the audit keeps of it.
        kind: whose limits it counts against.
        mutating: whether an answer that does not come leaves its outcome unknown.
        record: whose customer.
        requestid: under which QuickBooks does it once.
        finds: the document where it has what was asked for.
    """

    operation: str
    call: Callable[[Library], Any]
    told: Mapping[str, Any]
    kind: Literal["request", "batch"] = "request"
    mutating: bool = False
    record: str | None = None
    requestid: str | None = None
    finds: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] = lambda document: document


class Library(QuickBooks):  # type: ignore[misc]
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


class Sender:
    """Sends a company's requests; thread-safe. Waiting for a turn ends when `stop` is set."""

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
        self.stop = threading.Event()
        self._options = options
        self._instance = instance
        self._pace = Pace(connections, realm_id, options.limits, clock)
        self._connections = connections
        self._wire = wire
        self._tokens = tokens
        self._clock = clock

    def close(self) -> None:
        """Let nobody wait any longer, and release connections."""
        self.stop.set()
        self._pace.close()
        self._connections.close()

    def heed(self, answers: Sequence[Answer]) -> None:
        """Let the whole company rest or stop where the operations of a batch say so."""
        if any(one.verdict is Verdict.THROTTLED for one in answers):
            self._pace.throttled()
        if (blocked := next((one for one in answers if one.verdict is Verdict.BLOCKED), None)) is not None:
            self._stop(blocked)

    def perform(self, request: Request) -> tuple[Answer, Mapping[str, Any] | None]:
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
            wait = self._pace.rest("QuickBooks does not accept an access token that it has just given")
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

    def _once(self, request: Request, token: Access) -> tuple[Answer, Mapping[str, Any] | None]:
        slot = self._pace.take(request.kind, self.stop)
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
            self._pace.settle(slot, self._entry(entry, request))
        if answer.verdict is Verdict.THROTTLED:
            answer = replace(answer, wait=self._pace.throttled())
        elif answer.verdict is Verdict.BLOCKED:
            self._stop(answer)
        return answer, document

    def _entry(self, entry: audit.Entry, request: Request) -> audit.Entry:
        return replace(
            entry,
            duration=self._clock.now() - entry.at,
            instance=self._instance,
            record=request.record,
            requestid=request.requestid,
            request=request.told,
        )

    def _sent(self, request: Request, token: Access) -> tuple[Answer, Mapping[str, Any] | None, Mapping[str, Any]]:
        library = Library(company_id=self.realm_id, minorversion=MINOR_VERSION)
        library.api_url_v3 = self._options.base_url
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
        self, request: Request, kept: requests.Response
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
            response["items"] = [told_item(item) for item in document["BatchItemResponse"]]
        answer = Answer(
            rule.verdict,
            entity=document.get("Customer") if document is not None and rule.verdict is Verdict.DONE else None,
            http_status=kept.status_code,
            code=code,
            reason=reason_of(rule.reason, names),
            tid=audit.kept_id(kept.headers.get("intuit_tid")),
        )
        return answer, document if answer.done else None, response

    def _stop(self, answer: Answer) -> None:
        reason = f"{answer.reason} (code {answer.code})" if answer.code else answer.reason
        with self._connections.use() as connection:
            realm.set_state(connection, self.realm_id, realm.STOPPED, reason, self._clock.now())
