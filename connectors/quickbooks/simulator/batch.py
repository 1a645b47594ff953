"""The batch endpoint: up to thirty operations, each by itself, and its own faults inside an answer of 200."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from connectors.quickbooks.simulator import query
from connectors.quickbooks.simulator.company import KINDS, Company
from connectors.quickbooks.simulator.memory import Memory
from connectors.quickbooks.simulator.people import write
from connectors.quickbooks.simulator.replies import FaultError

MOST = 30
_LONGEST_ID = 10  # where the request has a requestid, with which it makes the operation's own

# (operation, its text, what it is known by) -> the code of the fault it ends with, where it shall.
Faulty = Callable[[str, str], str | None]


def run(
    company: Company,
    body: Mapping[str, Any],
    now: float,
    *,
    memory: Memory,
    requestid: str,
    faulty: Faulty,
    recall: bool = True,
    replay: str = "original",
    most: int | None = None,
    include: str = "",
) -> list[dict[str, Any]]:
    """What each operation came to, in order.

    Args:
        company: what they are about.
        body: the request's.
        now: seconds since 1970.
        memory: where the answer to each operation of a request with a requestid is kept.
        requestid: the request's; "" where it has none.
        faulty: tells which operation shall end with a fault.
        recall: whether operations done before are answered from memory.
        replay: what such an operation is answered: `original`, or a fault (`6000_items`).
        most: only so many are done.
        include: the request's.

    Raises:
        FaultError: the request as a whole is refused.
    """
    items = body.get("BatchItemRequest")
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise FaultError("2020", "Required parameter BatchItemRequest is missing in the request")
    if len(items) > MOST:
        raise FaultError("1040", f"The batch limit size is {MOST}. Supplied size: {len(items)}")
    ids = [str(item.get("bId") or "") for item in items]
    if "" in ids or len(set(ids)) < len(ids):
        raise FaultError("2020", "Required parameter bId is missing in the request, or is not unique")
    if requestid and any(len(number) > _LONGEST_ID for number in ids):
        raise FaultError("2130", f"A bId of a request with a requestid has at most {_LONGEST_ID} characters.")
    answers = []
    for number, item in list(zip(ids, items, strict=True))[:most]:
        text = str(item).encode()
        key = f"{requestid}\n{number}"
        found = memory.recall(company.realm, key, text, now) if requestid and recall else None
        if found is not None:
            answer = {"Fault": FaultError("6000").body()} if replay == "6000_items" else found.answer
        else:
            code = faulty(_operation(item), text.decode())
            try:
                if code:
                    raise FaultError(code)  # noqa: TRY301 - told like any other
                answer = _one(company, item, now, include)
            except FaultError as fault:
                answer = {"Fault": fault.body()}
            if requestid and not code:
                memory.keep(company.realm, key, text, answer, now)
        answers.append({**answer, "bId": number})
    return answers


def _operation(item: Mapping[str, Any]) -> str:
    return "query" if "Query" in item else str(item.get("operation", ""))


def _one(company: Company, item: Mapping[str, Any], now: float, include: str) -> dict[str, Any]:
    if "Query" in item:
        return {"QueryResponse": query.answer(company, str(item["Query"]), include=include)}
    kind = next((kind for kind in KINDS if isinstance(item.get(kind), dict)), None)
    if kind is None:
        raise FaultError("2000", "The operation names no object that is supported.")
    entity: dict[str, Any] = item[kind]
    operation = item.get("operation")
    if operation == "create":
        return {kind: write(company, kind, {**entity, "Id": None}, now, include=include)}
    if operation == "update":
        if not entity.get("Id"):
            raise FaultError("2020", "Required parameter Id is missing in the request", element="Id")
        return {kind: write(company, kind, entity, now, include=include)}
    if operation is None:
        raise FaultError("2020", "Required parameter operation is missing in the request")
    raise FaultError("500", f"Operation {operation} is not supported.")
