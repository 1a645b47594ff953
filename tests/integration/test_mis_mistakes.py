"""Mistakes that systems like this are known to make, each where the domain mis could make it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from mis_school import LiveSchool

from consumers.domain import load_domain

AT = datetime(2026, 3, 2, 8, tzinfo=UTC)


def test_failed_and_in_progress_customers_stay_pending(school: LiveSchool) -> None:
    """Whoever QuickBooks does not hold is to be pushed, whatever state says: nothing is stuck in a flag."""
    for number in range(1, 5):
        school.student(number, fname="A")
    school.take_up()
    known = school.fingerprints()
    for number, state in ((1, 2), (2, 3), (3, 1)):
        school.push(f"student:{number}", state, fingerprint=known["student:3"] if state == 1 else None)
    school.take_up()
    assert school.all("pending_customer").keys() == {"student:1", "student:2", "student:4"}
    for flag in (0, 1, 2, 3, None):  # nor does the MIS's own flag hide anybody
        for number in range(1, 5):
            school.student(number, quickbk_status=flag)
        school.take_up()
        assert school.all("pending_customer").keys() == {"student:1", "student:2", "student:4"}


def test_the_quickbooks_id_is_never_thrown_away(school: LiveSchool) -> None:
    """Once told, the id stays in the MIS through an update in progress and a failure."""
    school.applicant(1)
    school.push("applicant:1", 1, quickbooks_id="58", sync_token="0", pushed_at=AT)
    for state, token in ((1, "0"), (3, "0"), (2, "0"), (3, None), (1, "1")):
        school.push("applicant:1", state, quickbooks_id="58", sync_token=token, pushed_at=AT)
        school.take_up()
        row = school.all("applicant_flags", "appl_id")[1]
        assert (row["state"], row["quickbooks_id"]) == (state, "58")
        school.applicant(
            1, quickbk_status=row["state"], quickbooks_id=row["quickbooks_id"], sync_token=row["sync_token"]
        )
        school.take_up()
    assert school.customer("applicant:1")["known_id"] == "58"
    assert school.rows["tbl_online_application"][1]["sync_token"] == "1"


def test_intake_and_mode_are_shown_by_their_names(school: LiveSchool) -> None:
    """They come from intake_month and intake_no, and from prg_mode_full_name: columns that the MIS has."""
    school.put("tbl_intake", intake_id=7, intake_no=2026, intake_month="August")
    school.put("tbl_program_mode", prg_mode_id=7, prg_mode_full_name="Evening", prg_mode_short_name="EV")
    school.applicant(1, intake_id=7, prg_mode_id=7)
    school.take_up()
    fields = school.customer("applicant:1")["fields"]
    assert (fields["Intake"], fields["ProgramMode"]) == ("August 2026", "Evening")


def test_the_program_is_the_applicants_option_and_the_students_specialization(school: LiveSchool) -> None:
    """opt_1 holds a splz_id; a registration has one of its own, and its prg_id is no programme's name."""
    for number, name in ((1, "Law"), (2, "Nursing"), (3, "Tourism")):
        school.put("tbl_specialization", splz_id=number, splz_full_name=name)
    school.applicant(1, opt_1="2", level_id=3)
    school.student(1, reg_no="R")
    school.registration(1, "R", prg_id=1, splz_id=3)
    school.take_up()
    assert school.customer("applicant:1")["fields"]["Program"] == "Nursing"
    assert school.customer("student:1")["fields"]["Program"] == "Tourism"


def test_the_registration_does_not_depend_on_the_order_in_which_rows_came(school: LiveSchool) -> None:
    """The same registrations, told in any order and edited on the way, lead to the same customer."""
    school.student(1, reg_no="R")
    rows = [(n, None if n % 4 == 0 else f"2026-01-{n % 3 + 1:02}", n % 5 != 0, n) for n in range(1, 13)]
    for number in range(1, 13):
        school.put("tbl_campus", camp_id=number, camp_full_name=f"Campus {number}")
    shown = set()
    for seed in range(8):
        random.Random(seed).shuffle(rows)
        for number, date, is_active, campus in rows:
            school.registration(number, "R", date, reg_active=int(is_active), camp_id=campus)
            if seed % 2:
                school.take_up()
        school.take_up()
        shown.add(school.customer("student:1")["fields"]["Campus"])
        for number, *_ in rows:
            school.remove("tbl_register_program_ug", number)
        school.take_up()
    assert shown == {"Campus 11"}


def test_incomplete_records_are_not_left_out(school: LiveSchool) -> None:
    """No names, no numbers, ids of nothing, a number that two have: every record is one customer."""
    school.applicant(1)
    school.applicant(2, camp_id="99", opt_1="x", intake_id=99)
    school.student(1, reg_no="R", email1="none")
    school.student(2, reg_no="R")
    school.student(3)
    school.registration(1, "R", camp_id=99)
    school.registration(2, "R", "2026-01-01", camp_id=1)
    school.take_up()
    found = school.all("customer")
    assert (
        found.keys()
        == {"applicant:1", "applicant:2", "student:1", "student:2", "student:3"}
        == (school.all("pending_customer").keys())
    )
    assert [found[f"student:{n}"]["fields"]["Campus"] for n in (1, 2, 3)] == ["Main Campus", "Main Campus", ""]


def test_an_edit_and_its_undoing_are_two_changes(school: LiveSchool) -> None:
    """A → B → A: what is pending is told by what QuickBooks holds, not by what was once sent."""
    school.applicant(1, phone1="A")
    school.take_up()
    first = school.fingerprints()["applicant:1"]
    school.push("applicant:1", 1, fingerprint=first)
    school.applicant(1, phone1="B")
    school.take_up()
    second = school.fingerprints()["applicant:1"]
    school.push("applicant:1", 1, fingerprint=second)
    school.applicant(1, phone1="A")
    school.take_up()
    row = school.all("pending_customer")["applicant:1"]
    assert (row["fingerprint"], row["pushed_fingerprint"]) == (first, second)


def test_nothing_written_to_the_mis_is_of_another_second_or_another_zone(school: LiveSchool) -> None:
    """pushed_date has no fraction: what the MIS holds after the write is what was wanted, so nothing is written again."""
    school.parameters(zone="America/New_York")
    for number in range(1, 30):
        school.student(number)
        school.push(f"student:{number}", 1, pushed_at=AT + timedelta(minutes=47 * number, microseconds=number * 34_483))
    school.take_up()
    for number, row in school.all("pending_student_status").items():
        assert row["pushed_date"].microsecond == 0
        school.student(number, quickbk_status=1, pushed_by=row["pushed_by"], pushed_date=row["pushed_date"])
    school.take_up()
    assert school.all("pending_student_status") == {}


def test_columns_that_the_mis_may_lack_are_those_that_are_written() -> None:
    """Everything that is written back is optional in the source and guarded; nothing else is optional."""
    domain = load_domain("mis")
    for entry in domain.write_back.values():
        optional = {column.name for column in entry.table.columns if column.optional}
        assert optional == set(entry.set) == set(entry.guard)
        assert entry.defaults == {"quickbk_status": "0", "pushed_by": "System Auto Push"}
