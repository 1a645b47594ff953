"""Every query and report of the domain mis against an answer that plain Python works out from the rows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from mis_school import APPLICATION, PERSON, REGISTRATION, LiveSchool, Models, active, clean, compute
from named import answer

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import load_domain
from consumers.engine.analysis import Analysis
from daemon.app import App
from daemon.settings import Settings
from daemon.times import BusinessTime

NOW = datetime(2026, 3, 2, 21, 30, tzinfo=UTC)  # in Kampala it is the 3rd
ZONE = "Africa/Kampala"
STATES = ("not synced", "synced", "failed", "in progress")
Rows = list[tuple[Any, ...]]


class Known:
    """What is known of the school in plain Python: its rows, and what the rules make of them."""

    def __init__(self, school: LiveSchool) -> None:
        self.rows = school.rows
        self.models: Models = compute(school.tables, zone=ZONE)
        self.customers = self.models["customer"]
        self.states = self.models["customer_state"]
        self.audit: Rows = []

    def day(self, record: str) -> Any:
        at = self.states[record]["pushed_at"]
        return at and at.astimezone(ZoneInfo(ZONE)).date()

    def state(self, record: str) -> str:
        return STATES[self.states[record]["state"]]

    def unresolved(self) -> list[tuple[str, str, str]]:
        """(field, id, record) of every id without a row; of a text, of every text that is no id."""
        tables = {"Campus": "tbl_campus", "Program": "tbl_specialization", "Intake": "tbl_intake", "Level": "tbl_level",
                  "ProgramMode": "tbl_program_mode", "ProgramType": "tbl_program_type", "BirthCountry": "tbl_country"}  # fmt: skip
        given = [
            (f"applicant:{n}", {"Campus": r["camp_id"], "Program": r["opt_1"], "Intake": r["intake_id"],
                                "ProgramMode": r["prg_mode_id"],
                                "BirthCountry": r["country_of_birth"] if (r["country_of_birth"] or "").isdigit() else None})
            for n, r in self.rows[APPLICATION].items()
        ]  # fmt: skip
        for n, r in self.rows[PERSON].items():
            mine = active(self.rows[REGISTRATION].values(), clean(r["reg_no"]))
            kind = r["prg_type"] if mine["prg_type"] is None else mine["prg_type"]
            given.append((f"student:{n}", {"Campus": mine["camp_id"], "Program": mine["splz_id"], "Intake": mine["intake_id"],
                                           "Level": mine["level_id"], "ProgramType": kind}))  # fmt: skip
        return [
            (field, text, record)
            for record, values in given
            for field, value in values.items()
            if (text := clean(None if value is None else str(value)))
            and not (text.isdigit() and int(text) in self.rows[tables[field]])
        ]

    def same_person(self) -> list[tuple[int, int, str]]:
        students = defaultdict(list)
        for n, row in self.rows[PERSON].items():
            students[clean(row["national_id"])].append(n)
        pairs = [(n, s, clean(r["nation_id_passport_no"])) for n, r in self.rows[APPLICATION].items()
                 for s in students[clean(r["nation_id_passport_no"])]]  # fmt: skip
        return sorted((a, s, number) for a, s, number in pairs if number)

    def by_field(self, field: str) -> dict[tuple[str, str], list[str]]:
        groups = defaultdict(list)
        for record, row in self.customers.items():
            groups[row["fields"][field], row["kind"]].append(record)
        return groups


@pytest.fixture(scope="module")
def running(server: EmbeddedPostgres, mis_analysis: Analysis) -> Iterator[tuple[App, Known]]:
    dsn = server.ensure_database("mis_queries")
    migrate(dsn)
    with psycopg.connect(dsn) as connection:
        school = LiveSchool(connection, mis_analysis, "mis", zone=ZONE)
        school.generated(NOW.replace(tzinfo=None), seed=11, applicants=120, students=150)
        school.applicant(5, reg_no="26/U/00005", status=3)
        school.applicant(6, phone1=None, email1=None)
        causes = [school.commit(NOW - timedelta(hours=6)).cause]
        rng = random.Random(11)
        told: dict[str, int] = {}
        for state in (3, 1):  # first in progress, all of them, then what became of each
            for record, row in sorted(school.all("customer").items()):
                if rng.random() < 0.2 and record != "student:1":
                    continue
                last = state if state == 3 or record == "student:1" else rng.choice([1, 1, 2])
                done = last == 1
                told.setdefault(record, len(told))
                school.push(
                    record, last, quickbooks_id=str(told[record]) if done else None, pushed_by="clerk",
                    fingerprint=row["fingerprint"] if done else None,
                    reason=rng.choice(["2040", "2050", None]) if last == 2 else None,
                    display_name=(row["real_name"] + rng.choice(["", f" ({row['name_suffix']})"])) if done else None,
                    pushed_at=NOW - timedelta(minutes=rng.randint(0, 3000)),
                )  # fmt: skip
            causes.append(school.commit(NOW - timedelta(hours=state)).cause)
        school.student(1, phone1="changed since")
        school.commit(NOW)
        known = Known(school)
        times = [NOW - timedelta(hours=hours) for hours in (6, 3, 1)]
        known.audit = list(zip(times, (None, 0, 3), (0, 3, 1), causes, strict=True))
        app = App(Settings(), dsn, load_domain("mis"), BusinessTime())
        yield app, known
        app.close()


def totals(k: Known) -> Rows:
    found = []
    for kind in ("applicant", "student"):
        states = Counter(k.states[r]["state"] for r in k.customers if r.startswith(kind))
        pending = sum(r.startswith(kind) for r in waiting(k))
        found.append((kind, states.total(), *(states[n] for n in range(4)), pending))
    return found


def waiting(k: Known) -> list[str]:
    """In order of kind and number: who was never taken in, and student 1, who has changed since."""
    found = [r for r in k.customers if k.states[r]["state"] != 1 or r == "student:1"]
    return sorted(found, key=lambda r: (k.customers[r]["kind"], k.customers[r]["record_id"]))


def failed(k: Known) -> list[str]:
    found = sorted(r for r in k.customers if k.states[r]["state"] == 2)
    return sorted(found, key=lambda r: k.states[r]["pushed_at"], reverse=True)


def counted(groups: Iterable[tuple[Any, ...]], *order: int) -> Rows:
    rows = [(*key, count) for key, count in Counter(groups).items()]
    return sorted(rows, key=lambda row: [-row[-1] if place < 0 else row[place] for place in order])


def by(field: str) -> Callable[[Known], Rows]:
    def answer(k: Known) -> Rows:
        return [
            (*key, len(found), sum(k.state(r) == "synced" for r in found), sum(k.state(r) == "failed" for r in found))
            for key, found in sorted(k.by_field(field).items())
        ]

    return answer


def same_name(k: Known) -> Rows:
    groups = defaultdict(list)
    for record, row in k.customers.items():
        groups[row["real_name"].lower()].append(record)
    rows = [(name, len(found), min(found), max(found)) for name, found in groups.items() if len(found) > 1]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def unresolved_ids(k: Known) -> Rows:
    groups = defaultdict(list)
    for field, value, record in k.unresolved():
        groups[field, value].append(record)
    rows = [(*key, len(found), min(found)) for key, found in groups.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))


def synced_today(k: Known) -> Rows:
    today = NOW.astimezone(ZoneInfo(ZONE)).date()
    rows = [(r, s["display_name"], s["quickbooks_id"], "clerk", s["pushed_at"]) for r, s in sorted(k.states.items())
            if s["state"] == 1 and k.day(r) == today]  # fmt: skip
    return sorted(rows, key=lambda row: row[4], reverse=True)


def registrations_of(k: Known) -> Rows:
    rows = k.rows[REGISTRATION].values()
    mine = [r for r in rows if (clean(r["reg_no"]) or "").lower() == k.rows[PERSON][1]["reg_no"].lower()]
    live = [r for r in mine if r["reg_active"] == 1]
    counts = max(live, key=lambda r: (str(r["reg_date"] or ""), r["reg_prg_id"]))["reg_prg_id"] if live else None
    mine.sort(key=lambda r: (str(r["reg_date"] or ""), r["reg_prg_id"]), reverse=True)
    return [(r["reg_prg_id"], r["reg_date"], r["reg_active"] == 1, counts and r["reg_prg_id"] == counts, r["camp_id"],
             r["splz_id"], r["intake_id"]) for r in mine]  # fmt: skip


def applications_by_month(k: Known) -> Rows:
    groups = defaultdict(list)
    for row in k.rows[APPLICATION].values():
        groups[row["appl_date"].date().replace(day=1)].append(row["reg_no"])
    return [(month, len(found), sum(n is not None for n in found)) for month, found in sorted(groups.items())]


def flags_to_write(k: Known) -> Rows:
    rows = []
    for kind in ("applicant", "student"):
        for number, row in k.models[f"pending_{kind}_status"].items():
            rows.append((f"{kind}:{number}", row["source_status"], row["state"], row["pushed_date"]))
    return sorted(rows)


def found_people(k: Known) -> Rows:
    names = ("real_name", "phone", "email")
    return [
        (
            r,
            *(c[n] for n in names),
            c["fields"]["Campus"],
            c["fields"]["Program"],
            k.state(r),
            k.states[r]["quickbooks_id"],
        )
        for r, c in sorted(k.customers.items())
    ][:50]


ANSWERS: dict[str, Callable[[Known], Rows]] = {
    "pending": lambda k: [(r, k.customers[r]["kind"], k.customers[r]["real_name"], *_held(k, r)) for r in waiting(k)],
    "failed": lambda k: [(r, k.customers[r]["real_name"], k.states[r]["reason"], k.states[r]["pushed_at"]) for r in failed(k)],
    "failures_by_reason": lambda k: counted(((k.states[r]["reason"] or "(none)",) for r in failed(k)), -1, 0),
    "synced_today": synced_today,
    "synced_by_day": lambda k: sorted(
        counted(((k.day(r), k.customers[r]["kind"]) for r in k.customers if k.states[r]["state"] == 1), 1),
        key=lambda row: row[0], reverse=True,
    ),
    "customers_by_state": totals,
    "customers_by_campus": by("Campus"),
    "customers_by_program": by("Program"),
    "customers_by_intake": by("Intake"),
    "students_by_level": lambda k: counted(
        ((c["fields"]["Level"], c["fields"]["ProgramType"]) for c in k.customers.values() if c["kind"] == "student"), 0, 1
    ),
    "same_person": lambda k: [
        (a, s, number, k.customers[f"applicant:{a}"]["real_name"], k.customers[f"student:{s}"]["real_name"])
        for a, s, number in k.same_person()
    ],
    "same_name": same_name,
    "second_names": lambda k: [
        (r, k.customers[r]["real_name"], s["display_name"]) for r, s in sorted(k.states.items())
        if s["display_name"] not in (None, k.customers[r]["real_name"])
    ],
    "unresolved_ids": unresolved_ids,
    "no_contact": lambda k: [(r, c["real_name"]) for r, c in sorted(k.customers.items()) if not (c["phone"] or c["email"])],
    "find": found_people,
    "customer_transitions": lambda k: k.audit,
    "registrations_of": registrations_of,
    "applications_by_month": applications_by_month,
    "flags_to_write": flags_to_write,
}  # fmt: skip


def _held(k: Known, record: str) -> tuple[Any, Any]:
    held = k.rows["pushed"].get(record)
    return (None, None) if held is None else (held["state"], held["quickbooks_id"])


def test_every_query_has_a_title_and_an_answer() -> None:
    """Each query has a title of its own and an answer worked out above."""
    queries = load_domain("mis").queries
    assert queries.keys() == ANSWERS.keys()
    assert len({file.header["title"] for file in queries.values()}) == len(queries)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_query_answers_as_python_does(running: tuple[App, Known], name: str) -> None:
    """Run by name with its default parameters, a query has Python's rows in Python's order, and some."""
    app, known = running
    expected = ANSWERS[name](known)
    assert expected != []
    assert expected == answer(app, name)


def test_the_report_of_customers(running: tuple[App, Known]) -> None:
    """Totals, who failed and why, and who is to be pushed: all of them."""
    app, known = running
    counts, bad, pending = (section.rows for section in app.report("customers"))
    assert totals(known) == counts
    assert ANSWERS["failed"](known) == bad
    assert [row[:1] + row[2:4] for row in ANSWERS["pending"](known)] == pending
    assert len(pending) > 50


def test_the_report_of_enrolment_counts_everybody_in_each_section(running: tuple[App, Known]) -> None:
    """By campus, by program and by intake; whoever has none is counted under the empty name."""
    app, known = running
    for field, section in zip(("Campus", "Program", "Intake"), app.report("enrolment"), strict=True):
        groups = known.by_field(field)
        names = sorted({name for name, _ in groups})
        assert [(n, len(groups[n, "applicant"]), len(groups[n, "student"])) for n in names] == section.rows
        assert sum(row[1] + row[2] for row in section.rows) == len(known.customers)


def test_the_report_of_data_quality(running: tuple[App, Known]) -> None:
    """What a registrar should put right: each section has its rows, all of them."""
    app, known = running
    ids, numbers, homeless, nameless, twice = (section.rows for section in app.report("data-quality"))
    assert counted(((field, value) for field, value, _ in known.unresolved()), 0, 1) == ids
    keys = Counter((clean(r["reg_no"]) or "").lower() for r in known.rows[PERSON].values())
    assert sorted((key, n) for key, n in keys.items() if key and n > 1) == numbers != []
    rows = [(n, clean(r["reg_no"])) for n, r in sorted(known.rows[REGISTRATION].items())
            if not clean(r["reg_no"]) or str(clean(r["reg_no"])).lower() not in keys]  # fmt: skip
    assert rows == homeless != []
    blank = [r for r, c in known.customers.items() if not (c["given_name"] or c["family_name"])]
    assert {(r, known.customers[r]["real_name"]) for r in blank} == set(nameless) != set()
    assert known.same_person() == twice != []
