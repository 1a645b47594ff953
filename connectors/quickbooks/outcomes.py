"""What answers mean, looked up where they leave it open, and recorded: everything that was answered together in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from psycopg.errors import UniqueViolation
from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential_jitter, wait_random

from connectors.failpoints import failpoint
from connectors.quickbooks import decide, known, resolve
from connectors.quickbooks.answers import Answer
from connectors.quickbooks.customer import Company, Entity, attributes_of, differences
from connectors.quickbooks.decide import Found, Held, Ruling
from connectors.quickbooks.errors import QuickBooksBlockedError, QuickBooksError, QuickBooksUnavailableError
from connectors.quickbooks.faults import Verdict
from connectors.quickbooks.status import SILENT
from connectors.quickbooks.workload import Client, Counts, Item, Recorded, Store

ATTEMPTS = 8  # then a record counts as failed, and is tried by the rule for those
_ASK_FROM = 3  # times that a request came to nothing, after which QuickBooks is asked what became of it
_NEXT_TRY: wait_base = wait_exponential_jitter(multiplier=1, exp_base=2, max=300, jitter=1)
_AFTER_FAILURE: wait_base = wait_random(1800, 3600)
_SOON = 0.5  # seconds until what was put back is looked at again

_INACTIVE = "the customer was deactivated in QuickBooks"
_ABSENT = "the customer is no longer in QuickBooks: deleted, or merged into another"
NO_NAME = "every display name it may have is taken in QuickBooks"

_NO_ANSWER = frozenset({Verdict.UNKNOWN, Verdict.RETRY})
# A batch that got one answer as a whole is sent again as a whole.
_OF_ALL = frozenset({Verdict.UNKNOWN, Verdict.RETRY, Verdict.THROTTLED, Verdict.BLOCKED})


class Outcomes:
    """Decides and records. One thread at a time.

    Args:
        client: to look things up.
        store: takes what is recorded.
        company: what bodies depend on; what is found out about it is noted here.
        now: seconds since 1970.
        by: who pushes, as recorded.
        attempts: after so many a record counts as failed.
    """

    def __init__(
        self, client: Client, store: Store, company: Company, now: Callable[[], float], *, by: str, attempts: int
    ) -> None:
        self._client = client
        self._store = store
        self._now = now
        self._by = by
        self._attempts = attempts
        self._pending: list[tuple[Item, Recorded]] = []
        self.company = company
        self.blocked: str | None = None
        self.unanswered = 0  # requests in a row, up to the last
        self.answered = False  # whether any was
        self.counts = Counts()

    # --- answers ---

    def judge(self, answered: Sequence[tuple[Item, Answer]]) -> None:
        """Decide what the answers mean, look up what they leave open, and record all of it."""
        self._heard(any(answer.verdict not in _NO_ANSWER or answer.code is not None for _, answer in answered))
        verdicts = {answer.verdict for _, answer in answered}
        whole = len(verdicts) == 1 and verdicts <= _OF_ALL
        look_up, stale, gone = list[Item](), list[Item](), list[Item]()
        for item, answer in answered:
            refused = answer.verdict is Verdict.FEW_RETRIES
            item.request = replace(
                item.open, sends=item.open.sends + 1, refusals=item.open.refusals + refused, doubtful=item.open.doubtful
            )
            ruling = decide.judge(item.open, answer.verdict)
            is_doubt = ruling is Ruling.REFUSED and item.open.doubtful and item.open.operation == "create"
            item.refusal = answer if is_doubt else None
            if ruling is Ruling.LOOK_UP or is_doubt or self._is_worth_asking(item, ruling):
                look_up.append(item)
            elif ruling is Ruling.READ:
                stale.append(item)
            elif ruling is Ruling.GONE:
                gone.append(item)
            else:
                self._rule(item, ruling, answer, whole=whole)
        self.record()
        named = [item for item in look_up if item.open.operation == "create" or item.open.name]
        if named:
            self.look_up(named)
        self.reread([*stale, *(item for item in look_up if item not in named)])
        self._resolve_gone(gone)
        self.record()

    @property
    def silent(self) -> bool:
        """Whether QuickBooks answers no more, as far as one can tell here."""
        return self.unanswered >= SILENT

    def _heard(self, answer: bool) -> None:
        self.answered = self.answered or answer
        self.unanswered = 0 if answer else self.unanswered + 1

    def _is_worth_asking(self, item: Item, ruling: Ruling) -> bool:
        """Whether what became of a request is looked up instead of sending it once more.

        A batch that came again and could not be processed was probably carried out the first time.
        """
        request = item.open
        if ruling is Ruling.FEW:
            return request.refusals >= decide.FEW or request.batch_id is not None
        return ruling is Ruling.UNKNOWN and request.sends % _ASK_FROM == 0

    def _rule(self, item: Item, ruling: Ruling, answer: Answer, *, whole: bool) -> None:
        if ruling is Ruling.APPLIED and answer.entity is not None:
            self._applied(item, answer.entity)
        elif ruling is Ruling.NAME_REFUSED:
            self._settle(item, known.name_refused(item.held, item.open), "name taken")
        elif ruling is Ruling.REFUSED:
            self._refused(item, answer)
        elif ruling is Ruling.PUT_BACK:
            self.counts.throttled += 1
            self.blocked = answer.reason or str(answer.verdict)
            self._wait(item, self.blocked, max(answer.wait, _SOON), counts=False, whole=whole)
        else:
            self.counts.unknown += ruling is Ruling.UNKNOWN
            if ruling is not Ruling.RETRY:
                item.request = replace(item.open, doubtful=True)
            self._wait(item, answer.reason, None, counts=True, whole=whole)

    def _applied(self, item: Item, entity: Entity, *, older: bool = False) -> None:
        """It was carried out; `older`: by an earlier create, whose values count as sent."""
        request = item.open
        if request.operation == "create":
            self.counts.created += 1
        else:
            self.counts.updated += 1
        held = known.applied(item.held, request, entity, self._now(), self._by)
        if older:
            held = known.read(held, entity, attributes_of(entity))
        elif kept := differences(request.attributes, entity):
            item.remarks = (f"QuickBooks holds another {', '.join(kept)} than was sent",)
        if request.operation == "fields" and request.defined and set(request.defined) <= set(held.fields_refused):
            self._lacks_definitions()
        if decide.inactive(entity):
            held = self._parked(item, _INACTIVE, held)
        self._settle(item, held, "applied")

    def _refused(self, item: Item, answer: Answer) -> None:
        """The data are refused for certain: with less, else for a person."""
        code = answer.code or answer.http_status or ""
        outcome = f"refused {code}".strip()
        if item.open.operation == "fields":
            self._lacks_definitions()
            self._settle(item, known.refused_fields(item.held, item.open), outcome)
            return
        held = item.held
        if item.open.operation == "create" and item.open.doubtful:
            # It was refused now; what was sent before may come through yet.
            held = replace(held, doubt_since=item.open.since)
        less = known.without(held, item.open) if answer.verdict is Verdict.DATA else None
        if less is None:
            less = self._parked(item, f"{answer.reason or 'refused'}{f' ({code})' if code else ''}", held)
        self._settle(item, less, outcome)

    def _lacks_definitions(self) -> None:
        self.company = replace(self.company, has_definitions=False)

    def _resolve_gone(self, items: Sequence[Item]) -> None:
        for item, entity in self.by_id(items):
            reason = _ABSENT if entity is None else _INACTIVE
            if entity is not None and not decide.inactive(entity):
                reason = "QuickBooks says that something is gone, and the customer is there (610)"
            self._settle(item, self._parked(item, reason), "gone")

    # --- questions ---

    def look_up(self, items: Sequence[Item], *, resend: bool = False) -> bool:
        """Find out whose the names are that requests asked for. Returns False where QuickBooks could not be asked.

        Args:
            items: with requests that are doubtful.
            resend: leave requests alone whose name nobody has: they are sent again as they are.
        """
        requests = [item.open for item in items]
        try:
            found = resolve.who_has(self._client, [one.name for one in requests if one.name])
            creates = [one.since for one in requests if one.operation == "create" and (resend or one.sends > 1)]
            found += resolve.made_since(self._client, min(creates)) if creates else []
        except QuickBooksError as error:
            self._unasked(items, error)
            return False
        self._heard(True)
        owners = self._store.owners([one.id for one in found if one.kind == "Customer"])
        for item in items:
            self._found(item, found, owners, resend=resend)
        self.record()
        return True

    def _found(self, item: Item, found: Sequence[Found], owners: Mapping[str, str], *, resend: bool) -> None:
        request = item.open
        just = {recorded.held.quickbooks_id: "another" for _, recorded in self._pending if recorded.held.quickbooks_id}
        ruling, entity = decide.judge_found(request, found, {**owners, **just}, item.held.quickbooks_id)
        if ruling is Ruling.APPLIED and entity is not None:
            self._applied(item, entity, older=request.operation == "create" and request.since < request.stored_at)
        elif ruling is Ruling.NAME_REFUSED:
            self._settle(item, known.name_refused(item.held, request), "name taken")
        elif resend:
            return
        elif item.refusal is not None:
            self._refused(item, item.refusal)
        elif request.batch_id is not None:
            # Its batch is not processed any more: alone it has a requestid that was never sent.
            item.request = replace(request, batch_id=None, position=None, refusals=0, doubtful=True)
            self._pending.append((item, Recorded(item.held, item.request, outcome="left its batch")))
        elif request.sends % _ASK_FROM == 0 or request.refusals >= decide.FEW:
            self._give_up(item)
        else:
            # QuickBooks says that somebody has the name, and nobody has: it may be ours, not to be seen yet.
            self._wait(item, "the name is taken, and nobody is found who has it", None, counts=True)

    def _give_up(self, item: Item) -> None:
        """A request came to nothing again and again, and was not carried out as far as can be seen.

        It is made anew under another requestid, with the same name: should the first come through late, the name is
        taken. What could not be processed (6000) even then is for a person.
        """
        request, held = item.open, item.held
        is_second = held.doubt_since is not None
        if request.operation == "create":
            held = replace(held, doubt_since=request.since)
        if request.refusals >= decide.FEW and is_second:
            held = self._parked(item, "QuickBooks could not process it (6000)", held)
        self._settle(item, held, "given up")

    def reread(self, items: Sequence[Item]) -> None:
        """Of customers that hold what was sent it was carried out; else the change is made anew on what is there."""
        for item, entity in self.by_id(items):
            if entity is None or decide.inactive(entity):
                self._settle(item, self._parked(item, _ABSENT if entity is None else _INACTIVE), "gone")
            elif decide.judge_read(item.open, entity) is Ruling.APPLIED:
                self._applied(item, entity)
            elif item.open.refusals >= decide.FEW:
                self._settle(item, self._parked(item, "QuickBooks could not process it (6000)"), "refused 6000")
            else:
                self._settle(item, known.read(item.held, entity), "made anew")

    def by_id(self, items: Sequence[Item]) -> list[tuple[Item, Entity | None]]:
        """The customers as they are, None for those that are not there; nothing, and all is over, where nobody answers."""
        try:
            found = resolve.by_ids(self._client, [str(item.held.quickbooks_id) for item in items])
        except QuickBooksError as error:
            self._unasked(items, error)
            return []
        return [(item, found.get(str(item.held.quickbooks_id))) for item in items]

    def _unasked(self, items: Sequence[Item], error: QuickBooksError) -> None:
        is_blocked = isinstance(error, QuickBooksBlockedError)
        if is_blocked:
            self.blocked = error.message
        elif isinstance(error, QuickBooksUnavailableError):
            self._heard(False)
        for item in items:
            if not item.over:
                self._wait(item, error.message, _SOON if is_blocked else None, counts=not is_blocked)

    # --- ends ---

    def park(self, item: Item, reason: str) -> None:
        """Leave a record without an open request to a person."""
        self._pending.append((item, Recorded(self._parked(item, reason))))

    def park_unusable(self, item: Item, entity: Entity | None) -> None:
        """The same for one whose customer is not there, or not in use."""
        self.park(item, _ABSENT if entity is None else _INACTIVE)

    def finish(self, item: Item, held: Held) -> None:
        """Nothing differs any more."""
        remarks = "; ".join(part for part in (held.remarks or "", *item.remarks) if part)
        item.over = True
        self._pending.append((item, Recorded(replace(held, remarks=remarks or None))))

    def leave(self, item: Item) -> None:
        """The record's row has gone, and what was under way is settled: the customer stays as it is."""
        item.over = True
        held = item.held
        if held.quickbooks_id is None:
            self._pending.append((item, Recorded(replace(held, state="available", due_at=None))))
        else:
            self._pending.append((item, Recorded(replace(held, state="synced", due_at=None, told=False))))

    def _parked(self, item: Item, reason: str, held: Held | None = None) -> Held:
        item.over, item.error = True, reason
        self.counts.parked += 1
        last = held or item.held
        tried = item.wished.fingerprint if item.wished else last.tried
        return replace(last, state="parked", tried=tried, reason=reason, due_at=None, told=False)

    def _settle(self, item: Item, held: Held, outcome: str) -> None:
        self._pending.append((item, Recorded(held, item.open, settled=True, outcome=outcome)))

    def _wait(self, item: Item, reason: str, seconds: float | None, *, counts: bool, whole: bool = False) -> None:
        """Try it again later; after many attempts by the rule for what failed.

        Args:
            item: with or without a request.
            reason: for people.
            seconds: until then; None: by the number of attempts.
            counts: whether it spends an attempt.
            whole: whether its batch is to be sent again as it was.
        """
        held = item.held
        attempts = held.attempts + counts
        has_failed = counts and attempts >= self._attempts
        if seconds is None:
            seconds = _seconds(_AFTER_FAILURE if has_failed else _NEXT_TRY, attempts)
        state: decide.State = "failed" if has_failed or held.state == "failed" else "retryable"
        is_news = counts and (has_failed or attempts == 1)
        held = replace(
            held,
            state=state,
            attempts=attempts,
            due_at=self._now() + seconds,
            reason=reason or None,
            told=held.told and not is_news,
        )
        self.counts.failed += has_failed
        item.over = True
        item.error = reason if has_failed else None
        request = item.request
        if request is not None and not whole:
            request = replace(request, batch_id=None, position=None)
        self._pending.append((item, Recorded(held, request)))

    # --- recording ---

    def record(self) -> None:
        """Record what was decided. Raises ClaimLostError."""
        outcomes, self._pending = self._pending, []
        if not outcomes:
            return
        try:
            self._record(outcomes)
        except UniqueViolation:
            # One of them names a customer of another record: the others must not suffer.
            for one in outcomes:
                try:
                    self._record([one])
                except UniqueViolation:
                    self._record([self._contradicted(*one)])
        failpoint("customer_answer_recorded")

    def _contradicted(self, item: Item, recorded: Recorded) -> tuple[Item, Recorded]:
        held = self._parked(item, "QuickBooks answered with a customer that belongs to another record")
        return item, replace(recorded, held=held, outcome="contradicts")

    def _record(self, outcomes: Sequence[tuple[Item, Recorded]]) -> None:
        stored = self._store.record([recorded for _, recorded in outcomes])
        for item, recorded in outcomes:
            item.held = stored[item.held.record]
            if recorded.settled:
                item.request = None
            elif recorded.request is not None:
                item.request = recorded.request


def _seconds(wait: wait_base, attempt: int) -> float:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = max(1, attempt)
    return float(wait(state))
