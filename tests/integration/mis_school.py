"""A school in tests: its rows, what plain Python makes of them, and generated ones for real databases."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rental_shop import LiveShop, Shop, read

from daemon.demo.school import PEOPLE, schema, school_rows
from deploy.stack.mariadb import MariaDB

PARAMETERS = {"zone": "UTC", "pushed_by": "System Auto Push"}
KEYS = {
    "customer": "record", "pending_customer": "record", "customer_state": "record", "customer_totals": "kind",
    "pending_applicant_status": "appl_id", "pending_student_status": "per_id_ug",
}  # fmt: skip
APPLICATION, PERSON, REGISTRATION = *PEOPLE, "tbl_register_program_ug"
Row = dict[str, Any]
Models = dict[str, dict[Any, Row]]


# --- what plain Python makes of a school's rows ---


def clean(value: str | None) -> str | None:
    """White space is one space, none at the ends; nothing left is None."""
    return re.sub("[ \t\n\r\f\v\u00a0]+", " ", value or "").strip(" ") or None


def resolved(rows: Iterable[Row], key: str, value: Any, *names: str) -> str:
    """An id as text that a person understands: the first name that is there, else the id, else nothing."""
    number = int(value) if re.fullmatch(r"[ \t\r\n]*[0-9]{1,9}[ \t\r\n]*", str(value)) else None
    for row in rows:
        if row[key] == number:
            for name in names:
                if found := (row[name] or "").strip(" "):
                    return str(found)
    return clean(str(value)) or "" if value is not None else ""


def intake(rows: Iterable[Row], value: int | None) -> str:
    """“<month> <no>” as far as they are there, else the id."""
    for row in rows:
        if row["intake_id"] == value:
            parts = [(row["intake_month"] or "").strip(" "), "" if row["intake_no"] is None else str(row["intake_no"])]
            if found := " ".join(part for part in parts if part):
                return found
    return "" if value is None else str(value)


def active(rows: Iterable[Row], reg_no: str | None) -> Row:
    """The registration that counts: active, newest date, highest id; of none everything is None."""
    mine = [r for r in rows if r["reg_active"] == 1 and reg_no and (clean(r["reg_no"]) or "").lower() == reg_no.lower()]
    found = max(mine, key=lambda r: (str(r["reg_date"] or ""), r["reg_prg_id"]), default={})
    return {name: found.get(name) for name in ("intake_id", "splz_id", "level_id", "camp_id", "prg_type")}


def applicant(row: Row, tables: Mapping[str, list[Row]]) -> Row:
    """The customer that an applicant is."""
    number, tracking = str(row["appl_id"]), clean(row["tracking_id"])
    first, family = clean(row["first_name"]), clean(row["family_name"])
    fields = {
        "ApplicationID": number,
        "TrackingID": tracking or "",
        "Gender": clean(row["sex"]) or "",
        "BirthCountry": resolved(tables["tbl_country"], "cntr_id", row["country_of_birth"], "cntr_name"),
        "NationalID": clean(row["nation_id_passport_no"]) or "",
        "Campus": resolved(tables["tbl_campus"], "camp_id", row["camp_id"], "camp_full_name", "camp_short_name"),
        "Intake": intake(tables["tbl_intake"], row["intake_id"]),
        "Program": resolved(tables["tbl_specialization"], "splz_id", row["opt_1"], "splz_full_name", "splz_short_name"),
        "ProgramMode": resolved(
            tables["tbl_program_mode"], "prg_mode_id", row["prg_mode_id"], "prg_mode_full_name", "prg_mode_short_name"
        ),
    }
    return {
        "record": f"applicant:{number}", "kind": "applicant", "record_id": row["appl_id"],
        "known_id": (row["quickbooks_id"] or "").strip(" ") or None,
        "real_name": " ".join(part for part in (first, family) if part) or f"Applicant {number}",
        "name_suffix": tracking or number, "given_name": first, "middle_name": clean(row["middlename"]),
        "family_name": family, "phone": clean(row["phone1"]), "email": clean(row["email1"]),
        "customer_type": "Applicant", "fields": fields,
    }  # fmt: skip


def student(row: Row, tables: Mapping[str, list[Row]]) -> Row:
    """The customer that a student is."""
    reg_no = clean(row["reg_no"])
    first, family = clean(row["fname"]), clean(row["lname"])
    registered = active(tables[REGISTRATION], reg_no)
    prg_type = row["prg_type"] if registered["prg_type"] is None else registered["prg_type"]
    fields = {
        "RegNo": reg_no or "",
        "Gender": clean(row["sex"]) or "",
        "Level": resolved(
            tables["tbl_level"], "level_id", registered["level_id"], "level_full_name", "level_short_name"
        ),
        "Campus": resolved(tables["tbl_campus"], "camp_id", registered["camp_id"], "camp_full_name", "camp_short_name"),
        "Intake": intake(tables["tbl_intake"], registered["intake_id"]),
        "Program": resolved(
            tables["tbl_specialization"], "splz_id", registered["splz_id"], "splz_full_name", "splz_short_name"
        ),
        "NationalID": clean(row["national_id"]) or "",
        "ProgramType": resolved(
            tables["tbl_program_type"], "prg_type_id", prg_type, "prg_type_full_name", "prg_type_short_name"
        ),
    }
    return {
        "record": f"student:{row['per_id_ug']}", "kind": "student", "record_id": row["per_id_ug"],
        "known_id": (row["qk_id"] or "").strip(" ") or None,
        "real_name": " ".join(part for part in (first, family) if part) or f"Student {reg_no or row['per_id_ug']}",
        "name_suffix": reg_no or str(row["per_id_ug"]), "given_name": first, "middle_name": clean(row["middlename"]),
        "family_name": family, "phone": clean(row["phone1"]) or clean(row["phone2"]),
        "email": clean(row["email1"]) or clean(row["email2"]), "customer_type": "Student", "fields": fields,
    }  # fmt: skip


def sent(customer: Row) -> str:
    """All of a customer that goes to QuickBooks, as text: what a fingerprint stands for."""
    return json.dumps({n: v for n, v in customer.items() if n not in ("known_id", "fingerprint")}, sort_keys=True)


def flags(row: Row, pushed: Row | None, kind: str, zone: str, pushed_by: str) -> Row | None:
    """What is to be written to a row of the MIS, and what it holds; None: nothing."""
    if pushed is None:
        return None
    identifier = "quickbooks_id" if kind == "applicant" else "qk_id"
    at = pushed["pushed_at"]
    wanted = {
        "state": pushed["state"], "pushed_by": pushed["pushed_by"] or pushed_by,
        "pushed_date": at and at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, microsecond=0),
        identifier: row[identifier] if pushed["quickbooks_id"] is None else pushed["quickbooks_id"],
        "sync_token": row["sync_token"] if pushed["sync_token"] is None else pushed["sync_token"],
    }  # fmt: skip
    held = {"state": row["quickbk_status"] or 0, **{name: row[name] for name in wanted if name != "state"}}
    if wanted == held:
        return None
    known = {f"source_{name}": row[name] for name in wanted if name != "state"}
    return {**wanted, **known, "source_status": row["quickbk_status"]}


def compute(tables: Mapping[str, list[Row]], **parameters: Any) -> Models:
    """The models of a school; `fingerprint` of a customer is `sent`, which stands for the same."""
    values = {**PARAMETERS, **parameters}
    customers = [applicant(r, tables) for r in tables[APPLICATION]] + [student(r, tables) for r in tables[PERSON]]
    pushed = {row["record"]: row for row in tables["pushed"]}
    models: Models = {name: {} for name in KEYS}
    for row in customers:
        record = row["record"]
        models["customer"][record] = {**row, "fingerprint": sent(row)}
        mine = pushed.get(record)
        state = mine["state"] if mine else 0
        models["customer_state"][record] = {
            **{name: row[name] for name in ("kind", "record_id", "real_name")}, "state": state,
            **{name: mine and mine[name] for name in ("quickbooks_id", "display_name", "reason", "pushed_by", "pushed_at")},
        }  # fmt: skip
        totals = models["customer_totals"].setdefault(row["kind"], dict.fromkeys(
            ("total", "not_synced", "synced", "failed", "in_progress"), 0))  # fmt: skip
        totals["total"] += 1
        totals[("not_synced", "synced", "failed", "in_progress")[state]] += 1
    for kind, table, key in (("applicant", APPLICATION, "appl_id"), ("student", PERSON, "per_id_ug")):
        for row in tables[table]:
            found = flags(row, pushed.get(f"{kind}:{row[key]}"), kind, values["zone"], values["pushed_by"])
            if found is not None:
                models[f"pending_{kind}_status"][row[key]] = found
    return models


# --- a school through the engine ---


class School(Shop):
    """A school's rows; what is left out of a row is NULL, and changes nothing in one that is there."""

    def applicant(self, number: int = 1, **other: Any) -> None:
        self.put(APPLICATION, appl_id=number, **other)

    def student(self, number: int = 1, **other: Any) -> None:
        self.put(PERSON, per_id_ug=number, **other)

    def registration(self, number: int, reg_no: str | None, date: str | None = None, **other: Any) -> None:
        at = datetime.fromisoformat(date) if date else None
        self.put(REGISTRATION, reg_prg_id=number, reg_no=reg_no, reg_date=at, **{"reg_active": 1, **other})

    def lookups(self) -> None:
        """A row or two in each lookup table."""
        for number, name in ((1, "Main Campus"), (2, "City Campus")):
            self.put("tbl_campus", camp_id=number, camp_full_name=name, camp_short_name=name[:4])
        self.put("tbl_intake", intake_id=1, intake_no=2024, intake_month="May")
        self.put("tbl_level", level_id=1, level_full_name="Bachelor", level_short_name="B")
        self.put("tbl_specialization", splz_id=1, splz_full_name="Law", splz_short_name="LLB")
        self.put("tbl_program_mode", prg_mode_id=1, prg_mode_full_name="Full Time", prg_mode_short_name="FT")
        self.put("tbl_program_type", prg_type_id=1, prg_type_full_name="Undergraduate", prg_type_short_name="UG")
        self.put("tbl_country", cntr_id=1, cntr_name="Uganda", cntr_nationality="Ugandan")

    def generated(self, start: datetime, seed: int, **sizes: int) -> None:
        """All rows of a generated school."""
        for table, columns, rows in school_rows(start, seed=seed, **sizes):
            for row in rows:
                self.put(table, **dict(zip([name.lower() for name in columns], row, strict=True)))

    def push(self, record: str, state: int = 1, **other: Any) -> None:
        """Tell what became of a customer."""
        self.put("pushed", record=record, state=state, **other)

    def parameters(self, **given: Any) -> None:
        values = {**PARAMETERS, **given}
        self.put("params", _one=1, time_zone=values["zone"], pushed_by=values["pushed_by"])


