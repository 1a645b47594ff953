"""Every request that the simulator saw, in order, for tests and for its page."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from connectors.quickbooks.simulator.replies import Call


@dataclass
class Seen:
    """One request.

    Attributes:
        at: when it came, seconds since 1970.
        operation: create, update, read, query, batch, cdc, token, …; "" for what is unknown.
        body: as it came.
        status: of the answer; None where the connection broke.
        code: of the fault answered.
        fault: the kind of the fault on demand that it met.
        applied: it changed something, or would have been allowed to.
        replayed: it was answered from memory.
        late: when it was carried out, where that was after its connection broke.
    """

    number: int
    at: float
    method: str
    path: str
    operation: str
    app: str
    requestid: str
    query: dict[str, str]
    body: bytes
    status: int | None = None
    code: str = ""
    fault: str = ""
    applied: bool = False
    replayed: bool = False
    late: float | None = None

    @property
    def json(self) -> Any:
        """The body's JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def told(self) -> dict[str, Any]:
        """The request for the control API: its body as JSON or text."""
        found = self.json
        return {**asdict(self), "body": self.body.decode(errors="replace") if found is None else found}


class Ledger:
    """What was seen; the oldest are dropped where there are too many. Not thread-safe."""

    def __init__(self, most: int = 100_000) -> None:
        self._seen: deque[Seen] = deque(maxlen=most)
        self._count = 0
        self.operations: Counter[str] = Counter()

    def note(self, call: Call, operation: str, app: str, now: float) -> Seen:
        """Add a request."""
        self._count += 1
        self.operations[operation or "unknown"] += 1
        seen = Seen(
            self._count,
            now,
            call.method,
            call.path,
            operation,
            app,
            call.query.get("requestid", ""),
            dict(call.query),
            call.body,
        )
        self._seen.append(seen)
        return seen

    def clear(self) -> None:
        """Forget all but the number of the last."""
        self._seen.clear()
        self.operations.clear()

    def since(self, number: int = 0, *, operation: str = "") -> list[Seen]:
        """The requests after the one of that number, of an operation or of all."""
        return [seen for seen in self._seen if seen.number > number and operation in ("", seen.operation)]

    def __iter__(self) -> Iterator[Seen]:
        return iter(list(self._seen))

    def __len__(self) -> int:
        return len(self._seen)
