"""The rules by which applicants and students become customers, each on a school small enough to look through."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from mis_school import LiveSchool

START = datetime(2026, 3, 2, 8)  # noqa: DTZ001 - wall time
AT = datetime(2026, 3, 29, 0, 30, 15, 987_654, tzinfo=UTC)


def test_a_generated_school_is_what_python_says(school: LiveSchool) -> None:
    """Every model of a generated school, awkward people and all, is what plain Python makes of its rows; also as it changes."""
    school.generated(START, seed=5, applicants=130, students=220)
    school.take_up()
    school.assert_as_python_says("as it came")
    rng = random.Random(5)
    for record, row in school.all("customer").items():
        if rng.random() < 0.8:
            state = rng.choice([1, 2, 3])
            school.push(record, state, fingerprint=row["fingerprint"] if state == 1 else None, quickbooks_id=record[-3:],
                        sync_token="0", pushed_at=AT, reason="because" if state == 2 else None)  # fmt: skip
    school.take_up()
    school.assert_as_python_says("pushed")
    for number in range(1, 60):
        school.student(number, phone1=f"+2567000000{number}")
    school.put("tbl_campus", camp_id=1, camp_full_name=None)
    school.parameters(zone="Asia/Kathmandu", pushed_by="Registry")
    school.take_up()
    school.assert_as_python_says("changed", zone="Asia/Kathmandu", pushed_by="Registry")
    assert len(school.all("pending_student_status")) > 100


# --- names ---


@pytest.mark.parametrize(
    ("first", "family", "real"),
    [
        ("Amina", "Okello", "Amina Okello"),
        ("  Amina ", "\tOkello\n", "Amina Okello"),
        ("Amina", None, "Amina"),
        ("  ", "Okello", "Okello"),
        ("Jean\u00a0 Paul", "N'Diaye  Diop", "Jean Paul N'Diaye Diop"),
        (None, None, None),
        ("", "", None),
        (" \u00a0\t", "\n", None),
        ("Zo\u00eb \U0001f393", "\u0639\u0644\u064a", "Zo\u00eb \U0001f393 \u0639\u0644\u064a"),
        ("A" * 300, "B" * 300, "A" * 300 + " " + "B" * 300),
    ],
)
def test_the_real_name_is_given_and_family_name(
    school: LiveSchool, first: str | None, family: str | None, real: str | None
) -> None:
    """Trimmed, one space between; of nobody's name the kind with its id, or the student's number."""
    school.applicant(17, first_name=first, family_name=family, tracking_id=" T/9 ")
    school.student(9, fname=first, lname=family, reg_no=" 26/U/9 ")
    school.student(10, fname=first, lname=family)
    school.take_up()
    found = {record: (row["real_name"], row["name_suffix"]) for record, row in school.all("customer").items()}
    assert found == {
        "applicant:17": (real or "Applicant 17", "T/9"),
        "student:9": (real or "Student 26/U/9", "26/U/9"),
        "student:10": (real or "Student 10", "10"),
    }


def test_an_applicant_without_a_tracking_id_is_told_apart_by_its_number(school: LiveSchool) -> None:
    """The suffix of the second name is the tracking id, or the application's id; the middle name is in no real name."""
    school.applicant(17, first_name="A", middlename=" M. ", family_name="B", tracking_id="  ")
    school.take_up()
    row = school.customer("applicant:17")
    assert (row["name_suffix"], row["real_name"], row["middle_name"]) == ("17", "A B", "M.")


# --- phones and e-mails ---