class LiveSchool(School, LiveShop):
    """A school with an instance of its own that takes each unit at once."""

    def all(self, table: str, key: str | None = None) -> dict[Any, Row]:
        return read(self.connection, self.name, table, key or KEYS[table])

    def begin_anew(self) -> None:
        """Nobody is there, and the lookup tables are as they are at first."""
        for table in self.rows.keys() - {"params"}:
            for key in list(self.rows[table]):
                self.remove(table, key)
        self.lookups()
        self.parameters()
        self.take_up()

    def customer(self, record: str) -> Row:
        return self.all("customer")[record]

    def take_up(self) -> None:
        """Hand on what changed, at no time of its own."""
        self.commit(None)

    def fingerprints(self) -> dict[str, str]:
        return {record: row["fingerprint"] for record, row in self.all("customer").items()}

    def assert_as_python_says(self, note: str = "", **parameters: Any) -> None:
        actual = {name: self.all(name) for name in KEYS}
        assert_models(actual, self.rows["pushed"], compute(self.tables, **parameters), note)


def assert_models(actual: Models, held: Mapping[str, Row], expected: Models, note: str = "") -> None:
    """Every column that Python computes stands so in the tables; fingerprints differ exactly where customers do.

    Args:
        actual: the tables' rows, by model and key.
        held: the rows of `pushed`.
        expected: what `compute` made.
        note: told of a failure.
    """
    customers = actual["customer"]
    assert expected["customer"].keys() == customers.keys(), note
    stands_for: dict[str, str] = {}
    for record, row in expected["customer"].items():
        fingerprint = customers[record]["fingerprint"]
        assert stands_for.setdefault(row["fingerprint"], fingerprint) == fingerprint, f"{record} {note}"
    assert len(stands_for) == len(set(stands_for.values())), note
    for record, row in customers.items():
        row["fingerprint"] = sent(row)
        expected["customer_state"][record]["is_pending"] = (
            record not in held or held[record]["fingerprint"] != stands_for[row["fingerprint"]]
        )
    pending = {record for record, row in expected["customer_state"].items() if row.get("is_pending")}
    assert pending == actual["pending_customer"].keys(), note
    for kind, row in expected["customer_totals"].items():
        row["pending"] = sum(record.startswith(kind) for record in pending)
    for name in KEYS.keys() - {"pending_customer"}:
        assert expected[name].keys() == actual[name].keys(), f"{name} {note}"
        for key, row in expected[name].items():
            assert row == {column: actual[name][key][column] for column in row}, f"{name} {key} {note}"


