"""The control API: faults on demand, outages, a person's acts, and what was seen. It is no part of QuickBooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from connectors.quickbooks.simulator.company import Kind
from connectors.quickbooks.simulator.replies import FAULTS, FaultError
from connectors.quickbooks.simulator.rules import KINDS, Fault, FaultRuleError
from connectors.quickbooks.simulator.simulator import Simulator


class FaultAsked(BaseModel):
    """A fault as one types it, e.g. `lost_after:operation=create,nth=3`."""

    fault: str


class Outage(BaseModel):
    """How long nothing is answered, in seconds, and how that looks."""

    seconds: float = Field(60.0, ge=0)
    how: Literal["lost", "html_503"] = "lost"


class Added(BaseModel):
    """Somebody that a person adds."""

    kind: Kind = "Customer"
    name: str
    fields: dict[str, Any] = Field(default_factory=dict)


class Tokens(BaseModel):
    """What becomes of the tokens given out."""

    act: Literal["expire_access", "expire_refresh", "revoke"]


class Forgotten(BaseModel):
    """Which requestid is forgotten; none named: all."""

    requestid: str | None = None


def router(simulator: Simulator) -> APIRouter:
    """The routes below /control."""
    routes = APIRouter(prefix="/control", tags=["control"])

    @routes.get("/health")
    def health() -> dict[str, str]:
        """The simulator listens."""
        return {"status": "ok"}

    @routes.get("/state")
    def state() -> dict[str, Any]:
        """What was seen, in numbers: limits, the worst windows, replays, rotations."""
        return simulator.summary()

    @routes.get("/customers")
    def customers(*, inactive: bool = False) -> list[dict[str, Any]]:
        """The customers, as the API tells them, with their custom fields."""
        return simulator.customers(inactive=inactive)

    @routes.get("/types")
    def types() -> dict[str, str]:
        """The customer types, by their ids."""
        return dict(simulator.company.customer_types)

    @routes.get("/requests")
    def requests(since: int = 0, operation: str = "") -> list[dict[str, Any]]:
        """The requests seen after the one of that number."""
        with simulator.lock:
            return [seen.told() for seen in simulator.requests.since(since, operation=operation)]

    @routes.delete("/requests", status_code=204)
    def forget_requests() -> None:
        """Begin a new list of requests."""
        with simulator.lock:
            simulator.requests.clear()

    @routes.get("/faults/kinds")
    def kinds() -> dict[str, str]:
        """The faults there are."""
        return dict(KINDS)

    @routes.get("/faults")
    def faults() -> list[dict[str, Any]]:
        """The faults asked for, and how often each was met."""
        with simulator.lock:
            return [
                {"number": rule.number, "fired": rule.fired, "seen": rule.seen, "fault": rule.fault}
                for rule in simulator.faults.all()
            ]

    @routes.post("/faults", status_code=201)
    def ask(asked: FaultAsked) -> dict[str, int]:
        """Ask for a fault."""
        try:
            return {"number": simulator.fault(Fault.parse(asked.fault))}
        except FaultRuleError as error:
            raise HTTPException(400, f"{error.message} {error.hint}") from None

    @routes.delete("/faults", status_code=204)
    def ask_for_none() -> None:
        """Ask for no fault any more."""
        with simulator.lock:
            simulator.faults.clear()

    @routes.delete("/faults/{number}", status_code=204)
    def ask_no_more(number: int) -> None:
        """Ask for this fault no more."""
        with simulator.lock:
            if not simulator.faults.remove(number):
                raise HTTPException(404, "There is no such fault.")

    @routes.post("/outage", status_code=204)
    def outage(asked: Outage) -> None:
        """Answer nothing for a while; 0 seconds ends it."""
        simulator.outage(asked.seconds, how=asked.how)

    @routes.post("/tokens", status_code=204)
    def tokens(asked: Tokens) -> None:
        """Let tokens expire, or disconnect the app."""
        with simulator.lock:
            now = simulator.clock.now()
            if asked.act == "expire_access":
                simulator.oauth.expire_access(now)
            elif asked.act == "expire_refresh":
                simulator.oauth.expire_refresh(now)
            else:
                simulator.oauth.revoke_all()

    @routes.post("/requestids/forget")
    def forget(asked: Forgotten) -> dict[str, int]:
        """Forget requestids."""
        with simulator.lock:
            return {"forgotten": simulator.memory.forget(requestid=asked.requestid)}

    @routes.post("/late")
    def late() -> dict[str, int]:
        """Carry out now what would come later."""
        return {"carried_out": simulator.carry_out_late()}

    @routes.post("/people", status_code=201)
    def add(asked: Added) -> dict[str, str]:
        """A person adds a customer, vendor or employee."""
        return {"id": _done(lambda: simulator.add(asked.kind, asked.name, **asked.fields))}

    @routes.patch("/people/{number}", status_code=204)
    def edit(number: str, fields: dict[str, Any]) -> None:
        """A person edits attributes, given in the API's form."""
        _done(lambda: simulator.edit(number, **fields))

    @routes.post("/people/{number}/{act}", status_code=204)
    def act_on(number: str, act: Literal["deactivate", "activate", "delete"]) -> None:
        """A person makes it inactive or active, or deletes it."""
        _done(lambda: getattr(simulator, act)(number))

    @routes.post("/people/{number}/merge/{into}", status_code=204)
    def merge(number: str, into: str) -> None:
        """A person merges the first into the second."""
        _done(lambda: simulator.merge(number, into))

    return routes


def _done(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except FaultError as fault:
        raise HTTPException(400, fault.detail or FAULTS[fault.code].message) from None
