"""Brings customers into QuickBooks: a few records at a time, step by step, each request stored before it is sent.

1. Requests whose outcome is not recorded are settled: sent again as they were, or looked up.
2. What is wished is compared with what was sent; the next request of each record is stored, with its requestid and its
   display name reserved, and that is committed.
3. They are sent, many in batches, else one by one.
4. What the answers mean is decided (`decide`), who has a name is looked up, and all is recorded (`outcomes`).
5. From 2 again, until nothing differs, or something has to wait.

A kill anywhere leaves stored requests behind, and 1 settles them. Nothing here knows a table or a domain.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from connectors.failpoints import failpoint
from connectors.quickbooks import decide, known
from connectors.quickbooks.answers import Answer
from connectors.quickbooks.batch import batched, in_batches, is_as_it_was, operations
from connectors.quickbooks.customer import Company, known_of
from connectors.quickbooks.decide import Change, Held, Next, Request
from connectors.quickbooks.outcomes import ATTEMPTS, NO_NAME, Outcomes
from connectors.quickbooks.workload import Client, Counts, Item, Pack, Store

FORGOTTEN = 600.0  # seconds after which QuickBooks may have forgotten a requestid: how long it knows one is not told
BATCH_FROM = 4  # requests that are worth a batch
_STEPS = 12  # rounds for one set of records: a record needs two or three


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
        forgotten: seconds after which a doubtful request is looked up before it is sent again.
        attempts: after so many a record counts as failed.
        batch_from: requests that are worth a batch.
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
        self._realm = realm_id
        self._instance = instance
        self._now = now
        self._stop = stop
        self._by = by
        self._forgotten = forgotten
        self._batch_from = batch_from
        self._outcomes = Outcomes(client, store, company, now, by=by, attempts=attempts)

    @property
    def counts(self) -> Counts:
        """What was done."""
        return self._outcomes.counts

    @property
    def company(self) -> Company:
        """What bodies depend on, as it is known by now."""
        return self._outcomes.company

    @property
    def blocked(self) -> str | None:
        """Why nothing more is sent now; None where it is."""
        return self._outcomes.blocked

    @property
    def unanswered(self) -> int:
        """Requests in a row, up to the last, that got no answer."""
        return self._outcomes.unanswered

    @property
    def answered(self) -> bool:
        """Whether any request got an answer."""
        return self._outcomes.answered

    @property
    def _ends(self) -> bool:
        """Whether nothing more is sent: what is stored and was not sent spends no attempt, and is settled later."""
        return self._stop.is_set() or self.blocked is not None or self._outcomes.silent

    def push(self, items: Sequence[Item]) -> None:
        """Bring the records as far as they come now. What became of each is in the items and in the store.

        Raises ClaimLostError where another session took over.
        """
        for item in items:
            if item.wished is not None:
                item.held = decide.pruned(item.held, item.wished, self.company)
                if item.request is None and item.held.tried != item.wished.fingerprint:
                    item.held = replace(item.held, attempts=0)
        self._settle([item for item in items if item.request is not None])
        for _ in range(_STEPS):
            active = [item for item in items if not item.over]
            if not active or self._ends:
                break
            self._plan([item for item in active if item.request is None])
            self._send([item for item in active if item.request is not None and not item.over])

    def _settle(self, items: Sequence[Item]) -> None:
        """Send again what has no recorded outcome; look up first what QuickBooks may have forgotten."""
        if not items:
            return
        old = [item for item in items if self._now() - item.open.sent_at > self._forgotten]
        named = [item for item in old if item.open.operation == "create" or item.open.name]
        if named and not self._outcomes.look_up(named, resend=True):
            self._outcomes.record()
            return
        # What an update without a name left behind shows in the customer: what is lacking goes with the next request.
        self._outcomes.reread([item for item in old if item not in named])
        self._outcomes.record()
        for item in named:
            # A batch that may be forgotten is not sent again: its operations are, each by itself.
            if item.request is not None:
                item.request = replace(item.request, batch_id=None, position=None)
        left = [item for item in items if item.request is not None and not item.over]
        if left:
            self._store.again([item.open for item in left])
            self._send(left)

    # --- planning ---

    def _plan(self, items: Sequence[Item]) -> None:
        """Store the next request of each record; finish those that need none."""
        going: list[tuple[Item, Request]] = []
        unread: list[Item] = []
        for item in items:
            if item.wished is None:
                self._outcomes.leave(item)
                continue
            planned = decide.plan(item.wished, item.held, self.company, item.taken)
            if item.reactivates and item.held.quickbooks_id is not None:
                planned = replace(planned, step=decide.reactivation(item.held))
                item.reactivates = False
            if isinstance(planned.step, Change):
                step = planned.step
                request = decide.new_request(self._realm, self._instance, item.held, step, item.wished, self._now())
                going.append((item, request))
            elif planned.step is Next.NOTHING:
                held = known.finished(item.held, item.wished, planned.remarks, self._now(), self._by)
                self._outcomes.finish(item, held)
            elif planned.step is Next.READ:
                unread.append(item)
            else:
                self._outcomes.park(item, NO_NAME)
        self._read_first(unread)
        self._outcomes.record()
        if going:
            self._begin(going)

    def _begin(self, going: Sequence[tuple[Item, Request]]) -> None:
        stored: list[tuple[Held, Request]] = []
        for item, request in going:
            tried = item.wished.fingerprint if item.wished else None
            stored.append((replace(item.held, state="running", due_at=None, reason=None, tried=tried), request))
        pack: Pack = self._pack
        began, refused = self._store.begin(stored, pack)
        for item, _ in going:
            if item.held.record in refused:
                item.taken.add(refused[item.held.record])
            else:
                item.held, item.request = began[item.held.record]
        failpoint("customer_request_stored")

    def _pack(self, requests: Sequence[Request]) -> Sequence[Request]:
        """The requests in batches, where there are enough of them that may go in one."""
        fit = [request for request in requests if request.operation != "fields"]
        if len(fit) < self._batch_from:
            return requests
        placed = {request.requestid: request for request in batched(fit)}
        return [placed.get(request.requestid, request) for request in requests]

    def _read_first(self, items: Sequence[Item]) -> None:
        """What customers of the map hold is not known: what they hold now counts as sent."""
        for item, entity in self._outcomes.by_id(items):
            if entity is None or decide.inactive(entity):
                self._outcomes.park_unusable(item, entity)
            elif item.wished is not None:
                item.held = known.read(item.held, entity, known_of(entity, item.wished))

    # --- sending ---

    def _send(self, items: Sequence[Item]) -> None:
        by_request = {item.open.requestid: item for item in items}
        batches, alone = in_batches([item.open for item in items])
        for batch in batches:
            if self._ends:
                return
            if not is_as_it_was(batch):
                alone += batch
                continue
            answers = self._client.batch(operations(batch), requestid=str(batch[0].batch_id))
            failpoint("customer_answer_received")
            answered = [(by_request[one.requestid], answer) for one, answer in zip(batch, answers, strict=True)]
            self._outcomes.judge(answered)
        for request in alone:
            if self._ends:
                return
            answer = self._one(request)
            failpoint("customer_answer_received")
            self._outcomes.judge([(by_request[request.requestid], answer)])

    def _one(self, request: Request) -> Answer:
        if request.operation == "create":
            return self._client.create(request.body, requestid=request.requestid, record=request.record)
        return self._client.update(
            request.body,
            requestid=request.requestid,
            record=request.record,
            enhanced_fields=request.operation == "fields",
        )
