"""Requests in batches: how they are put together, and found again after a crash as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from connectors.quickbooks.client import MOST_OPERATIONS, BatchOperation
from connectors.quickbooks.decide import Request, batch_requestid


def batched(requests: Sequence[Request]) -> list[Request]:
    """The requests, each with its batch and place in it. Custom fields never go in a batch."""
    placed: list[Request] = []
    for start in range(0, len(requests), MOST_OPERATIONS):
        chunk = requests[start : start + MOST_OPERATIONS]
        batch_id = batch_requestid([request.requestid for request in chunk])
        placed += [replace(request, batch_id=batch_id, position=n) for n, request in enumerate(chunk)]
    return placed


def is_as_it_was(batch: Sequence[Request]) -> bool:
    """Whether these are all the requests of their batch: only then may it be sent again under its requestid."""
    return batch_requestid([request.requestid for request in batch]) == batch[0].batch_id


def operations(requests: Sequence[Request]) -> list[BatchOperation]:
    """The operations of a batch in their order: the same whenever it is sent."""
    return [
        BatchOperation(
            str(request.position),
            "create" if request.operation == "create" else "update",
            request.body,
            request.record,
        )
        for request in requests
    ]


def in_batches(requests: Sequence[Request]) -> tuple[list[list[Request]], list[Request]]:
    """The requests of each batch by their places, and those that go by themselves."""
    batches: dict[str, list[Request]] = {}
    alone: list[Request] = []
    for request in requests:
        if request.batch_id is None:
            alone.append(request)
        else:
            batches.setdefault(request.batch_id, []).append(request)
    return [sorted(batch, key=lambda one: one.position or 0) for batch in batches.values()], alone
