"""Brings customers into QuickBooks: a few records at a time, step by step, each request stored before it is sent.

1. Requests whose outcome is not recorded are settled: sent again as they were, or looked up.
2. What is wished is compared with what was sent; the next request of each record is stored, with its requestid and its
   display name reserved, and that is committed.
3. They are sent, thirty and more in batches, else one by one.
4. What the answers mean is decided (`decide`), who has a name is looked up, and all is recorded in one transaction.
5. From 2 again, until nothing differs, or something has to wait.

A kill anywhere leaves stored requests behind, and 1 settles them. Nothing here knows a table or a domain.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from psycopg.errors import UniqueViolation
from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential_jitter, wait_random

from connectors.failpoints import failpoint
from connectors.quickbooks import decide, naming, resolve
from connectors.quickbooks.batch import batched, in_batches, operations
from connectors.quickbooks.client import Answer, BatchOperation
from connectors.quickbooks.customer import Company, Entity, Wished, differences
from connectors.quickbooks.decide import Change, Found, Held, Next, Request, Ruling
from connectors.quickbooks.errors import QuickBooksBlockedError, QuickBooksError
from connectors.quickbooks.faults import Verdict

FORGOTTEN = 600.0  # seconds after which QuickBooks may have forgotten a requestid: how long it knows one is not told
BATCH_FROM = 30  # records from which batches are worth their wait
_STEPS = 12  # rounds for one set of records: a record needs two or three
_NEXT_TRY: wait_base = wait_exponential_jitter(multiplier=1, exp_base=2, max=300, jitter=1)
_AFTER_FAILURE: wait_base = wait_random(1800, 3600)
ATTEMPTS = 8


class ClaimLostError(Exception):
    """Another session has taken the record over: what this one knows of it is old."""


@dataclass
class Item:
    """A record that is worked on.

    Args:
        held: what is known of its customer.
        wished: as the models say it should be; None where its row has gone.
        request: stored and not settled.
        over: whether this set of steps has nothing more to do for it.
        error: why it did not come through, for people; None where it did or only waits.
        taken: keys of display names that other records of ours have.
        remarks: what was left out, as of the last plan.
    """

    held: Held
    wished: Wished | None
    request: Request | None = None
    over: bool = False
    error: str | None = None
    waits: bool = False
    taken: set[str] = field(default_factory=set)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """What came of a request, and what is known since; without a request only that."""

    held: Held
    request: Request | None = None
    settled: bool = False
    outcome: str = ""


class Client(Protocol):
    """What is needed of `QuickBooksClient`."""

    def create(self, body: Mapping[str, Any], *, requestid: str, record: str) -> Answer:
        """Create a customer."""

    def update(self, body: Mapping[str, Any], *, requestid: str, record: str, enhanced_fields: bool = False) -> Answer:
        """Update a customer sparsely."""

    def batch(self, operations: Sequence[BatchOperation], *, requestid: str) -> list[Answer]:
        """Several of them."""

    def read(self, quickbooks_id: str) -> Answer:
        """A customer by id."""

    def query(self, statement: str) -> list[Mapping[str, Any]]:
        """The rows of a SELECT."""


class Store(Protocol):
    """Where customers and requests are kept; every call is one transaction. See `consumers.customers`."""

    def begin(self, items: Sequence[tuple[Held, Request]]) -> tuple[dict[str, Held], dict[str, str]]:
        """Store requests and reserve their names; what was stored, and names that others have, by record."""

    def again(self, requests: Sequence[Request]) -> None:
        """Note that requests are sent once more."""

    def record(self, outcomes: Sequence[Recorded]) -> dict[str, Held]:
        """Record what came of requests."""

    def owners(self, ids: Sequence[str]) -> dict[str, str]:
        """Who has customers in the map, by QuickBooks id."""


@dataclass
class Counts:
    """What was done: requests sent by operation, and how records ended."""

    created: int = 0
    updated: int = 0
    unknown: int = 0
    parked: int = 0
    failed: int = 0
    throttled: int = 0


class Pusher:
    """Works on sets of records that its caller has claimed. One thread at a time.

    Args:
        client: of the company.
        store: where everything is recorded.
        company: what bodies depend on.
        realm_id: the company's.
        instance: the domain instance's.
        now: seconds since 1970.
        stop: set: nothing new is begun.
        by: who pushes, as recorded.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        company: Company,
        *,
        realm_id: str,
        instance: str,
        now: Callable[[], float],
        stop: threading.Event,
        by: str,
        forgotten: float = FORGOTTEN,
        attempts: int = ATTEMPTS,
        batch_from: int = BATCH_FROM,
    ) -> None:
        self._client = client
        self._store = store
        self.company = company
        self._realm = realm_id
        self._instance = instance
        self._now = now
        self._stop = stop
        self._by = by
        self._forgotten = forgotten
        self._attempts = attempts
        self._batch_from = batch_from
        self.blocked: str | None = None
        self.counts = Counts()

    def push(self, items: Sequence[Item]) -> None:
        """Bring the records as far as they come now. What became of each is in the items and in the store.

        Raises ClaimLostError where another session took over.
        """
        for item in items:
            if item.wished is not None:
                item.held = decide.pruned(item.held, item.wished, self.company)
                if item.held.tried != item.wished.fingerprint and item.request is None:
                    item.held = replace(item.held, attempts=0)
        self._settle([item for item in items if item.request is not None])
        for _ in range(_STEPS):
            active = [item for item in items if not item.over]
            if not active or self._stop.is_set() or self.blocked:
                break
            self._plan([item for item in active if item.request is None])
            ready = [item for item in active if item.request is not None and not item.over]
            self._send(ready, fresh=True)
        for item in items:
            if not item.over:
                item.waits = True

    # --- settling what is left over ---

    def _settle(self, items: Sequence[Item]) -> None:
        """Send again what has no recorded outcome; look up first what QuickBooks may have forgotten."""
        old = [item for item in items if item.request and self._now() - item.request.sent_at > self._forgotten]
        creates = [item for item in old if item.request and (item.request.operation == "create" or item.request.name)]
        if creates and not self._look_up(creates, also_made_since=True, settle_nothing=True):
            return
        left = [item for item in items if item.request is not None and not item.over]
        # A batch that may be forgotten is not sent again: its operations are, each by itself.
        for item in left:
            if item in old and item.request is not None:
                item.request = replace(item.request, batch_id=None, position=None)
        self._send(left, fresh=False)

    # --- planning ---

    def _plan(self, items: Sequence[Item]) -> None:
        """Store the next request of each record; finish those that need none."""
        ended: list[tuple[Item, Recorded]] = []
        going: list[tuple[Item, Request]] = []
        for item in items:
            if item.wished is None:
                item.over = True  # its row has gone; what was under way is settled
                self._gone(item, ended)
                continue
            planned = decide.plan(item.wished, item.held, self.company, item.taken)
            item.remarks = planned.remarks
            if isinstance(planned.step, Change):
                request = decide.new_request(
                    self._realm, self._instance, item.held, planned.step, item.wished, self._now()
                )
                going.append((item, request))
            elif planned.step is Next.NOTHING:
                held = decide.finished(item.held, item.wished, planned.remarks, self._now(), self._by)
                item.over = True
                ended.append((item, Recorded(held)))
            elif planned.step is Next.READ:
                self._read_first(item, ended)
            else:
                ended.append(
                    (item, Recorded(self._park(item, "every display name it may have is taken in QuickBooks")))
                )
        if ended:
            self._record(ended)
        if going:
            self._begin(going)

    def _gone(self, item: Item, ended: list[tuple[Item, Recorded]]) -> None:
        if item.held.quickbooks_id is not None:
            ended.append((item, Recorded(replace(item.held, state="synced", due_at=None, told=False))))
        else:
            ended.append((item, Recorded(replace(item.held, state="available", due_at=None))))

    def _begin(self, going: Sequence[tuple[Item, Request]]) -> None:
        packed = [request for _, request in going if request.operation != "fields"]
        places: dict[str, Request] = {}
        if len(packed) >= self._batch_from:
            places = {request.requestid: request for request in batched(packed)}
        stored: list[tuple[Held, Request]] = []
        for item, request in going:
            item.request = places.get(request.requestid, request)
            held = replace(
                item.held,
                state="running",
                due_at=None,
                reason=None,
                tried=item.wished.fingerprint if item.wished else None,
            )
            stored.append((held, item.request))
        began, refused = self._store.begin(stored)
        for item, _ in going:
            if item.held.record in refused:
                item.taken.add(refused[item.held.record])
                item.request = None
            else:
                item.held = began[item.held.record]
        failpoint("customer_request_stored")

    def _read_first(self, item: Item, ended: list[tuple[Item, Recorded]]) -> None:
        """What a customer of the map holds is not known: what it holds now counts as sent."""
        entity = self._by_id(item)
        if item.over:
            return
        if entity is None or decide.inactive(entity):
            ended.append((item, Recorded(self._park(item, _ABSENT if entity is None else _INACTIVE))))
            return
        item.held = decide.read(item.held, entity, keep_sent=False)

    # --- sending ---

    def _send(self, items: Sequence[Item], *, fresh: bool) -> None:
        if not fresh and items:
            self._store.again([item.request for item in items if item.request is not None])
        by_request = {item.request.requestid: item for item in items if item.request is not None}
        batches, alone = in_batches([item.request for item in items if item.request is not None])
        # A batch put together with records that were left out of it is none.
        for batch in batches:
            if self._stop.is_set() or self.blocked:
                break
            whole = [one.position for one in batch] == list(range(len(batch)))
            if not whole or self._batch_is_broken(batch):
                alone += batch
                continue
            answers = self._client.batch(operations(batch), requestid=str(batch[0].batch_id))
            failpoint("customer_answer_received")
            self._judge([(by_request[one.requestid], answer) for one, answer in zip(batch, answers, strict=True)])
        for request in alone:
            if self._stop.is_set() or self.blocked:
                break
            answer = self._one(request)
            failpoint("customer_answer_received")
            self._judge([(by_request[request.requestid], answer)])

    def _batch_is_broken(self, batch: Sequence[Request]) -> bool:
        return decide.batch_requestid([one.requestid for one in batch]) != batch[0].batch_id

    def _one(self, request: Request) -> Answer:
        if request.operation == "create":
            return self._client.create(request.body, requestid=request.requestid, record=request.record)
        return self._client.update(
            request.body,
            requestid=request.requestid,
            record=request.record,
            enhanced_fields=request.operation == "fields",
        )

    # --- judging ---

    def _judge(self, answered: Sequence[tuple[Item, Answer]]) -> None:
        """Decide what the answers mean, look up what they leave open, and record all of it."""
        recorded: list[tuple[Item, Recorded]] = []
        look_up: list[Item] = []
        for item, answer in answered:
            request = item.request
            assert request is not None  # noqa: S101 - for mypy; it was just sent
            item.request = request = replace(
                request, sends=request.sends + 1, refusals=request.refusals + (answer.verdict is Verdict.FEW_RETRIES)
            )
            ruling = decide.judge(request, answer.verdict)
            if ruling is Ruling.LOOK_UP or (ruling is Ruling.FEW and request.refusals >= decide.FEW):
                look_up.append(item)
            elif ruling is Ruling.READ:
                self._reread(item, recorded)
            elif ruling is Ruling.GONE:
                self._resolve_gone(item, recorded)
            else:
                self._rule(item, ruling, answer, recorded)
        if recorded:
            self._record(recorded)
        if look_up:
            self._look_up(look_up)

    def _rule(self, item: Item, ruling: Ruling, answer: Answer, recorded: list[tuple[Item, Recorded]]) -> None:
        request = item.request
        assert request is not None  # noqa: S101 - as above
        if ruling is Ruling.APPLIED and answer.entity is not None:
            self._applied(item, answer.entity, recorded)
        elif ruling is Ruling.NAME_REFUSED:
            self._renamed(item, recorded)
        elif ruling is Ruling.REFUSED:
            self._refused(item, answer, recorded)
        elif ruling is Ruling.PUT_BACK:
            self.counts.throttled += 1
            if answer.verdict is Verdict.BLOCKED or answer.wait > 0 or not answer.sent:
                self.blocked = answer.reason
            self._wait(item, recorded, answer.reason, max(answer.wait, 0.5), counts=False)
        else:
            if ruling is not Ruling.RETRY:
                self.counts.unknown += ruling is Ruling.UNKNOWN
                item.request = request = replace(request, doubtful=True)
            self._wait(item, recorded, answer.reason, None, counts=True)

    def _applied(self, item: Item, entity: Entity, recorded: list[tuple[Item, Recorded]]) -> None:
        request = item.request
        assert request is not None  # noqa: S101 - as above
        failpoint("customer_outcome_known")
        if request.operation == "create":
            self.counts.created += 1
        else:
            self.counts.updated += 1
        held = decide.applied(item.held, request, entity, self._now(), self._by)
        if kept := differences(request.attributes, entity):
            item.remarks = (*item.remarks, f"QuickBooks holds another {', '.join(kept)} than was sent")
        recorded.append((item, Recorded(held, request, settled=True, outcome="applied")))
        if decide.inactive(entity):
            recorded[-1] = (item, Recorded(self._park(item, _INACTIVE, held), request, True, "applied"))

    def _renamed(self, item: Item, recorded: list[tuple[Item, Recorded]]) -> None:
        request = item.request
        assert request is not None  # noqa: S101 - as above
        held = decide.name_refused(item.held, request)
        recorded.append((item, Recorded(held, request, settled=True, outcome="name taken")))

    def _refused(self, item: Item, answer: Answer, recorded: list[tuple[Item, Recorded]]) -> None:
        """The data are refused for certain: with less, else for a person."""
        request = item.request
        assert request is not None  # noqa: S101 - as above
        outcome = f"refused {answer.code or answer.http_status or ''}".strip()
        if request.operation == "fields":
            held = decide.refused_fields(item.held, request)
            recorded.append((item, Recorded(held, request, settled=True, outcome=outcome)))
            return
        less = decide.without(item.held, request) if answer.verdict is Verdict.DATA else None
        if less is not None:
            recorded.append((item, Recorded(less, request, settled=True, outcome=outcome)))
            return
        reason = f"{answer.reason or 'refused'}{f' ({answer.code})' if answer.code else ''}"
        recorded.append((item, Recorded(self._park(item, reason), request, settled=True, outcome=outcome)))

    def _reread(self, item: Item, recorded: list[tuple[Item, Recorded]]) -> None:
        """Stale: if the customer holds what was sent it was carried out; else the change is made anew on what is there."""
        request = item.request
        assert request is not None  # noqa: S101 - as above
        entity = self._by_id(item)
        if item.over:
            return
        if entity is None or decide.inactive(entity):
            reason = _ABSENT if entity is None else _INACTIVE
            recorded.append((item, Recorded(self._park(item, reason), request, settled=True, outcome="gone")))
        elif decide.judge_read(request, entity) is Ruling.APPLIED:
            self._applied(item, entity, recorded)
        else:
            held = decide.read(item.held, entity, keep_sent=True)
            recorded.append((item, Recorded(held, request, settled=True, outcome="stale")))

    def _resolve_gone(self, item: Item, recorded: list[tuple[Item, Recorded]]) -> None:
        request = item.request
        assert request is not None  # noqa: S101 - as above
        entity = self._by_id(item)
        if item.over:
            return
        if entity is not None and not decide.inactive(entity):
            reason = "QuickBooks says that something is gone, and the customer is there (610)"
        else:
            reason = _ABSENT if entity is None else _INACTIVE
        recorded.append((item, Recorded(self._park(item, reason), request, settled=True, outcome="gone")))

    def _look_up(self, items: Sequence[Item], *, also_made_since: bool = False, settle_nothing: bool = False) -> bool:
        """Find out whose the names are that requests asked for. Returns False where QuickBooks could not be asked.

        Args:
            items: with requests that are doubtful.
            also_made_since: look among the customers made since the first request too.
            settle_nothing: leave requests alone whose name nobody has: they are sent again.
        """
        requests = [item.request for item in items if item.request is not None]
        try:
            found = resolve.who_has(self._client, [one.name for one in requests if one.name])
            if also_made_since or any(one.refusals >= decide.FEW for one in requests):
                creates = [one.since for one in requests if one.operation == "create"]
                found += resolve.made_since(self._client, min(creates)) if creates else []
        except QuickBooksError as error:
            self._unasked(items, error)
            return False
        owners = self._store.owners([one.id for one in found if one.kind == "Customer"])
        recorded: list[tuple[Item, Recorded]] = []
        for item in items:
            self._found(item, found, owners, recorded, settle_nothing=settle_nothing)
        if recorded:
            self._record(recorded)
        return True

    def _found(
        self,
        item: Item,
        found: Sequence[Found],
        owners: Mapping[str, str],
        recorded: list[tuple[Item, Recorded]],
        *,
        settle_nothing: bool,
    ) -> None:
        request = item.request
        assert request is not None  # noqa: S101 - as above
        taken = {one.held.quickbooks_id for _, one in recorded}
        known = {**owners, **{id_: "another" for id_ in taken if id_}}
        ruling, entity = decide.judge_found(request, found, known, item.held.quickbooks_id)
        if ruling is Ruling.APPLIED and entity is not None:
            self._applied(item, entity, recorded)
        elif ruling is Ruling.NAME_REFUSED:
            self._renamed(item, recorded)
        elif request.refusals >= decide.FEW:
            self._give_up(item, recorded)
        elif not settle_nothing:
            # QuickBooks says that somebody has the name, and nobody has: it may be ours, not to be seen yet.
            self._wait(item, recorded, "the name is taken, and nobody is found who has it", None, counts=True)

    def _give_up(self, item: Item, recorded: list[tuple[Item, Recorded]]) -> None:
        """QuickBooks could not process it again and again (6000), and did not carry it out as far as can be seen.

        Once it is made anew under another requestid, with the same name: should the first come through late, the name
        is taken. Then a person has to look.
        """
        request = item.request
        assert request is not None  # noqa: S101 - as above
        renewed = item.held.doubt_since is not None
        held = replace(item.held, doubt_since=request.since) if request.operation == "create" else item.held
        if renewed or request.operation != "create":
            reason = "QuickBooks could not process it (6000)"
            recorded.append((item, Recorded(self._park(item, reason, held), request, settled=True, outcome="6000")))
        else:
            recorded.append((item, Recorded(held, request, settled=True, outcome="given up")))

    def _by_id(self, item: Item) -> Entity | None:
        """The customer as it is; marks the item as over where QuickBooks could not be asked."""
        try:
            return resolve.by_id(self._client, str(item.held.quickbooks_id))
        except QuickBooksError as error:
            self._unasked([item], error)
            return None

    def _unasked(self, items: Sequence[Item], error: QuickBooksError) -> None:
        recorded: list[tuple[Item, Recorded]] = []
        is_blocked = isinstance(error, QuickBooksBlockedError)
        if is_blocked:
            self.blocked = error.message
        for item in items:
            if not item.over:
                self._wait(item, recorded, error.message, 1.0 if is_blocked else None, counts=not is_blocked)
        self._record(recorded)

    # --- recording ---

    def _wait(
        self,
        item: Item,
        recorded: list[tuple[Item, Recorded]],
        reason: str,
        seconds: float | None,
        *,
        counts: bool,
    ) -> None:
        """Try it again later; after many attempts by the rule for what failed.

        Args:
            item: with or without a request.
            recorded: takes what is to be recorded.
            reason: for people.
            seconds: until then; None: by the number of attempts.
            counts: whether it spends an attempt.
        """
        held = item.held
        attempts = held.attempts + counts
        failed = counts and attempts >= self._attempts
        if seconds is None:
            seconds = _seconds(_AFTER_FAILURE if failed else _NEXT_TRY, attempts)
        state: decide.State = "failed" if failed or held.state == "failed" else "retryable"
        told = held.told and not (counts and state != held.state)
        held = replace(
            held, state=state, attempts=attempts, due_at=self._now() + seconds, reason=reason or None, told=told
        )
        self.counts.failed += failed
        item.over = item.waits = True
        item.error = reason if failed else None
        request = item.request
        if request is not None and request.batch_id is not None and not _is_whole_unknown(item):
            request = replace(request, batch_id=None, position=None)
        recorded.append((item, Recorded(held, request)))

    def _park(self, item: Item, reason: str, held: Held | None = None) -> Held:
        item.over, item.error = True, reason
        self.counts.parked += 1
        known = held or item.held
        tried = item.wished.fingerprint if item.wished else known.tried
        return replace(known, state="parked", tried=tried, reason=reason, due_at=None, told=False)

    def _record(self, outcomes: Sequence[tuple[Item, Recorded]]) -> None:
        if not outcomes:
            return
        try:
            stored = self._store.record([recorded for _, recorded in outcomes])
        except UniqueViolation:
            if len(outcomes) > 1:
                for one in outcomes:
                    self._record([one])
                return
            item, recorded = outcomes[0]
            reason = "QuickBooks answered with a customer that belongs to another record"
            held = self._park(item, reason, replace(item.held, remarks=None))
            recorded = Recorded(held, recorded.request, settled=recorded.settled, outcome="contradicts")
            stored = self._store.record([recorded])
            outcomes = [(item, recorded)]
        for item, recorded in outcomes:
            item.held = stored[item.held.record]
            if recorded.settled:
                item.request = None
        failpoint("customer_answer_recorded")


_INACTIVE = "the customer was deactivated in QuickBooks"
_ABSENT = "the customer is no longer in QuickBooks: deleted, or merged into another"


def _is_whole_unknown(item: Item) -> bool:
    """Whether the request's batch is to be sent again as it was."""
    return item.request is not None and item.request.doubtful and item.request.refusals == 0


def _seconds(wait: wait_base, attempt: int) -> float:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = max(1, attempt)
    return float(wait(state))


__all__ = ["ClaimLostError", "Client", "Counts", "Found", "Item", "Pusher", "Recorded", "Store", "naming"]
