"""Random histories of a school through the engine, pushes included, against the same rules in plain Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from mis_school import APPLICATION, KEYS, PERSON, REGISTRATION, LiveSchool, School, assert_models, compute, sent
from random_batches import random_batches
from rental_shop import read

from consumers.domain import load_domain
from consumers.engine.analysis import Analysis, analyse
from consumers.engine.units import Unit
from daemon.demo.school import TABLES, People

SECONDS_A_BATCH = 1 / 70  # of the time budget, for each of --batches
ZONES = ["UTC", "Africa/Kampala", "Europe/Berlin", "Asia/Kathmandu"]
LOOKUPS = [name for name in TABLES if name not in (APPLICATION, PERSON, REGISTRATION)]


class SchoolHistory:
    """Makes units one by one: what people do, correct, merge and delete in a school, and what its push tells."""

    def __init__(self, school: School, rng: random.Random) -> None:
        self.school, self._rng = school, rng
        self._people = People(datetime(2026, 3, 2), seed=rng.randint(0, 9999))  # noqa: DTZ001 - wall time
        self._numbers = iter(range(1, 1_000_000))
        self.now = datetime(2026, 3, 2, tzinfo=UTC)
        self.values: dict[str, str] = {}
        self.fingerprints: list[str] = []  # of the customers, as the tables have them
        self._actions: dict[Callable[[], None], int] = {
            self._apply: 4, self._enrol: 4, self._register: 6, self._edit: 12, self._lookup: 4, self._push: 12,
            self._write_flags: 4, self._delete: 3, self._parameters: 1, self._new_key: 1,
        }  # fmt: skip

    def unit(self) -> Unit:
        for _ in range(self._rng.choice([1, 1, 1, 2, 5])):
            self._rng.choices(list(self._actions), list(self._actions.values()))[0]()
        if self._rng.random() < 0.01:
            self.school.truncate(self._rng.choice([REGISTRATION, "tbl_campus", "pushed"]))
        self.now += timedelta(minutes=self._rng.randint(0, 600))
        return self.school.commit(self.now)

    def _some(self, table: str) -> Any:
        rows = self.school.rows[table]
        return self._rng.choice(sorted(rows)) if rows else None

    def _put(self, table: str, row: tuple[Any, ...]) -> None:
        names = [name.lower() for name, _ in TABLES[table]]
        self.school.put(table, **dict(zip(names, row, strict=False)))

    def _apply(self) -> None:
        if len(self.school.rows[APPLICATION]) < 15:
            self._put(APPLICATION, self._people.applicant(next(self._numbers)))

    def _enrol(self) -> None:
        if len(self.school.rows[PERSON]) < 15:
            self._put(PERSON, self._people.student(next(self._numbers)))

    def _reg_no(self) -> str | None:
        """A student's number, spelled as it comes."""
        student = self.school.rows[PERSON].get(self._some(PERSON), {"reg_no": "nobody"})
        spelled: Callable[[str], str] = self._rng.choice([str, str, str.lower, lambda text: f" {text} "])
        return None if student["reg_no"] is None else spelled(student["reg_no"])

    def _register(self) -> None:
        for row in self._people.registrations(self._reg_no()):
            self._put(REGISTRATION, row)

    def _edit(self) -> None:
        """One column of a row becomes what it is in another, or nothing: names, ids, numbers, dates, flags."""
        table = self._rng.choice([APPLICATION, PERSON, REGISTRATION])
        one, other = self._some(table), self._some(table)
        if one is not None:
            column = self._rng.choice(self.school.domain.tables[table].names[1:])
            value = self._rng.choice([None, *[self.school.rows[table][other][column]] * 4])
            self.school.put(table, **{**self.school.rows[table][one], column: value})

    def _lookup(self) -> None:
        table = self._rng.choice(LOOKUPS)
        columns = self.school.domain.tables[table].names
        values: list[Any] = (
            [None, self._rng.randint(1, 9)] if table == "tbl_intake" else [None, "", " ", "New ", "Main"]
        )
        row = dict(zip(columns[1:3], (self._rng.choice(values), self._rng.choice([None, "", "Old"])), strict=True))
        self.school.put(table, **{columns[0]: self._rng.randint(1, 4), **row})

    def _push(self) -> None:
        """What a push tells: of customers as they are, as they were, and of some that are not there."""
        known = compute(self.school.tables)["customer"]
        record = self._rng.choice([*sorted(known), "applicant:999999", "student:x", "nobody"])
        state = self._rng.choice([1, 1, 1, 2, 3])
        self.school.push(
            record, state, fingerprint=self._rng.choice(["old", None, self._rng.choice(self.fingerprints or ["none"])]),
            quickbooks_id=self._rng.choice([None, "5", "6"]), sync_token=self._rng.choice([None, "0", "1"]),
            pushed_by=self._rng.choice([None, "", "clerk"]), reason=self._rng.choice([None, "2040"]),
            pushed_at=self._rng.choice([None, self.now + timedelta(microseconds=123_456)]),
        )  # fmt: skip

    def _write_flags(self) -> None:
        """The flags as they should be, or as somebody else writes them, come back as changes of the source."""
        models = compute(self.school.tables, **self.values)
        for kind, table, key in (("applicant", APPLICATION, "appl_id"), ("student", PERSON, "per_id_ug")):
            for number, row in models[f"pending_{kind}_status"].items():
                if self._rng.random() < 0.5:
                    written = {n: v for n, v in row.items() if n != "state" and not n.startswith("source_")}
                    self.school.put(table, **{key: number, "quickbk_status": row["state"], **written})
        if (number := self._some(PERSON)) is not None and self._rng.random() < 0.3:
            self.school.put(PERSON, per_id_ug=number, quickbk_status=self._rng.choice([None, 0, 1, 2]))

    def _delete(self) -> None:
        table = self._rng.choice([APPLICATION, PERSON, REGISTRATION, REGISTRATION, *LOOKUPS, "pushed"])
        if (key := self._some(table)) is not None:
            self.school.remove(table, key)

    def _new_key(self) -> None:
        table = self._rng.choice([APPLICATION, PERSON, REGISTRATION])
        if (key := self._some(table)) is not None:
            self.school.move(table, key, next(self._numbers) + 500_000)

    def _parameters(self) -> None:
        self.values = {"zone": self._rng.choice(ZONES), "pushed_by": self._rng.choice(["System Auto Push", "Registry"])}
        self.school.parameters(**self.values)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(load_domain("mis"))


