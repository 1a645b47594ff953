"""The checks of the domain mis: each finds its rows and nothing in a clean school."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import psycopg
import pytest
from mis_school import LiveSchool
from named import found, found_amiss

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine.analysis import Analysis
from daemon.app import App
from daemon.settings import Settings
from daemon.times import BusinessTime


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-02 {text}+00:00")


def unresolved(school: LiveSchool) -> None:
    """Ids of nothing, each told once; texts that are no ids too, but no country's name."""
    school.applicant(1, camp_id="77", opt_1="law", intake_id=88, prg_mode_id=9, country_of_birth="99")
    school.applicant(2, country_of_birth="Uganda", camp_id="")
    school.registration(1, "R1", "2026-01-01", camp_id=77, splz_id=55, intake_id=88, level_id=9, prg_type=8)


def two_students(school: LiveSchool) -> None:
    school.student(2, fname="B", reg_no="r1 ", phone1="1", email1="b@example.org")
    school.student(1, reg_no="R1")


def one_for_two(school: LiveSchool) -> None:
    school.push("applicant:1", 1, realm_id="1", quickbooks_id="58")
    school.push("student:1", 1, realm_id="1", quickbooks_id="58")
    school.push("applicant:2", 1, realm_id="2", quickbooks_id="58")


def stuck(school: LiveSchool) -> None:
    school.push("applicant:1", 3, pushed_at=at("10:59"))
    school.push("applicant:2", 3, pushed_at=at("11:00"))
    school.push("student:1", 1, pushed_at=at("01:00"))


def other_names(school: LiveSchool) -> None:
    school.applicant(1, first_name="Ann: Marie")
    school.applicant(2, middlename="M" * 101)
    school.student(1, fname="A" * 100)


def addresses(school: LiveSchool) -> None:
    """QuickBooks wants an @ and a dot; more than one address is none."""
    school.student(1, email1="none")
    school.applicant(1, email1="a@example.org, b@example.org")
    school.applicant(2, email1=f"{'x' * 100}@example.org")


def nameless(school: LiveSchool) -> None:
    for table in (
        "tbl_campus",
        "tbl_level",
        "tbl_specialization",
        "tbl_program_mode",
        "tbl_program_type",
        "tbl_intake",
    ):
        names = school.domain.tables[table].names
        school.put(table, **{names[0]: 2, names[1]: None, names[2]: None})
    school.put("tbl_specialization", splz_id=2, splz_full_name=" ", splz_short_name="")
    school.put("tbl_country", cntr_id=2, cntr_nationality="Kenyan")


# What makes the school offend, and the first column of the rows that the check then returns.
OFFENCES: dict[str, tuple[Callable[[LiveSchool], None], list[object]]] = {
    "registration_without_student": (
        lambda s: (s.registration(7, "R7"), s.registration(8, None, reg_active=0)),  # type: ignore[func-returns-value]
        [7, 8],
    ),
    "two_active_registrations": (lambda s: s.registration(7, "r1", "2026-01-02"), ["r1"]),
    "student_without_registration": (lambda s: s.registration(1, "R1", reg_active=0), [1]),
    "student_without_number": (lambda s: s.student(2, fname="B", reg_no=" "), [2]),
    "number_of_two_students": (two_students, ["r1"]),
    "admitted_without_student": (lambda s: s.applicant(2, reg_no="R2"), [2]),
    "without_names": (lambda s: s.applicant(2, first_name=None, family_name=" "), ["applicant:2"]),
    "name_quickbooks_refuses": (other_names, ["applicant:1", "applicant:2"]),
    "email_invalid": (addresses, ["applicant:1", "applicant:2", "student:1"]),
    "phone_invalid": (
        lambda s: (s.applicant(1, phone1="n/a"), s.student(1, phone1="1" * 31)),  # type: ignore[func-returns-value]
        ["applicant:1", "student:1"],
    ),
    "id_of_nothing": (unresolved, ["applicant:1"] * 5 + ["student:1"] * 5),
    "lookup_without_name": (
        nameless,
        sorted(["tbl_campus", "tbl_country", "tbl_intake", "tbl_level", "tbl_program_mode", "tbl_program_type",
                "tbl_specialization"]),
    ),
    "customer_failed": (lambda s: s.push("applicant:1", 2, reason="2040"), ["applicant:1"]),
    "customer_stuck": (stuck, ["applicant:1"]),
    "customer_of_two_records": (one_for_two, ["1"]),
    "id_in_the_mis_differs": (
        lambda s: (s.applicant(1, quickbooks_id="5"), s.push("applicant:1", 1, quickbooks_id="6")),  # type: ignore[func-returns-value]
        ["applicant:1"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def database_of_checks(server: EmbeddedPostgres) -> str:
    dsn = server.ensure_database("mis_checks")
    migrate(dsn)
    return dsn


@pytest.fixture(scope="module")
def clean(database_of_checks: str, mis_analysis: Analysis) -> Iterator[tuple[LiveSchool, App]]:
    """A school in which everything is as it should be; it is 12:00."""
    with psycopg.connect(database_of_checks) as connection:
        school = LiveSchool(connection, mis_analysis, "mis")
        school.lookups()
        for number in (1, 2):
            school.applicant(number, first_name="A", family_name=f"B{number}", phone1="+256 700", email1="a@example.org",
                             camp_id="1", opt_1="1", intake_id=1, prg_mode_id=1, country_of_birth="1")  # fmt: skip
        school.student(1, fname="A", reg_no="R1", phone1="0700", email1="a@example.org", prg_type=1)
        school.registration(1, "R1", "2026-01-01", camp_id=1, splz_id=1, intake_id=1, level_id=1)
        school.at("2026-03-02 12:00")
        app = App(Settings(), database_of_checks, load_domain("mis"), BusinessTime())
        yield school, app
        app.close()
        school.close()


def test_every_check_is_tried_below() -> None:
    """All checks have a title of their own, a severity and an offence."""
    checks = load_domain("mis").checks
    assert checks.keys() == OFFENCES.keys()
    assert {file.header["severity"] for file in checks.values()} == {"error", "warning"}
    assert len({file.header["title"] for file in checks.values()}) == len(checks)


def test_a_clean_school_passes_all_checks(clean: tuple[LiveSchool, App]) -> None:
    """Checks return offending rows: in a clean school none."""
    assert found(clean[1]) == {}


@pytest.mark.parametrize("name", OFFENCES)
def test_a_check_finds_the_offending_rows(clean: tuple[LiveSchool, App], name: str) -> None:
    """Each check names exactly the rows that offend, and the school is clean again once they are put right."""
    offend, rows = OFFENCES[name]
    assert found_amiss(*clean, "2026-03-02 12:00", offend, name) == rows
