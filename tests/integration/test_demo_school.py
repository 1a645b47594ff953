"""The demo's school: the same from the same seed, and alive."""

from __future__ import annotations

import random
from datetime import datetime

import psycopg

from connectors.embedded import EmbeddedPostgres
from consumers.domain import load_domain
from daemon.demo.admissions import Admissions
from daemon.demo.school import TABLES, create_school, school_rows

START = datetime(2026, 3, 2, 8)  # noqa: DTZ001 - wall time


def test_a_seed_makes_the_same_school_again() -> None:
    """Generated people are sample data that a test can name."""
    assert list(school_rows(START, seed=4)) == list(school_rows(START, seed=4))
    assert list(school_rows(START, seed=4)) != list(school_rows(START, seed=5))


def test_the_tables_have_what_the_domain_reads() -> None:
    """Every declared column is one of the MIS, but for those that the domain can add."""
    for name, table in load_domain("mis").tables.items():
        made = {column.lower() for column, _ in TABLES[name]}
        assert {column.name for column in table.columns if not column.optional} <= made


def test_everything_that_goes_on_in_a_school_happens(server: EmbeddedPostgres) -> None:
    """Applications, phones, admissions, names, programmes and a campus: each is a transaction that changes rows."""
    with psycopg.connect(server.ensure_database("demo_school"), autocommit=True) as connection:
        create_school(connection, START, seed=4, applicants=30, students=30)
        admissions = Admissions(connection, lambda: START, random.Random(4), seed=4)
        for _ in range(300):
            admissions.act()
        assert admissions.done.keys() == {
            "apply", "new_phone", "admit", "correct_name", "change_programme", "rename_campus"
        }  # fmt: skip
        admitted = connection.execute(
            "SELECT count(*) FROM tbl_online_application AS a JOIN tbl_personal_ug AS s ON s.reg_no = a.reg_no "
            "JOIN tbl_register_program_ug AS r ON r.reg_no = s.reg_no AND r.reg_active = 1"
        ).fetchone()
        assert admitted is not None
        assert admitted[0] >= admissions.done["admit"] > 10
