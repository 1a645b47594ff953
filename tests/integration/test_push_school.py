"""A school of the domain mis and a company of the simulator: what is written to QuickBooks, what is not, and what is told of people."""

from __future__ import annotations

import logging as python_logging
from typing import Any

import pytest
from api_school import APPLICATION, CANARIES, PERSON, Office, office
from daemons import until
from typer.testing import CliRunner

from connectors.quickbooks.simulator import Fault
from connectors.state import connect
from daemon import customers, logging
from daemon.app import open_app
from daemon.cli import app as cli
from daemon.metrics import exposition
from daemon.replay_request import Request
from daemon.settings import load_settings

KINDS = ["applicant", "student"]


def writes(desk: Office) -> int:
    operations = desk.simulator.requests.operations
    return sum(operations[name] for name in ("create", "update", "batch"))


def push(desk: Office) -> customers.PushResult:
    """Push all that is pending, and wait until what came of it is known to the models."""
    result = customers.push(desk.app, KINDS, 1000, by="tests")
    desk.wait_for("SELECT count(*) = 0 FROM pending_customer")
    return result


def notes(desk: Office) -> dict[str, str]:
    return {entry["DisplayName"]: entry["Notes"] for entry in desk.simulator.customers()}


def test_only_what_people_see_is_ever_written(database: str) -> None:
    """A renamed campus updates exactly its customers; flags, a replay, a rebuild and a lost map write nothing at all."""
    with office(database, pages=False) as desk:
        for number, name in ((1, "Main Campus"), (2, "City Campus")):
            desk.put("tbl_campus", [{"camp_id": number, "camp_full_name": name}])
        at_main = desk.admit(6, first_name="Main", family_name="N#", camp_id=1, email1="m#@school.example")
        desk.admit(5, first_name="City", family_name="N#", camp_id=2, phone1="0700 #")
        enrolled = desk.enrol(4, lname="Okot #", reg_no="R/#")
        desk.put(
            "tbl_register_program_ug",
            [{"reg_prg_id": n, "reg_no": f"R/{n}", "camp_id": 1 + n % 2, "reg_active": 1} for n in enrolled],
        )
        desk.wait_for("SELECT count(*) = 8 FROM customer WHERE fields ->> 'Campus' = 'Main Campus'")
        assert push(desk).successful == 15
        assert (writes(desk), desk.simulator.company.created) == (15, 15)

        desk.put("tbl_campus", [{"camp_id": 1, "camp_full_name": "Hill Campus"}])
        desk.wait_for("SELECT count(*) = 8 FROM pending_customer")
        assert push(desk).successful == 8
        assert writes(desk) == 15 + 8
        told = notes(desk)
        assert sum("Campus: Hill Campus" in text for text in told.values()) == len(at_main) + 2
        assert not any("Main Campus" in text for text in told.values())
        updates = [seen.json for seen in desk.simulator.requests.since(operation="update")]
        assert {tuple(sorted(body)) for body in updates} == {("Id", "Notes", "SyncToken", "sparse")}

        # Flags, by us and by people: nothing becomes pending, nothing is sent.
        before = writes(desk)
        flagged = {"quickbk_status": 1, "pushed_by": "me", "pushed_date": "2026-01-01 10:00:00", "sync_token": 7}
        for n in at_main:
            row = {"appl_id": n, "first_name": "Main", "family_name": f"N{n}", "camp_id": 1}
            desk.put(APPLICATION, [{**row, "email1": f"m{n}@school.example", **flagged, "quickbooks_id": n}])
        desk.put(PERSON, [{"per_id_ug": n, "fname": "Tom", "lname": f"Okot {n}", "reg_no": f"R/{n}", "qk_id": 5, **flagged}
                          for n in enrolled])  # fmt: skip
        desk.wait_for("SELECT count(*) = 4 FROM tbl_personal_ug WHERE qk_id = '5'")
        assert push(desk).total_processed == 0

        settings = load_settings(None, desk.environment).settings
        with open_app(settings) as other:
            assert other.replay(Request(apply=True))["events"] > 30
            assert other.rebuild()["events"] > 30
        until(lambda: customers.push(desk.app, KINDS, 1000).total_processed == 0)
        assert writes(desk) == before

        # The map is lost; the log still tells whose customer is whose.
        with connect(database) as connection:
            connection.execute("TRUNCATE rowtide.customer, rowtide.customer_name, rowtide.quickbooks_request CASCADE")
        with open_app(settings) as other:
            other.rebuild()
        until(lambda: customers.push(desk.app, KINDS, 1000).total_processed == 0)
        assert writes(desk) == before
        desk.put("tbl_campus", [{"camp_id": 2, "camp_full_name": "Lake Campus"}])
        desk.wait_for("SELECT count(*) = 7 FROM pending_customer")
        assert push(desk).successful == 7
        assert desk.simulator.company.created == 15