@pytest.mark.parametrize(
    ("values", "phone", "email"),
    [
        ({"phone1": " 1 ", "phone2": "2", "email1": "a@b.c ", "email2": "d@e.f"}, "1", "a@b.c"),
        ({"phone1": " ", "phone2": "2", "email1": "", "email2": " d@e.f"}, "2", "d@e.f"),
        ({"phone2": "", "email2": None}, None, None),
        ({"phone1": "none", "email1": "not an address"}, "none", "not an address"),
    ],
)
def test_a_student_has_the_second_phone_and_address_where_the_first_is_blank(
    school: LiveSchool, values: Mapping[str, str | None], phone: str | None, email: str | None
) -> None:
    """phone1 else phone2, email1 else email2. What QuickBooks will not take is there all the same: the push leaves it out."""
    school.student(1, **values)
    school.applicant(1, **{name: value for name, value in values.items() if name.endswith("1")})
    school.take_up()
    row = school.customer("student:1")
    assert (row["phone"], row["email"]) == (phone, email)
    row = school.customer("applicant:1")
    first = values.get("phone1"), values.get("email1")
    assert (row["phone"], row["email"]) == tuple((value or "").strip() or None for value in first)


# --- ids that become names ---


@pytest.mark.parametrize(
    ("full", "short", "shown"),
    [("Main Campus", "MAIN", "Main Campus"), (" ", "MAIN", "MAIN"), (None, " MAIN ", "MAIN"), (None, "", "3")],
)
def test_an_id_is_shown_by_its_full_name_then_its_short_one_then_itself(
    school: LiveSchool, full: str | None, short: str | None, shown: str
) -> None:
    """Full name → short name → the id as text, for every lookup table, of applicants and of students."""
    tables = {"tbl_campus": "camp", "tbl_level": "level", "tbl_specialization": "splz", "tbl_program_mode": "prg_mode",
              "tbl_program_type": "prg_type"}  # fmt: skip
    for table, prefix in tables.items():
        school.put(table, **{f"{prefix}_id": 3, f"{prefix}_full_name": full, f"{prefix}_short_name": short})
    school.applicant(1, camp_id="3", opt_1="3", prg_mode_id=3)
    school.student(1, reg_no="R1")
    school.registration(1, "R1", camp_id=3, level_id=3, splz_id=3, prg_type=3)
    school.take_up()
    applicant, student = school.customer("applicant:1")["fields"], school.customer("student:1")["fields"]
    assert {applicant[name] for name in ("Campus", "Program", "ProgramMode")} == {shown}
    assert {student[name] for name in ("Campus", "Level", "Program", "ProgramType")} == {shown}


@pytest.mark.parametrize(
    ("value", "shown"),
    [("1", "Main Campus"), (" 01\n", "Main Campus"), ("99", "99"), ("Main", "Main"), ("1 2", "1 2"), ("", ""), (None, ""),
     ("99999999999999", "99999999999999"), ("-1", "-1"), ("1.0", "1.0")],
)  # fmt: skip
def test_a_text_that_holds_an_id_is_read_as_one(school: LiveSchool, value: str | None, shown: str) -> None:
    """camp_id and opt_1 are texts: digits find their row, whatever else they hold is shown as it is."""
    school.put("tbl_specialization", splz_id=1, splz_full_name="Main Campus")
    school.put("tbl_country", cntr_id=1, cntr_name="Main Campus")
    school.applicant(1, camp_id=value, opt_1=value, country_of_birth=value)
    school.take_up()
    fields = school.customer("applicant:1")["fields"]
    assert (fields["Campus"], fields["Program"], fields["BirthCountry"]) == (shown, shown, shown)


@pytest.mark.parametrize(
    ("month", "number", "shown"),
    [("May", 2024, "May 2024"), (" May ", None, "May"), ("", 7, "7"), (None, None, "5"), (" ", None, "5")],
)
def test_an_intake_is_its_month_and_number(
    school: LiveSchool, month: str | None, number: int | None, shown: str
) -> None:
    """“<intake_month> <intake_no>” where present, else the id; of no intake nothing."""
    school.put("tbl_intake", intake_id=5, intake_month=month, intake_no=number)
    school.applicant(1, intake_id=5)
    school.applicant(2, intake_id=88)
    school.applicant(3)
    school.student(1, reg_no="R")
    school.registration(1, "R", intake_id=5)
    school.take_up()
    found = {record: row["fields"]["Intake"] for record, row in school.all("customer").items()}
    assert found == {"applicant:1": shown, "applicant:2": "88", "applicant:3": "", "student:1": shown}


