"""What became of a request: read from QuickBooks' own answer, item by item where it was a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.quickbooks import audit, faults
from connectors.quickbooks.faults import Verdict


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


def reason_of(reason: str, names: Sequence[str]) -> str:
    """A reason, with the attributes that it is about."""
    return f"{reason}: {', '.join(names)}" if names else reason


def found_customer(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The document where it holds a customer with its id."""
    customer = document.get("Customer")
    return document if isinstance(customer, Mapping) and customer.get("Id") else None


def found_items(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The document where it answers a batch."""
    return document if isinstance(document.get("BatchItemResponse"), list) else None


def found_response(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The document where it answers a question."""
    return document if isinstance(document.get("QueryResponse"), Mapping) else None


def found_changes(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The document where it tells changes."""
    return document if isinstance(document.get("CDCResponse"), list) else None


def found_company(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The document where it tells of the company."""
    return document if isinstance(document.get("CompanyInfo"), Mapping) else None


def rows(response: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entities of an answer to a question, of whatever kind."""
    return [row for part in response.values() if isinstance(part, list) for row in part if isinstance(row, Mapping)]


def of_batch(answer: Answer) -> Answer:
    """A batch that was refused as a whole says nothing about any one of its customers."""
    if answer.verdict in (Verdict.DATA, Verdict.NAME_TAKEN, Verdict.STALE, Verdict.GONE, Verdict.UNSUPPORTED):
        return replace(answer, verdict=Verdict.FEW_RETRIES, reason=f"the batch as a whole: {answer.reason}")
    return answer


def of_item(item: Mapping[str, Any] | None, whole: Answer) -> Answer:
    """The answer to one of a batch's operations, the batch as a whole having come through."""
    if item is None:
        return replace(whole, verdict=Verdict.UNKNOWN, reason="the batch's answer leaves this one out")
    found = faults.of_document(item)
    rule, code = faults.judge(200, found, mutating=True)
    if rule.verdict is Verdict.DONE and found_customer(item) is None:
        rule = faults.NO_ENTITY
    if rule.verdict is Verdict.EXPIRED:
        rule = replace(rule, verdict=Verdict.RETRY)  # renewing is for the next request; this item was not applied
    return replace(
        whole,
        verdict=rule.verdict,
        entity=item["Customer"] if rule.verdict is Verdict.DONE else None,
        code=code,
        reason=reason_of(rule.reason, audit.elements(found.elements)),
    )


def told_item(item: Any) -> dict[str, Any]:
    """What the audit keeps of it."""
    if not isinstance(item, Mapping):
        return {}
    found = faults.of_document(item)
    told: dict[str, Any] = {"bId": audit.kept_id(item.get("bId")), **audit.answered(item)}
    if found.faulty:
        told["codes"] = list(found.codes)
        told["elements"] = audit.elements(found.elements)
    return told
