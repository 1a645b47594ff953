"""The addresses of the API: each asks `daemon.customers` and puts the answer into the envelope."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Query, Security
from fastapi.security import HTTPBearer

from daemon import customers
from daemon.api import figures
from daemon.api.desk import AT_ONCE, Desk
from daemon.api.envelope import Failure, Success, now
from daemon.api.guard import LARGEST
from daemon.api.models import (
    Analysis,
    ApplicantPreviews,
    ApplicantsPushed,
    Batch,
    Everything,
    EverythingPushed,
    PageOf,
    StudentPreviews,
    StudentsPushed,
    SyncStatus,
)

if TYPE_CHECKING:
    from daemon.app import App

PREFIX = "/v1/sync/customers"

log = structlog.get_logger()
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token made by `rowtide api token`, or the setting `api.token`.",
)
_Responses = dict[int | str, dict[str, Any]]
_READING: _Responses = {
    401: {"model": Failure, "description": "No valid token; told before anything else is looked at."},
    500: {"model": Failure, "description": "A mistake of Rowtide's own; the log tells its kind and place."},
    503: {"model": Failure, "description": "The state database does not answer, or the instance is not set up."},
}
_PAGING: _Responses = {**_READING, 400: {"model": Failure, "description": "A parameter is wrong; the field is named."}}
_PUSHING: _Responses = {
    **_READING,
    400: {"model": Failure, "description": "A field is wrong, and named; or “QuickBooks not connected”."},
    409: {"model": Failure, "description": "QuickBooks is paused or stopped: a person has to act."},
    413: {"model": Failure, "description": f"The body has more than {LARGEST} bytes."},
    503: {
        "model": Failure,
        "description": f"The state database or QuickBooks does not answer, or {AT_ONCE} requests push already.",
    },
}


def routes(app: App, desk: Desk) -> APIRouter:
    """The addresses of an app."""

    def is_set_up() -> None:
        figures.require_set_up(app)

    router = APIRouter(prefix=PREFIX, dependencies=[Security(_bearer), Depends(is_set_up)])

    @router.get("/analyze", responses=_READING, operation_id="analyze")
    def analyze() -> Success[Analysis]:
        """How many customers there are, by kind and state."""
        found = figures.analysis(customers.counts(app))
        total = found["overall"]["total_customers"]
        return Success(message=f"There are {total} customers", timestamp=now(), data=found)

    @router.get("/preview/applicants", responses=_PAGING, operation_id="previewApplicants")
    def preview_applicants(page: Annotated[PageOf, Query()]) -> Success[ApplicantPreviews]:
        """Applicants that wait, as they would be sent. Nothing is sent."""
        return Success(
            message="Applicants as they would be sent", timestamp=now(), data=_preview(app, "applicant", page)
        )

    @router.get("/preview/students", responses=_PAGING, operation_id="previewStudents")
    def preview_students(page: Annotated[PageOf, Query()]) -> Success[StudentPreviews]:
        """Students that wait, as they would be sent. Nothing is sent."""
        return Success(message="Students as they would be sent", timestamp=now(), data=_preview(app, "student", page))

    @router.post("/applicants", responses=_PUSHING, operation_id="pushApplicants")
    async def push_applicants(batch: Batch | None = None) -> Success[ApplicantsPushed]:
        """Push applicants that wait, up to the batch's size. Without a body: 50."""
        data = await desk.run(lambda stop: _push(app, "applicant", batch or Batch(), stop))
        return Success(message=_told("applicants", data), timestamp=now(), data=data)

    @router.post("/students", responses=_PUSHING, operation_id="pushStudents")
    async def push_students(batch: Batch | None = None) -> Success[StudentsPushed]:
        """Push students that wait, up to the batch's size. Without a body: 50."""
        data = await desk.run(lambda stop: _push(app, "student", batch or Batch(), stop))
        return Success(message=_told("students", data), timestamp=now(), data=data)

    @router.post("/all", responses=_PUSHING, operation_id="pushAll")
    async def push_all(everything: Everything | None = None) -> Success[EverythingPushed]:
        """Push until nothing is pending; answers when that is so, which may take minutes. Leaving does not stop it."""
        data = await desk.run(lambda stop: _push_all(app, everything or Everything(), stop))
        number = data["applicants"]["successful"] + data["students"]["successful"]
        return Success(message=f"{number} customers were pushed", timestamp=now(), data=data)

    @router.get("/status", responses=_READING, operation_id="status")
    def status() -> Success[SyncStatus]:
        """How far everything is, and whether QuickBooks is connected."""
        return Success(message="The state of the customers", timestamp=now(), data=figures.status(app))

    return router


def _preview(app: App, kind: str, page: PageOf) -> dict[str, Any]:
    return {
        "limit": page.limit,
        "offset": page.offset,
        "customers": figures.previews(kind, customers.preview(app, kind, page.limit, page.offset)),
    }


def _push(app: App, kind: str, batch: Batch, stop: threading.Event) -> dict[str, Any]:
    figures.require_connected(app)
    result = figures.sent(customers.push(app, [kind], batch.batch_size, stop=stop))
    return _logged(kind, figures.outcome(kind, result))


def _push_all(app: App, everything: Everything, stop: threading.Event) -> dict[str, Any]:
    figures.require_connected(app)
    started = now()
    wanted = {"applicant": everything.sync_applicants, "student": everything.sync_students}
    results = {kind: customers.PushResult() for kind in figures.PLURAL}
    for kind in figures.PLURAL:
        if wanted[kind]:
            results[kind] = figures.push_all(app, kind, everything.batch_size, stop)
    figures.sent(*results.values())
    data = {figures.PLURAL[kind]: _logged(kind, figures.outcome(kind, result)) for kind, result in results.items()}
    return {**data, "start_time": started, "end_time": now()}


def _logged(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    log.info("api.pushed", kind=kind, successful=data["successful"], failed=data["failed"])
    return data


def _told(many: str, data: dict[str, Any]) -> str:
    if data["total_processed"] == 0:
        return f"No {many} were pending"
    return f"{data['successful']} {many} were pushed, {data['failed']} failed"