def test_every_field_is_there_of_a_record_that_holds_nothing(school: LiveSchool) -> None:
    """Every record is a customer, however incomplete: what is not known is an empty text."""
    school.applicant(1)
    school.student(1)
    school.take_up()
    applicant, student = school.customer("applicant:1"), school.customer("student:1")
    assert applicant["fields"] == {
        "ApplicationID": "1", **dict.fromkeys(
            ("TrackingID", "Gender", "BirthCountry", "NationalID", "Campus", "Intake", "Program", "ProgramMode"), "")
    }  # fmt: skip
    assert student["fields"] == dict.fromkeys(
        ("RegNo", "Gender", "Level", "Campus", "Intake", "Program", "NationalID", "ProgramType"), ""
    )
    assert (applicant["customer_type"], student["customer_type"]) == ("Applicant", "Student")
    assert (applicant["known_id"], student["known_id"]) == (None, None)


# --- registrations ---


@pytest.mark.parametrize(
    ("rows", "campus"),
    [
        ([], ""),
        ([(1, "2026-01-01", 1, 1)], "Main Campus"),
        ([(1, "2026-01-01", 0, 1)], ""),
        ([(1, "2026-01-01", None, 1)], ""),
        ([(1, "2026-01-01", 1, 1), (2, "2026-02-01", 0, 2)], "Main Campus"),
        ([(1, "2026-02-01", 1, 1), (2, "2026-01-01", 1, 2)], "Main Campus"),
        ([(1, "2026-01-01", 1, 2), (2, "2026-01-01", 1, 1)], "Main Campus"),
        ([(2, "2026-01-01", 1, 1), (1, "2026-01-01", 1, 2)], "Main Campus"),
        ([(1, "2026-01-01", 1, 1), (2, None, 1, 2)], "Main Campus"),
        ([(1, None, 1, 2), (2, None, 1, 1)], "Main Campus"),
    ],
)
def test_the_registration_is_the_active_one_then_the_newest_then_the_highest(
    school: LiveSchool, rows: list[tuple[int, str | None, int | None, int]], campus: str
) -> None:
    """Deterministic: active, newest reg_date (none is oldest), highest id, in whatever order the rows came."""
    school.student(1, reg_no="R1")
    for number, date, is_active, camp in rows:
        school.registration(number, "R1", date, reg_active=is_active, camp_id=camp)
    school.take_up()
    assert school.customer("student:1")["fields"]["Campus"] == campus


def test_a_registration_is_found_whatever_the_case_of_its_number(school: LiveSchool) -> None:
    """As MySQL compares them: case and spaces at the ends do not matter. No number is no registration."""
    school.student(1, reg_no="26/u/1 ")
    school.student(2, reg_no=" ")
    school.registration(1, " 26/U/1", camp_id=1)
    school.registration(2, "", camp_id=2)
    school.take_up()
    assert [school.customer(f"student:{n}")["fields"]["Campus"] for n in (1, 2)] == ["Main Campus", ""]


def test_the_program_type_is_the_registrations_else_the_students(school: LiveSchool) -> None:
    """tbl_personal_ug.prg_type stands in where the active registration has none."""
    school.put("tbl_program_type", prg_type_id=2, prg_type_full_name="Postgraduate")
    for number, own, registered in ((1, 1, 2), (2, 1, None), (3, None, None)):
        school.student(number, reg_no=f"R{number}", prg_type=own)
        school.registration(number, f"R{number}", prg_type=registered)
    school.take_up()
    found = [school.customer(f"student:{n}")["fields"]["ProgramType"] for n in (1, 2, 3)]
    assert found == ["Postgraduate", "Undergraduate", ""]