# --- generated schools in real databases ---


def load_mariadb(
    server: MariaDB, database: str, start: datetime, *, seed: int, tracking: bool = True, **sizes: int
) -> None:
    """A generated school in MariaDB with the MIS's own types, names of mixed case, and dates of zeros."""
    server.create_database(database)
    server.execute(*schema(mysql=True, tracking=tracking), database=database)
    connection = server.connect(database)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = ''")  # as the MIS's own programs have it
            for table, columns, rows in school_rows(start, seed=seed, zero_date="0000-00-00 00:00:00", **sizes):
                listed = ", ".join(f"`{name}`" for name in columns)
                cursor.executemany(
                    f"INSERT INTO `{table}` ({listed}) VALUES ({', '.join(['%s'] * len(columns))})", rows
                )
        connection.commit()
    finally:
        connection.close()


def pushes(customers: Mapping[str, Row], rng: random.Random, at: datetime) -> list[tuple[str | None, ...]]:
    """Rows of `pushed` as a push that went well, or badly, would tell them."""
    found = []
    for number, (record, row) in enumerate(sorted(customers.items()), start=100):
        state = rng.choice([1, 1, 1, 2, 3])
        done = state == 1
        found.append((
            record, "4620816365", str(state), str(number) if done else None, "0" if done else None,
            row["real_name"] if done else None, row["fingerprint"] if done else None,
            "the e-mail was refused (2210)" if state == 2 else None, None, at.isoformat(" "),
        ))  # fmt: skip
    return found
