"""What the API takes and gives, typed: from these the OpenAPI document is made."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

LARGEST_BATCH = 100
LARGEST_PAGE = 100
_FURTHEST = 2_147_483_647
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def _whole(value: object) -> object:
    """A number in an address is written in digits: not as 1.0, 1_0 or with spaces, which pydantic would take."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError("must be a whole number")
    return value


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _integral(value: object) -> object:
    """In JSON 50.0 is a whole number as 50 is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


BatchSize = Annotated[
    int,
    Field(strict=True, ge=1, le=LARGEST_BATCH, description="How many customers are taken up at a time."),
    BeforeValidator(_integral),
]


class PageOf(_Request):
    """Which customers to show."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE), BeforeValidator(_whole)] = Field(
        10, description="How many at most."
    )
    offset: Annotated[int, Field(ge=0, le=_FURTHEST), BeforeValidator(_whole)] = Field(
        0, description="How many are passed over, in the order of their ids."
    )


class Batch(_Request):
    """How much to push."""

    batch_size: BatchSize = 50


class Everything(_Request):
    """What to push until nothing is pending."""

    batch_size: BatchSize = 50
    sync_applicants: Annotated[bool, Field(strict=True)] = True
    sync_students: Annotated[bool, Field(strict=True)] = True


Count = Annotated[int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]


class KindCounts(_Data):
    """Customers of one kind, by state."""

    total: Count
    not_synced: Count
    synced: Count
    failed: Count
    in_progress: Count


class OverallCounts(_Data):
    """Customers of both kinds."""

    total_customers: Count
    total_not_synced: Count
    total_synced: Count
    total_failed: Count


class Analysis(_Data):
    """How many customers there are, and how far they are."""

    applicants: KindCounts
    students: KindCounts
    overall: OverallCounts


Operation = Annotated[str, Field(description="What would be done: create, update; none where nothing can be sent.")]
Body = Annotated[dict[str, Any], Field(description="What would be sent, in QuickBooks' words.")]
Remarks = Annotated[list[str], Field(description="What is left out, and why.")]


class ApplicantPreview(_Data):
    """An applicant as QuickBooks would be sent it."""

    applicant_id: int
    operation: Operation
    customer: Body
    remarks: Remarks


class StudentPreview(_Data):
    """A student as QuickBooks would be sent it."""

    student_id: int
    operation: Operation
    customer: Body
    remarks: Remarks


class ApplicantPreviews(_Data):
    """Some of the applicants that wait to be pushed."""

    limit: int
    offset: int
    customers: list[ApplicantPreview]


class StudentPreviews(_Data):
    """Some of the students that wait to be pushed."""

    limit: int
    offset: int
    customers: list[StudentPreview]


class ApplicantError(_Data):
    """Why an applicant was not pushed."""

    applicant_id: int
    error: str


class StudentError(_Data):
    """Why a student was not pushed."""

    student_id: int
    error: str


class ApplicantDone(_Data):
    """An applicant that QuickBooks has now."""

    applicant_id: int
    quickbooks_id: str


class StudentDone(_Data):
    """A student that QuickBooks has now."""

    student_id: int
    quickbooks_id: str


class _Pushed(_Data):
    total_processed: Count
    successful: Count
    failed: Count


class ApplicantsPushed(_Pushed):
    """What came of pushing applicants."""

    errors: list[ApplicantError]
    success_details: list[ApplicantDone]


class StudentsPushed(_Pushed):
    """What came of pushing students."""

    errors: list[StudentError]
    success_details: list[StudentDone]


class EverythingPushed(_Data):
    """What came of pushing until nothing was pending."""

    applicants: ApplicantsPushed
    students: StudentsPushed
    start_time: AwareDatetime
    end_time: AwareDatetime


class Progress(_Data):
    """Per cent of the customers that QuickBooks has as they are."""

    applicants: Percent
    students: Percent
    overall: Percent


class SyncStatus(_Data):
    """How far everything is."""

    statistics: Analysis
    progress: Progress
    quickbooks_connected: bool
    last_updated: AwareDatetime | None = Field(description="When a customer's state last changed; null: never.")