def test_nothing_of_people_or_tokens_is_told_whatever_goes_wrong(
    database: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Every fault there is, canaries in every value: none in logs at debug, metrics, pages, errors, commands, audit or reasons."""
    caplog.set_level(python_logging.DEBUG)
    for name in ("urllib3", "requests", "quickbooks", "intuitlib", "oauthlib", "requests_oauthlib"):
        python_logging.getLogger(name).setLevel(python_logging.DEBUG)
    given: dict[str, Any] = dict(
        zip(("first_name", "family_name", "email1", "phone1", "nation_id_passport_no"), CANARIES, strict=True)
    )
    with office(database) as desk:
        logging.configure("debug", "json")
        desk.admit(1, **given)
        desk.enrol(1, fname=CANARIES[0], lname=CANARIES[1], email1=CANARIES[2], phone1=CANARIES[3],
                   national_id=CANARIES[4], reg_no="R1")  # fmt: skip
        kinds = ("6240", "2040", "gateway_401", "expire", "empty_200", "lost_after", "10000", "html_502", "6190")
        said = []
        for number, kind in enumerate(kinds):
            desk.simulator.fault(Fault(kind, operation="write", times=1))
            desk.put("tbl_campus", [{"camp_id": 1, "camp_full_name": f"{CANARIES[1]} {number}"}])
            desk.put(APPLICATION, [{"appl_id": 1, "camp_id": 1, **given, "middlename": f"{CANARIES[0]}{number}"}])
            desk.wait_for("SELECT true FROM customer WHERE middle_name = :name", name=f"{CANARIES[0]}{number}")
            customers.retry(desk.app, ["applicant:1", "student:1"])
            result = customers.push(desk.app, KINDS, 10)
            said.append(repr((result.errors, result.blocked)))
            desk.realm("state = 'connected', paused_until = NULL")
        said.append(exposition(desk.app).decode())
        said += [desk.get(path).text for path in ("/", "/status", "/ready", "/metrics", "analyze", "status")]
        environment = {**desk.environment, "ROWTIDE_LOG__LEVEL": "debug"}
        commands = ["customers status", "customers analyze", "customers audit", "customers audit --json", "status --json",
                    "quickbooks status", "customers retry applicant:99", "customers show applicant:99", "parked"]  # fmt: skip
        for command in commands:
            done = CliRunner(env=environment).invoke(cli, command.split())
            assert done.output or done.exception, command
            said.append(f"{done.output} {done.exception!r} {getattr(done.exception, 'hint', '')}")
        with connect(database) as connection:
            for table in ("quickbooks_audit", "quickbooks_realm", "parked_event"):
                if connection.execute("SELECT to_regclass(%s)", [f"rowtide.{table}"]).fetchone() != (None,):
                    said.append(
                        str(connection.execute(f"SELECT to_jsonb(t)::text FROM rowtide.{table} AS t").fetchall())
                    )
            said.append(str(connection.execute("SELECT reason, remarks FROM rowtide.customer").fetchall()))
            said.append(str(connection.execute("SELECT outcome FROM rowtide.quickbooks_request").fetchall()))
            said.append(str(connection.execute("SELECT reason FROM mis_source.pushed").fetchall()))
        oauth = desk.simulator.oauth
        tokens = [*oauth._access, *(token for g in oauth.grants for token in (g.refresh_token, *g.previous))]
        met = sum(rule.fired for rule in desk.simulator.faults.all())
    out, err = capfd.readouterr()
    everything = "\n".join([*said, out, err, caplog.text])
    assert met == len(kinds)
    assert "customers.waiting" in everything or "api." in everything or "batch.committed" in everything
    assert len(everything) > 10_000
    secrets = [*CANARIES, *tokens, "simulator-secret", desk.token]
    assert [secret for secret in secrets if secret in everything] == []