# --- fingerprints ---


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("applicant", {name: "new"}) for name in (
            "tracking_id", "first_name", "middlename", "family_name", "sex", "phone1", "email1", "country_of_birth",
            "nation_id_passport_no", "camp_id", "opt_1",
        )
    ] + [("applicant", {"intake_id": 1}), ("applicant", {"prg_mode_id": 1})] + [
        ("student", {name: "new"}) for name in (
            "reg_no", "fname", "middlename", "lname", "sex", "national_id", "phone1", "phone2", "email1", "email2"
        )
    ] + [("student", {"prg_type": 1})],
)  # fmt: skip
def test_a_fingerprint_changes_with_all_that_is_sent(school: LiveSchool, kind: str, change: Mapping[str, Any]) -> None:
    """Every column that goes to QuickBooks counts, for just this customer; put back, the fingerprint is as it was."""
    make = school.applicant if kind == "applicant" else school.student
    for number in (1, 2):
        school.applicant(number)
        school.student(number)
    school.take_up()
    before = school.fingerprints()
    make(1, **change)
    school.take_up()
    after = school.fingerprints()
    assert {record for record in before if before[record] != after[record]} == {f"{kind}:1"}
    make(1, **dict.fromkeys(change))
    school.take_up()
    assert school.fingerprints() == before


def test_columns_that_are_not_sent_change_nothing(school: LiveSchool) -> None:
    """Flags, dates of birth and the like, and blanks around a text change no fingerprint."""
    school.applicant(1, first_name="A", phone1="1")
    school.student(1, fname="A", reg_no="R")
    school.registration(1, "R", "2026-01-01")
    school.take_up()
    before = school.fingerprints()
    tracking = {"quickbk_status": 2, "pushed_by": "me", "pushed_date": START, "sync_token": "7", "dob": START}
    school.applicant(1, first_name=" A ", phone1="1\n", quickbooks_id="55", status=4, appl_date=START, **tracking)
    school.student(1, fname="A\t", qk_id="55", cntr_id=1, reg_date=START, **tracking)
    school.registration(2, "R", "2026-02-01")
    school.take_up()
    assert school.fingerprints() == before
    assert [row["known_id"] for row in school.all("customer").values()] == ["55", "55"]


@pytest.mark.parametrize(
    ("change", "records"),
    [
        ({"camp_id": 1, "camp_full_name": "New Campus"}, {"applicant:1", "student:1", "student:3"}),
        ({"camp_id": 1, "camp_short_name": "NEW"}, set()),
        ({"camp_id": 3, "camp_full_name": "Newly known"}, {"applicant:3"}),
        ({"camp_id": 2, "camp_full_name": None}, {"applicant:2", "student:2"}),
    ],
)
def test_a_renamed_campus_changes_exactly_its_customers(
    school: LiveSchool, change: Mapping[str, Any], records: set[str]
) -> None:
    """The fingerprints of those who are on the campus change, by their active registration, and no others; so for all lookups."""
    for number in (1, 2, 3):
        school.applicant(number, camp_id=str(number))
        school.student(number, reg_no=f"R{number}")
    school.registration(1, "R1", camp_id=1)
    school.registration(2, "R2", "2025-01-01", camp_id=1)
    school.registration(3, "R2", "2026-01-01", camp_id=2)
    school.registration(4, "R3", camp_id=1)
    school.registration(5, "R3", camp_id=2, reg_active=0)
    school.take_up()
    before = school.fingerprints()
    school.put("tbl_campus", **change)
    school.take_up()
    after = school.fingerprints()
    assert {record for record in before if before[record] != after[record]} == records


# --- what is pending, and the flags ---


