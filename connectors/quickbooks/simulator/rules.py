"""Faults on demand: which answer goes wrong, and how.

A fault is a rule: its kind says what happens, the rest to which requests. What happens to the request itself is part of
the kind, or of `applied`: a gateway's time-out may come before or after the change was made.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from connectors.errors import RowtideError
from connectors.quickbooks.simulator.replies import (
    FAULTS,
    Call,
    FaultError,
    Lost,
    Reply,
    gateway_page,
    gateway_refusal,
    throttled,
)

# kind -> what happens. The codes of the table of faults are kinds too: they answer with that fault.
KINDS: Mapping[str, str] = {
    **{code: f"{form.status} {form.message}" for code, form in FAULTS.items()},
    "throttle": "429 with a body of XML",
    "throttle_403": "403 with the same body: an old variant",
    "throttle_json": "429 with a Fault in JSON",
    "gateway_401": "401 with lower-case keys that tells a part of the token",
    "html_502": "a page of HTML with 502",
    "html_503": "a page of HTML with 503",
    "html_504": "a page of HTML with 504",
    "fault_200": "a Fault with HTTP 200; its code is `code`, else 6000",
    "empty_200": "HTTP 200 without a body; the change is made",
    "lost_before": "the connection breaks, the change is not made",
    "lost_after": "the change is made, then the connection breaks",
    "late": "the connection breaks; the change is made only later: after `requests` more, or `seconds`",
    "partial": "of a batch the first `requests` operations (else half) are made, then the connection breaks",
    "slow": "the answer comes byte by byte, one every `seconds`",
    "delay": "the answer comes after `seconds`",
    "forget": "the requestid of the request is not known, though it was used",
    "expire": "every access token ends, then the request is looked at",
    "revoke": "a person disconnects the app, then the request is looked at",
    "invalid_grant": "for `token`: the refresh token is refused",
}
OPERATIONS = (
    "any", "write", "create", "update", "read", "query", "batch", "cdc", "companyinfo", "customertype",
    "token", "revoke", "discovery",
)  # fmt: skip
# Whether the change is made, where `applied` does not say.
_APPLIED = {"empty_200", "lost_after", "slow", "delay", "forget", "expire", "revoke"}


class FaultRuleError(RowtideError):
    """A fault that was asked for is none."""


@dataclass(frozen=True)
class Fault:
    """A rule.

    Attributes:
        kind: of `KINDS`.
        operation: of `OPERATIONS`; `write` stands for create, update and batch.
        nth: only the request of that number, counted from 1 among those it is about.
        every: each so-many-th request.
        probability: of each request, by a generator of its own with `seed`.
        match: only requests whose body or address holds the text.
        requestid: only requests with that requestid.
        times: how often at most; with `nth` once.
        item: it is about operations inside a batch, each by itself, rather than about whole requests.
        applied: whether the change is made though the answer is the fault's; None leaves it to the kind.
        seconds: what the kind needs of time.
        requests: what the kind needs of a number.
        code: the fault code of `fault_200`.
    """

    kind: str
    operation: str = "any"
    nth: int | None = None
    every: int | None = None
    probability: float = 1.0
    seed: int = 0
    match: str = ""
    requestid: str = ""
    times: int | None = None
    item: bool = False
    applied: bool | None = None
    seconds: float = 0.0
    requests: int | None = None
    code: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaultRuleError(
                f"There is no fault “{self.kind}”.", hint=f"The faults are: {', '.join(KINDS)}. See docs/simulator.md."
            )
        if self.operation not in OPERATIONS:
            raise FaultRuleError(
                f"A fault cannot be about “{self.operation}”.", hint=f"It can be about: {', '.join(OPERATIONS)}."
            )
        if self.code and self.code not in FAULTS:
            raise FaultRuleError(f"There is no fault code {self.code}.", hint=f"The codes are: {', '.join(FAULTS)}.")
        if self.item and self.kind not in FAULTS:
            raise FaultRuleError(
                f"An operation inside a batch cannot end as “{self.kind}”.", hint="It can end with a fault code."
            )
        if not 0 <= self.probability <= 1:
            raise FaultRuleError("A probability is between 0 and 1.", hint="Write probability=0.1 for one in ten.")

    @property
    def applies(self) -> bool:
        """Whether the change is made."""
        return self.kind in _APPLIED if self.applied is None else self.applied

    @classmethod
    def parse(cls, text: str) -> Fault:
        """A fault as one types it: `KIND:name=value,name=value`. Raises FaultRuleError."""
        kind, _, rest = text.partition(":")
        known = {item.name: str(item.type) for item in fields(cls)}
        given: dict[str, Any] = {}
        for part in filter(None, rest.split(",")):
            name, equals, value = part.partition("=")
            name = name.strip()
            if not equals or name not in known or name == "kind":
                raise FaultRuleError(
                    f"“{part}” says nothing about a fault.",
                    hint=f"Write NAME=VALUE with a name of: {', '.join(n for n in known if n != 'kind')}.",
                )
            try:
                given[name] = _value(known[name], value.strip())
            except ValueError:
                raise FaultRuleError(
                    f"“{value}” is no value for {name}.",
                    hint="Numbers are written as digits, yes and no as true, false.",
                ) from None
        return cls(kind.strip(), **given)


def _value(type_: str, text: str) -> Any:
    if "bool" in type_:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if "int" in type_:
        return int(text)
    return float(text) if "float" in type_ else text


@dataclass
class Rule:
    """A fault that was asked for, and what came of it so far."""

    number: int
    fault: Fault
    seen: int = 0
    fired: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.fault.seed)  # noqa: S311 - chance, not a secret

    def fires(self, operation: str, text: str, requestid: str) -> bool:
        """Whether this request is one of its; counts it if it is about such."""
        fault = self.fault
        about = fault.operation in ("any", operation) or (
            fault.operation == "write" and operation in ("create", "update", "batch")
        )
        if fault.kind == "invalid_grant" and operation != "token":
            return False
        if not about or fault.match not in text or (fault.requestid and fault.requestid != requestid):
            return False
        self.seen += 1
        most = fault.times if fault.times is not None else (1 if fault.nth else None)
        if most is not None and self.fired >= most:
            return False
        if fault.nth is not None and self.seen != fault.nth:
            return False
        if fault.every is not None and self.seen % fault.every:
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        self.fired += 1
        return True


class Rules:
    """The faults asked for, in that order: the first that fires is the one. Not thread-safe."""

    def __init__(self) -> None:
        self._rules: dict[int, Rule] = {}
        self._count = 0
        self.fired = 0

    def add(self, fault: Fault) -> int:
        """Ask for a fault; its number."""
        self._count += 1
        self._rules[self._count] = Rule(self._count, fault)
        return self._count

    def remove(self, number: int) -> bool:
        """Ask for it no longer; whether there was such."""
        return self._rules.pop(number, None) is not None

    def clear(self) -> None:
        """Ask for none."""
        self._rules.clear()

    def all(self) -> list[Rule]:
        """Those asked for."""
        return list(self._rules.values())

    def pick(self, operation: str, text: str, requestid: str, *, item: bool = False) -> Fault | None:
        """What goes wrong with this request; None lets it be."""
        for rule in self._rules.values():
            if rule.fault.item == item and rule.fires(operation, text, requestid):
                self.fired += 1
                return rule.fault
        return None


def spoilt(fault: Fault, call: Call, proper: Reply | Lost, now: float, *, refusal: Reply) -> Reply | Lost:
    """The answer that a fault makes of the proper one.

    Args:
        fault: what goes wrong.
        call: the request.
        proper: its answer; a broken connection where it was not carried out.
        now: seconds since 1970.
        refusal: how a refresh token is refused.
    """
    token = call.headers.get("authorization", "").partition(" ")[2].strip()
    kind = fault.kind
    if kind in ("lost_before", "lost_after", "late", "partial"):
        return Lost(fault.seconds)
    if kind in ("slow", "delay") and isinstance(proper, Reply):
        slow = kind == "slow"
        return replace(proper, trickle=fault.seconds or 0.2) if slow else replace(proper, delay=fault.seconds)
    if kind in ("3200", "100", "gateway_401"):
        answer = gateway_refusal("100" if kind == "100" else "3200", now, token)
    elif kind in ("3001", "throttle", "throttle_403"):
        answer = throttled(now, status=403 if kind == "throttle_403" else 429)
    elif kind == "throttle_json":
        answer = FaultError("3001", "The request limit was reached.  Try again later").reply(now)
    elif kind in FAULTS:
        answer = FaultError(kind).reply(now)
    elif kind in ("html_502", "html_503", "html_504"):
        answer = gateway_page(int(kind[-3:]))
    elif kind == "fault_200":
        answer = FaultError(fault.code or "6000").reply(now, status=200)
    elif kind == "empty_200":
        answer = Reply(200)
    elif kind == "invalid_grant":
        answer = refusal
    else:  # forget, expire, revoke: what they do was done before
        return proper
    return replace(answer, delay=fault.seconds)
