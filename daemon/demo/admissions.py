"""What goes on in a school, while people look: applications, corrections, admissions, a campus renamed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import psycopg

from daemon.demo.acting import Acting, Action
from daemon.demo.school import CAMPUSES, People


class Admissions(Acting):
    """What goes on in the school.

    Args:
        connection, now, rng: see `Acting`.
        seed: of the people who come.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], now: Callable[[], datetime], rng: random.Random, *, seed: int
    ) -> None:
        super().__init__(connection, now, rng)
        self._people = People(now(), seed=seed)

    @property
    def actions(self) -> Sequence[tuple[Action, int]]:
        """See `Acting`."""
        return (
            (self._apply, 30),
            (self._new_phone, 30),
            (self._admit, 15),
            (self._correct_name, 10),
            (self._change_programme, 10),
            (self._rename_campus, 1),
        )

    def _number(self, table: str, key: str) -> int:
        return int(self._one("SELECT nextval(pg_get_serial_sequence(%s, %s))", table, key)[0])

    def _some(self, table: str, key: str) -> int | None:
        row = self._one(f"SELECT {key} FROM {table} ORDER BY random() LIMIT 1")
        return None if row is None else int(row[0])

    def _insert(self, table: str, columns: str, row: tuple[Any, ...]) -> None:
        self._connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(['%s'] * len(row))})", row)

    def _apply(self, now: datetime) -> bool:
        row = list(self._people.applicant(self._number("tbl_online_application", "appl_id")))
        row[17] = now
        columns = (
            "appl_id, tracking_id, reg_no, first_name, middlename, family_name, dob, sex, phone1, email1, country_of_birth, "
            "nation_id_passport_no, camp_id, intake_id, level_id, prg_mode_id, opt_1, appl_date, status"
        )
        self._insert("tbl_online_application", columns, tuple(row))
        return True

    def _new_phone(self, _now: datetime) -> bool:
        table, key = self._rng.choice([("tbl_online_application", "appl_id"), ("tbl_personal_ug", "per_id_ug")])
        number = self._some(table, key)
        if number is not None:
            self._connection.execute(f"UPDATE {table} SET phone1 = %s WHERE {key} = %s", [self._people.phone(), number])
        return number is not None

    def _correct_name(self, _now: datetime) -> bool:
        number = self._some("tbl_personal_ug", "per_id_ug")
        if number is not None:
            name = self._people.faker.last_name()
            self._connection.execute("UPDATE tbl_personal_ug SET lname = %s WHERE per_id_ug = %s", [name, number])
        return number is not None

    def _admit(self, now: datetime) -> bool:
        """An applicant becomes a student: the application gets the number, the student a registration."""
        found = self._one(
            "SELECT appl_id, first_name, middlename, family_name, dob, sex, nation_id_passport_no, phone1, email1, intake_id, "
            "CASE WHEN camp_id ~ '^[0-9]+$' THEN camp_id::integer END, CASE WHEN opt_1 ~ '^[0-9]+$' THEN opt_1::integer END "
            "FROM tbl_online_application WHERE reg_no IS NULL ORDER BY random() LIMIT 1"
        )
        if found is None:
            return False
        application, *person, intake, campus, programme = found
        number = self._number("tbl_personal_ug", "per_id_ug")
        reg_no = self._people.reg_no(number)
        columns = (
            "per_id_ug, reg_no, fname, middlename, lname, dob, sex, national_id, phone1, email1, prg_type, reg_date"
        )
        self._insert("tbl_personal_ug", columns, (number, reg_no, *person, 1, now))
        self._register(reg_no, intake, programme, campus, now)
        self._connection.execute(
            "UPDATE tbl_online_application SET reg_no = %s, status = 3 WHERE appl_id = %s", [reg_no, application]
        )
        return True

    def _register(
        self, reg_no: str, intake: int | None, programme: int | None, campus: int | None, now: datetime
    ) -> None:
        columns = "reg_no, intake_id, splz_id, level_id, prg_mode_id, prg_type, camp_id, reg_date, reg_active"
        row = (reg_no, intake, programme, self._rng.randint(1, 3), 1, 1, campus, now, 1)
        self._insert("tbl_register_program_ug", columns, row)

    def _change_programme(self, now: datetime) -> bool:
        row = self._one(
            "UPDATE tbl_register_program_ug SET reg_active = 0 WHERE reg_prg_id = (SELECT reg_prg_id FROM "
            "tbl_register_program_ug WHERE reg_active = 1 AND reg_no <> '' ORDER BY random() LIMIT 1) "
            "RETURNING reg_no, intake_id, camp_id"
        )
        if row is None:
            return False
        self._register(row[0], row[1], self._rng.randint(1, 8), row[2], now)
        return True

    def _rename_campus(self, now: datetime) -> bool:
        number = self._rng.randint(1, len(CAMPUSES))
        name = f"{CAMPUSES[number - 1]} ({now:%B})"
        row = self._one("UPDATE tbl_campus SET camp_full_name = %s WHERE camp_id = %s RETURNING 1", name, number)
        return row is not None