def test_pending_is_whose_fingerprint_quickbooks_does_not_hold(school: LiveSchool) -> None:
    """Never pushed, pushed otherwise, failed before the first success: pending. State alone decides nothing."""
    for number in range(1, 6):
        school.applicant(number, first_name="A")
    school.take_up()
    known = school.fingerprints()
    school.push("applicant:1", 1, fingerprint=known["applicant:1"])
    school.push("applicant:2", 1, fingerprint="other")
    school.push("applicant:3", 2)
    school.push("applicant:4", 3, fingerprint=known["applicant:4"])
    school.push("applicant:99", 1)
    school.take_up()
    assert school.all("pending_customer").keys() == {f"applicant:{n}" for n in (2, 3, 5)}
    totals = school.all("customer_totals")["applicant"]
    assert [totals[n] for n in ("total", "not_synced", "synced", "failed", "in_progress", "pending")] == [
        5,
        1,
        2,
        1,
        1,
        3,
    ]
    school.applicant(1, first_name="B")
    school.take_up()
    assert "applicant:1" in school.all("pending_customer")
    school.applicant(1, first_name="A")
    school.take_up()
    assert "applicant:1" not in school.all("pending_customer")


def test_the_same_person_is_two_customers(school: LiveSchool) -> None:
    """Who was an applicant and is a student is both, with the same real name and a suffix of each."""
    school.applicant(1, first_name="Amina", family_name="Okello", nation_id_passport_no="CM1", tracking_id="T1")
    school.student(1, fname="Amina", lname="Okello", national_id="CM1", reg_no="R1")
    school.take_up()
    found = [(row["real_name"], row["name_suffix"]) for _, row in sorted(school.all("customer").items())]
    assert found == [("Amina Okello", "T1"), ("Amina Okello", "R1")]


@pytest.mark.parametrize(("zone", "wall"), [("UTC", "2026-03-29 00:30:15"), ("Africa/Kampala", "2026-03-29 03:30:15"),
                                            ("Europe/Berlin", "2026-03-29 01:30:15")])  # fmt: skip
def test_flags_follow_what_became_of_the_customer(school: LiveSchool, zone: str, wall: str) -> None:
    """State, who, the school's wall time in whole seconds, id and token are to be written until the MIS holds them."""
    school.parameters(zone=zone)
    school.applicant(1, quickbk_status=0)
    school.student(1)
    for record in ("applicant:1", "student:1"):
        school.push(record, 1, quickbooks_id="58", sync_token="2", pushed_at=AT)
    school.take_up()
    at = datetime.fromisoformat(wall)
    applicant, student = school.all("pending_applicant_status")[1], school.all("pending_student_status")[1]
    names = ("state", "pushed_by", "pushed_date", "sync_token")
    assert [applicant[n] for n in (*names, "quickbooks_id")] == [1, "System Auto Push", at, "2", "58"]
    assert [student[n] for n in (*names, "qk_id")] == [1, "System Auto Push", at, "2", "58"]
    assert (applicant["source_status"], student["source_status"]) == (0, None)
    written = {"quickbk_status": 1, "pushed_by": "System Auto Push", "pushed_date": at, "sync_token": "2"}
    school.applicant(1, quickbooks_id="58", **written)
    school.student(1, qk_id="58", **written)
    school.take_up()
    assert (school.all("pending_applicant_status"), school.all("pending_student_status")) == ({}, {})


def test_an_id_that_the_mis_holds_is_not_lost_while_nothing_better_is_known(school: LiveSchool) -> None:
    """In progress and failed customers have no id yet: the MIS keeps its own. Who was never taken up is left alone."""
    for number, state in ((1, 3), (2, 2)):
        school.applicant(number, quickbooks_id="old", sync_token="9")
        school.push(f"applicant:{number}", state, pushed_by="clerk", pushed_at=AT)
    school.applicant(3, quickbk_status=1, quickbooks_id="kept")
    school.take_up()
    found = school.all("pending_applicant_status")
    assert {
        n: (row["state"], row["quickbooks_id"], row["sync_token"], row["pushed_by"]) for n, row in found.items()
    } == {
        1: (3, "old", "9", "clerk"),
        2: (2, "old", "9", "clerk"),
    }
