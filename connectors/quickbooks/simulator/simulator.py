"""The simulator without a socket: a request goes in, an answer or a broken connection comes out.

Everything happens under one lock; only waiting does not, which is left to whoever carries the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from connectors.quickbooks.clock import Clock, SystemClock
from connectors.quickbooks.simulator import api, batch
from connectors.quickbooks.simulator.acts import Acts
from connectors.quickbooks.simulator.authorization import Authorization
from connectors.quickbooks.simulator.company import Company
from connectors.quickbooks.simulator.ledger import Ledger, Seen
from connectors.quickbooks.simulator.limits import Limits, Throttle
from connectors.quickbooks.simulator.memory import Memory
from connectors.quickbooks.simulator.oauth import OAuth, OAuthRules
from connectors.quickbooks.simulator.replies import (
    Call,
    FaultError,
    Lost,
    Reply,
    as_json,
    gateway_page,
    gateway_refusal,
    moment,
    throttled,
)
from connectors.quickbooks.simulator.rules import Fault, Rules, spoilt

CLIENT_ID, CLIENT_SECRET = "simulator-app", "simulator-secret"
_LONGEST_REQUESTID, _LONGEST_OF_BATCH = 50, 36
_TIME_OUT = 120.0  # seconds after which the API gives up


@dataclass
class _Late:
    call: Call
    about: api.Target
    seen: Seen
    due: float | None
    requests: int


class Simulator(Acts):
    """QuickBooks Online for one company. Thread-safe.

    Args:
        company: the company file.
        clock: where time comes from.
        limits: what is let through.
        oauth: how tokens live.
        apps: client id -> client secret.
        retention: seconds for which a requestid is known; None: for good.
        replay_faults: whether a requestid whose request ended with a fault of the API is answered with it again.
        batch_replay: what a batch is answered that comes again: the original answer, the fault 6000 as a whole, or
            6000 for each operation that was done.
        latency: seconds from a request to its answer.
        seed: of tokens and ids of answers.
    """

    def __init__(
        self,
        company: Company | None = None,
        clock: Clock | None = None,
        *,
        limits: Limits | None = None,
        oauth: OAuthRules | None = None,
        apps: Mapping[str, str] | None = None,
        retention: float | None = None,
        replay_faults: bool = True,
        batch_replay: Literal["original", "6000", "6000_items"] = "original",
        latency: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.company = company or Company()
        self.clock: Clock = clock or SystemClock()
        self.oauth = OAuth(oauth or OAuthRules(), apps or {CLIENT_ID: CLIENT_SECRET}, seed=seed)
        self.throttle = Throttle(limits or Limits())
        self.memory = Memory(retention)
        self.faults = Rules()
        self.requests = Ledger()
        self.replay_faults = replay_faults
        self.batch_replay = batch_replay
        self.latency = latency
        self.lock = threading.RLock()
        self._authorization = Authorization(self.oauth, self.company)
        self._late: list[_Late] = []
        self._down: tuple[float, str] = (0.0, "lost")
        self._answers = 0
        self.stopping = threading.Event()  # whoever waits with an answer ends

    # --- requests ---

    def handle(self, call: Call) -> Reply | Lost:
        """Answer a request. Whoever carries the answer waits for its `delay` and then says `done`."""
        with self.lock:
            now = self.clock.now()
            self._carry_out(now)
            self.throttle.running += 1
            self.throttle.most_running = max(self.throttle.most_running, self.throttle.running)
            about = api.target(call)
            operation = about.operation if about else self._authorization.operation(call)
            token = call.headers.get("authorization", "").removeprefix("Bearer ").strip()
            access = self.oauth.access(token, now)
            app = access.grant.app if access else "?"
            seen = self.requests.note(call, operation, app, now)
            until, how = self._down
            if now < until:
                seen.fault = "outage"
                outcome: Reply | Lost = Lost() if how == "lost" else gateway_page(503)
            elif about is not None and not self.throttle.admit(about.realm, app, batch=operation == "batch", now=now):
                outcome = throttled(now)
            else:
                outcome = self._answer(call, about, seen, now)
            self._count_down(seen, now)
            self._answers += 1
            return self._told(outcome, seen, now)

    def done(self) -> None:
        """An answer has been carried out."""
        with self.lock:
            self.throttle.running -= 1

    def _answer(self, call: Call, about: api.Target | None, seen: Seen, now: float) -> Reply | Lost:
        text = f"{call.path} {call.body.decode(errors='replace')}"
        fault = self.faults.pick(seen.operation, text, seen.requestid)
        if fault is None:
            return self._proper(call, about, seen, now)
        seen.fault = fault.kind
        if fault.kind == "expire":
            self.oauth.expire_access(now)
        elif fault.kind == "revoke":
            self.oauth.revoke_all()
        if fault.kind in ("late", "partial"):
            if about is None or self._refused(call, about, now) is not None:
                return self._proper(call, about, seen, now)
            return self._lose(fault, call, about, seen, now)
        proper: Reply | Lost = Lost(fault.seconds)
        if fault.applies:
            proper = self._proper(call, about, seen, now, recall=fault.kind != "forget")
        return spoilt(fault, call, proper, now, refusal=self._authorization.refusal())

    def _lose(self, fault: Fault, call: Call, about: api.Target, seen: Seen, now: float) -> Lost:
        """No answer; the change is made later, or only a part of it."""
        if fault.kind == "late":
            due = now + fault.seconds if fault.seconds else None
            self._late.append(_Late(call, about, seen, due, 0 if due else fault.requests or 1))
        else:
            seen.applied = True
            items = call.body.count(b'"bId"')
            most = fault.requests if fault.requests is not None else items // 2
            self._execute(call, about, seen, now, most=most)
        return Lost()

    def _proper(
        self, call: Call, about: api.Target | None, seen: Seen, now: float, *, recall: bool = True
    ) -> Reply | Lost:
        if about is None:
            return self._authorization.answer(call, now)
        refused = self._refused(call, about, now)
        if refused is not None:
            return refused
        return self._execute(call, about, seen, now, recall=recall)

    def _refused(self, call: Call, about: api.Target, now: float) -> Reply | None:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        access = self.oauth.access(token.strip(), now) if scheme.lower() == "bearer" else None
        if access is None:
            return gateway_refusal("3200", now, token)
        if access.grant.realm != about.realm or about.realm != self.company.realm:
            return FaultError("3100").reply(now)
        return None

    def _execute(
        self,
        call: Call,
        about: api.Target,
        seen: Seen,
        now: float,
        *,
        recall: bool = True,
        most: int | None = None,
    ) -> Reply:
        """Do what is asked and answer, or repeat the answer given to the same requestid."""
        requestid = seen.requestid if about.operation in api.WRITES else ""
        whole = about.operation == "batch"
        if len(requestid) > (_LONGEST_OF_BATCH if whole else _LONGEST_REQUESTID):
            return FaultError("2130").reply(now)
        if requestid and recall:
            found = self.memory.recall(about.realm, requestid, call.body, now)
            if found is not None and not (whole and self.batch_replay == "6000_items"):
                seen.replayed = True
                reply: Reply = found.answer
                return FaultError("6000").reply(now) if whole and self.batch_replay == "6000" else reply
        try:
            reply = (
                self._batch(call, requestid, now, recall=recall, most=most)
                if whole
                else api.perform(self.company, call, about, now)
            )
            seen.applied = about.operation in api.WRITES
        except FaultError as fault:
            reply = fault.reply(now)
        if requestid and most is None and (reply.status == 200 or self.replay_faults):
            self.memory.keep(about.realm, requestid, call.body, reply, now)
        return reply

    def _batch(self, call: Call, requestid: str, now: float, *, recall: bool, most: int | None) -> Reply:
        def faulty(operation: str, text: str) -> str | None:
            fault = self.faults.pick(operation, text, requestid, item=True)
            return fault.kind if fault else None

        answers = batch.run(
            self.company,
            api.json_of(call),
            now,
            memory=self.memory,
            requestid=requestid,
            faulty=faulty,
            recall=recall,
            replay=self.batch_replay,
            most=most,
            include=call.query.get("include", ""),
        )
        return as_json({"BatchItemResponse": answers, "time": moment(now)})

    def _told(self, outcome: Reply | Lost, seen: Seen, now: float) -> Reply | Lost:
        """The answer as it leaves: with the id of its trace, and not after the API gives up."""
        if isinstance(outcome, Lost):
            return outcome
        delay = outcome.delay + self.latency
        if delay > _TIME_OUT:
            outcome, delay = gateway_page(504), _TIME_OUT
        seen.status = outcome.status
        seen.code = _code(outcome)
        trace = f"1-{int(now):08x}-{self._answers:024x}"
        return replace(outcome, delay=delay, headers={**outcome.headers, "intuit_tid": trace})

    # --- changes that come later ---

    def _carry_out(self, now: float) -> None:
        for late in [late for late in self._late if late.due is not None and late.due <= now]:
            self._carry(late, now)

    def _count_down(self, seen: Seen, now: float) -> None:
        """One more request has been answered: those that waited for it are carried out."""
        if seen.operation not in api.WRITES:
            return
        for late in [late for late in self._late if late.due is None and late.seen is not seen]:
            late.requests -= 1
            if late.requests <= 0:
                self._carry(late, now)

    def _carry(self, late: _Late, now: float) -> None:
        self._late.remove(late)
        late.seen.late = now
        self._execute(late.call, late.about, late.seen, now)

    def carry_out_late(self) -> int:
        """Carry out now what would come later; how many it were."""
        with self.lock:
            waiting = list(self._late)
            for late in waiting:
                self._carry(late, self.clock.now())
            return len(waiting)

    @property
    def late(self) -> int:
        """How many changes are still to come."""
        with self.lock:
            return len(self._late)

    # --- what goes wrong ---

    def fault(self, fault: Fault | str) -> int:
        """Ask for a fault; its number. Raises FaultRuleError."""
        with self.lock:
            return self.faults.add(Fault.parse(fault) if isinstance(fault, str) else fault)

    def outage(self, seconds: float, *, how: Literal["lost", "html_503"] = "lost") -> None:
        """Nothing is answered for so long: connections break, or the gateway answers. 0 ends it."""
        with self.lock:
            self._down = (self.clock.now() + seconds, how)

    def connect(self, app: str = CLIENT_ID) -> dict[str, Any]:
        """Tokens as the token endpoint answers, without a browser."""
        with self.lock:
            return dict(self.oauth.connect(app, self.company.realm, self.clock.now()))

    def summary(self) -> dict[str, Any]:
        """What was seen, in numbers."""
        with self.lock:
            now = self.clock.now()
            self._carry_out(now)
            return {
                "realm": self.company.realm,
                "now": now,
                "down_for": max(0.0, self._down[0] - now),
                "customers": sum(1 for entry in self.company.of("Customer") if entry.active),
                "inactive": sum(1 for entry in self.company.of("Customer") if not entry.active),
                "created": self.company.created,
                "requests": dict(self.requests.operations),
                "rate": self.throttle.rate(now),
                "last_minute": self.throttle.rate(now, 60.0),
                "limits": self.throttle.summary(),
                "faults_met": self.faults.fired,
                "replays": self.memory.replays,
                "requestids": len(self.memory),
                "requestids_with_other_bodies": list(self.memory.other_bodies),
                "late": len(self._late),
                "refreshes": self.oauth.refreshes,
                "rotations": self.oauth.rotations,
            }


def _code(reply: Reply) -> str:
    """The code of the fault that an answer tells."""
    if reply.content_type == "application/xml":
        return "3001"
    if not (reply.body.startswith(b'{"Fault"') or b'"fault": {' in reply.body[:80]):
        return ""
    _, found, rest = reply.body.partition(b'"code": "')
    return rest.partition(b'"')[0].decode() if found else ""
