"""The state machine of a push against every sequence of answers: it settles, and never makes a double."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.quickbooks import decide, naming
from connectors.quickbooks.answers import Answer
from connectors.quickbooks.client import BatchOperation
from connectors.quickbooks.customer import Company, Wished
from connectors.quickbooks.decide import Held, Request
from connectors.quickbooks.errors import QuickBooksUnavailableError
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.pusher import Pusher
from connectors.quickbooks.workload import Item, Pack, Recorded

ROUNDS = 60


class Books:
    """A company that does what it is told, or says so and does not, or does it in silence.

    Args:
        mishaps: for each request in turn what goes wrong, and whether it is carried out all the same; then all goes well.
        memory: whether requestids are remembered.
    """

    def __init__(self, mishaps: Sequence[tuple[Verdict, bool]], *, memory: bool) -> None:
        self.customers: dict[str, dict[str, Any]] = {}
        self.strangers: set[str] = set()
        self.now = 1_790_000_000.0
        self.stored: set[str] = set()
        self._mishaps = list(mishaps)
        self._memory: dict[str, Answer] | None = {} if memory else None
        self._bodies: dict[str, Any] = {}

    def create(self, body: Mapping[str, Any], *, requestid: str, record: str) -> Answer:
        return self._sent(requestid, body, lambda: self._create(body))

    def update(self, body: Mapping[str, Any], *, requestid: str, record: str, enhanced_fields: bool = False) -> Answer:
        return self._sent(requestid, body, lambda: self._update(body))

    def batch(self, operations: Sequence[BatchOperation], *, requestid: str) -> list[Answer]:
        if self._mishaps and self._mishaps[0][0] in (Verdict.UNKNOWN, Verdict.THROTTLED):
            verdict, applied = self._mishaps.pop(0)
            if applied:
                self._all(operations, requestid)
            return [Answer(verdict, reason="a mishap")] * len(operations)
        return self._all(operations, requestid)

    def _all(self, operations: Sequence[BatchOperation], requestid: str) -> list[Answer]:
        return [
            self._sent(
                f"{requestid}/{one.bid}",
                one.body,
                lambda one=one: self._create(one.body) if one.operation == "create" else self._update(one.body),  # type: ignore[misc]
                stored=False,
            )
            for one in operations
        ]

    def _sent(self, requestid: str, body: Mapping[str, Any], act: Any, *, stored: bool = True) -> Answer:
        assert not stored or requestid in self.stored, "a request was sent before it was stored"
        assert self._bodies.setdefault(requestid, dict(body)) == dict(body), "one requestid, two bodies"
        if self._memory is not None and requestid in self._memory:
            return self._memory[requestid]
        verdict, applied = self._mishaps.pop(0) if self._mishaps else (Verdict.DONE, True)
        if verdict is Verdict.DONE:
            return self._remember(requestid, act())
        if applied:
            self._remember(requestid, act())
        return Answer(verdict, reason="a mishap", code="6000" if verdict is Verdict.FEW_RETRIES else None)

    def _remember(self, requestid: str, answer: Answer) -> Answer:
        if self._memory is not None:
            self._memory[requestid] = answer
        return answer

    def _create(self, body: Mapping[str, Any]) -> Answer:
        if self._taken(body["DisplayName"], ""):
            return Answer(Verdict.NAME_TAKEN)
        id_ = str(len(self.customers) + 1)
        made = datetime.fromtimestamp(self.now, UTC).isoformat()
        self.customers[id_] = {**body, "Id": id_, "SyncToken": "0", "Active": True, "MetaData": {"CreateTime": made}}
        return Answer(Verdict.DONE, dict(self.customers[id_]))

    def _update(self, body: Mapping[str, Any]) -> Answer:
        found = self.customers[body["Id"]]
        if found["SyncToken"] != body["SyncToken"]:
            return Answer(Verdict.STALE)
        if "DisplayName" in body and self._taken(body["DisplayName"], body["Id"]):
            return Answer(Verdict.NAME_TAKEN)
        found.update({**body, "SyncToken": str(int(found["SyncToken"]) + 1)})
        return Answer(Verdict.DONE, dict(found))

    def _taken(self, name: str, but: str) -> bool:
        key = naming.key(name)
        others = (one["DisplayName"] for id_, one in self.customers.items() if id_ != but)
        return key in {*map(naming.key, others), *self.strangers}

    def query(self, statement: str) -> list[Mapping[str, Any]]:
        if self._mishaps and self._mishaps[0][0] is Verdict.RETRY:
            self._mishaps.pop(0)
            raise QuickBooksUnavailableError("a mishap")
        rows = list(self.customers.values()) if "FROM Customer" in statement else []
        if " FROM Vendor " in statement:
            rows = [{"Id": "v", "DisplayName": name} for name in self.strangers]
        if "Id IN (" in statement:
            return [row for row in rows if f"'{row['Id']}'" in statement]
        if "CreateTime" in statement:
            return [dict(row) for row in rows]
        return [dict(row) for row in rows if f"'{row['DisplayName'].lower()}'" in statement.lower()]


class Shelf:
    """Keeps what the store keeps, with the same rules."""

    def __init__(self, books: Books) -> None:
        self.helds: dict[str, Held] = {}
        self.requests: dict[str, Request] = {}
        self.names: dict[str, str] = {}
        self._books = books

    def begin(
        self, items: Sequence[tuple[Held, Request]], pack: Pack
    ) -> tuple[dict[str, tuple[Held, Request]], dict[str, str]]:
        refused = {}
        going = []
        for held, request in items:
            assert held.record not in self.requests, "two open requests of one record"
            key = naming.key(request.name or held.record)
            if request.name and self.names.setdefault(key, held.record) != held.record:
                refused[held.record] = key
            else:
                going.append((replace(held, sequence=held.sequence + 1), request))
        packed = pack([request for _, request in going])
        for (held, _), request in zip(going, packed, strict=True):
            assert request.requestid not in self._books.stored, "a requestid came a second time"
            self.helds[held.record], self.requests[held.record] = held, request
            self._books.stored.add(request.requestid)
        return {held.record: (held, request) for (held, _), request in zip(going, packed, strict=True)}, refused

    def again(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self.requests[request.record] = replace(request, sent_at=self._books.now)

    def record(self, outcomes: Sequence[Recorded]) -> dict[str, Held]:
        for one in outcomes:
            self.helds[one.held.record] = one.held
            if one.request is not None and one.settled:
                del self.requests[one.held.record]
            elif one.request is not None:
                self.requests[one.held.record] = one.request
        return {one.held.record: one.held for one in outcomes}

    def owners(self, ids: Sequence[str]) -> dict[str, str]:
        return {one.quickbooks_id: name for name, one in self.helds.items() if one.quickbooks_id in ids}


def wish(number: int, version: int) -> Wished:
    return Wished(
        f"a:{number}", "a", str(number), "Ann Lee" if number % 2 else f"Bob {number}", f"{number}.{version}",
        name_suffix=f"No {number}", phone=f"07{version}", fields={"Number": str(number)},
    )  # fmt: skip


VERDICTS = (Verdict.UNKNOWN, Verdict.RETRY, Verdict.THROTTLED, Verdict.FEW_RETRIES)
MISHAPS = st.lists(
    st.sampled_from(VERDICTS).flatmap(
        lambda verdict: st.tuples(st.just(verdict), st.booleans() if verdict is Verdict.UNKNOWN else st.just(False))
    ),
    max_size=14,
)


@settings(max_examples=120, deadline=None)
@given(MISHAPS, st.booleans(), st.integers(1, 7), st.lists(st.sampled_from([1.0, 40.0, 900.0]), max_size=ROUNDS))
def test_every_sequence_of_answers_settles(
    mishaps: list[tuple[Verdict, bool]], memory: bool, count: int, pauses: list[float]
) -> None:
    """Each record ends with one customer that holds its last values; requestids are stored first and never come twice."""
    books = Books(mishaps, memory=memory)
    books.strangers = {naming.key("Bob 2")}
    shelf = Shelf(books)
    for number in range(ROUNDS):
        wishes = {f"a:{n}": wish(n, 0 if number < 2 else 1) for n in range(1, count + 1)}
        items = [
            Item(
                shelf.helds.get(record) or Held(record, "seed"),
                wished,
                replace(shelf.requests[record], doubtful=True) if record in shelf.requests else None,
            )
            for record, wished in wishes.items()
            if (held := shelf.helds.get(record)) is None or _is_due(held, wished, books.now)
        ]
        pusher = Pusher(
            books, shelf, Company(), realm_id="r", instance="i", now=lambda: books.now, stop=threading.Event(), by="b"
        )  # fmt: skip
        pusher.push(items)
        books.now += pauses[number] if number < len(pauses) else 4000.0
    assert len(books.customers) == count, "a customer is missing, or there is a double"
    assert {one.state for one in shelf.helds.values()} == {"synced"}
    assert not shelf.requests
    assert {one["PrimaryPhone"]["FreeFormNumber"] for one in books.customers.values()} == {"071"}
    assert sorted(one.quickbooks_id or "" for one in shelf.helds.values()) == sorted(books.customers)


def _is_due(held: Held, wished: Wished, now: float) -> bool:
    """As the store picks records up; what was parked for 6000 is tried again by a person."""
    if held.state == "synced":
        return held.fingerprint != wished.fingerprint
    return held.due_at is None or held.due_at <= now


def test_requestids_tell_changes_and_not_contents() -> None:
    """The same value again is another change; another record, company or state database has other requestids."""
    held = Held("a:1", "seed")
    ids = {
        decide.requestid("r", "i", held),
        decide.requestid("r", "i", replace(held, sequence=1)),
        decide.requestid("r", "i", replace(held, seed="other")),
        decide.requestid("r", "j", held),
        decide.requestid("s", "i", held),
    }
    assert len(ids) == 5
    assert {len(one) for one in ids} == {40}
    assert len(decide.batch_requestid(sorted(ids))) == 32