def test_the_models_are_what_python_computes_after_every_batch(
    connection: psycopg.Connection[Any], analysis: Analysis, batches: int, seed: int
) -> None:
    """However units are batched, doubled and interrupted: models equal their queries, and plain Python's tables."""
    print(f"seed {seed}")
    rng = random.Random(f"mis{seed}")
    school = School(analysis.domain, lambda unit: None)
    history = SchoolHistory(school, rng)
    school.lookups()
    school.parameters()
    pending = 0
    for _, note in random_batches(
        connection, analysis, school.commit(None), history.unit, rng,
        seconds=batches * SECONDS_A_BATCH, least=25, note=f"seed {seed}",
    ):  # fmt: skip
        actual = {name: read(connection, "live", name, key) for name, key in KEYS.items()}
        history.fingerprints = [row["fingerprint"] for row in actual["customer"].values()]
        pending += len(actual["pending_applicant_status"]) + len(actual["pending_student_status"])
        assert_models(actual, school.rows["pushed"], compute(school.tables, **history.values), note)
    assert pending > 0


def test_flags_alone_change_no_fingerprint(connection: psycopg.Connection[Any], analysis: Analysis, seed: int) -> None:
    """Whatever is written to the tracking columns, by us or by others: no customer changes, and nothing becomes pending."""
    rng = random.Random(f"flags{seed}")
    school = LiveSchool(connection, analysis, "flags")
    school.generated(datetime(2026, 3, 2), seed=rng.randint(0, 99), applicants=25, students=25)  # noqa: DTZ001
    school.take_up()
    customers = school.all("customer")
    for record, row in customers.items():
        if rng.random() < 0.7:
            school.push(record, rng.choice([1, 2, 3]), fingerprint=row["fingerprint"])
    school.take_up()
    pending = school.all("pending_customer").keys()
    for _ in range(15):
        for table, key, identifier in ((APPLICATION, "appl_id", "quickbooks_id"), (PERSON, "per_id_ug", "qk_id")):
            for number in rng.sample(sorted(school.rows[table]), 5):
                school.put(table, **{
                    key: number, "quickbk_status": rng.choice([None, 0, 1, 2, 3, 9]), identifier: rng.choice([None, "", "7"]),
                    "sync_token": rng.choice([None, "3"]), "pushed_by": rng.choice([None, "me"]),
                    "pushed_date": rng.choice([None, datetime(2026, 1, 1)]),  # noqa: DTZ001
                })  # fmt: skip
        school.take_up()
        now = school.all("customer")
        assert {r: (c["fingerprint"], sent(c)) for r, c in customers.items()} == {
            r: (c["fingerprint"], sent(c)) for r, c in now.items()
        }
        assert pending == school.all("pending_customer").keys()
    school.close()
