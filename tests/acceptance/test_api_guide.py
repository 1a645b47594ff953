"""The lines of docs/api.md typed as they stand there, and the commands of the customers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_school import CANARIES, Office, office, without_settings
from daemons import daemons

from connectors.embedded import EmbeddedPostgres
from connectors.quickbooks.simulator import Fault
from connectors.state import connect, migrate

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
DOCUMENTED = "127.0.0.1:8470"


@pytest.fixture(scope="module")
def desk(server: EmbeddedPostgres) -> Iterator[Office]:
    """A school whose daemon is another process: here is only what tests need to look in."""
    dsn = server.ensure_database("api_guide")
    migrate(dsn)
    with office(dsn, pages=False) as opened:
        yield opened


def lines() -> list[str]:
    """The shell lines of the guide, in their order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_lines_of_the_guide_work_as_they_stand(desk: Office, tmp_path: Path) -> None:
    """Each line of the guide, typed into one shell beside a running daemon, succeeds and prints the envelope.

    The daemon of the test listens on another port; curl is told so by its own configuration, not in the lines.
    """
    if shutil.which("curl") is None and not os.environ.get("CI"):
        pytest.skip("curl is not on this machine")
    typed = lines()
    asked = [line for line in typed if line.startswith("curl ")]
    assert len(asked) >= 8
    assert all(DOCUMENTED in line for line in asked)
    addresses = {re.search(r"customers/([a-z/]+)", line)[1] for line in asked if "/customers/" in line}  # type: ignore[index]
    assert addresses == {
        *("analyze", "status", "preview/applicants", "preview/students", "applicants", "students", "all")
    }
    desk.admit(2)
    desk.enrol(1)
    with daemons(desk.environment, tmp_path) as start:
        daemon = start("run", ROWTIDE_WEB__ENABLED="true", ROWTIDE_WEB__PORT="0")
        port = daemon.wait_for("page.opened")["port"]
        (tmp_path / ".curlrc").write_text(f'connect-to = "{DOCUMENTED}:127.0.0.1:{port}"\nsilent\n')
        script = "set -eu\n" + "".join(f"{line}\necho\n" for line in typed)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env={**without_settings(), **desk.environment, "CURL_HOME": str(tmp_path), **_found()},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert len(answers) == len(asked)
    *enveloped, document = answers
    assert all(answer["success"] is True for answer in enveloped)
    assert document["openapi"].startswith("3.")
    assert sum("total_processed" in answer["data"] for answer in enveloped) == 2
    assert [name.partition(" (")[0] for name in sorted(desk.live())] == ["Ann Nabirye", "Ann Nabirye", "Tom Okot"]


def _found() -> dict[str, str]:
    """Where this environment's commands and this tree are."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return {"PATH": os.pathsep.join(folders), "PYTHONPATH": str(GUIDE.parents[1])}


# --- the commands ---


@pytest.fixture
def customers(desk: Office, typed: Any) -> Any:
    """Types `rowtide customers …`, with the settings of the school, and gives its JSON or, where it failed, the result."""

    def run(*arguments: object) -> Any:
        done = typed("customers", *arguments, "--json", **desk.environment)
        return json.loads(done.stdout) if done.returncode == 0 else done

    run.typed = lambda *arguments: typed("customers", *arguments, **desk.environment)  # type: ignore[attr-defined]
    return run


def test_customers_are_pushed_by_commands(desk: Office, customers: Any) -> None:
    """analyze, preview, applicants, students, all and status do what the API does, in the same words."""
    waited = customers("analyze")["applicants"]["not_synced"]
    admitted = desk.admit(3, first_name="Typed#")
    enrolled = desk.enrol(2, fname="Typed#")
    assert customers("analyze")["applicants"]["not_synced"] == waited + 3
    shown = customers("preview-applicants", "--limit", 2)
    assert [entry["applicant_id"] for entry in shown] == admitted[:2]
    assert customers("preview-applicants", "--limit", 2, "--offset", 2)[0]["applicant_id"] == admitted[2]
    assert len(customers("preview-students")) == 2
    pushed = customers("applicants", "--batch-size", 2)
    assert (pushed["total_processed"], pushed["successful"]) == (2, 2)
    assert customers("status")["progress"]["overall"] < 100
    rest = customers("all")
    assert [entry["applicant_id"] for entry in rest["applicants"]["success_details"]] == admitted[2:]
    assert sorted(entry["student_id"] for entry in rest["students"]["success_details"]) == enrolled  # several at once
    assert customers("students")["total_processed"] == 0
    found = customers("status")
    assert (found["progress"]["overall"], found["quickbooks_connected"]) == (100.0, True)
    for words in (
        ["analyze"],
        ["status"],
        ["preview-students"],
        ["all"],
        ["audit"],
        ["show", f"student:{enrolled[0]}"],
    ):
        said = customers.typed(*words)
        assert said.returncode == 0, said.stderr
        assert said.stdout


@pytest.mark.parametrize("command", ["applicants", "students", "all"])
@pytest.mark.parametrize("size", ["0", "-1", "101", "many"])
def test_a_batch_size_out_of_range_is_wrong_usage(customers: Any, command: str, size: str) -> None:
    """Exit code 2, naming the option; 0 does not mean everything, and the message says what does."""
    refused = customers.typed(command, "--batch-size", size)
    assert refused.returncode == 2
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", refused.stderr).split())
    assert "--batch-size" in text
    if size == "0":
        assert "`rowtide customers all`" in text


def test_a_customer_that_failed_is_shown_and_tried_again(desk: Office, customers: Any) -> None:
    """Exit code 1 where one fails; show tells why, audit has the request, retry has it pushed; no name is in the audit."""
    with desk.simulator.lock:
        desk.simulator.faults.add(Fault("2020", operation="create", match=CANARIES[0]))
    (number,) = desk.admit(1, first_name=CANARIES[0], family_name=CANARIES[1], email1=CANARIES[2], phone1=CANARIES[3])
    record = f"applicant:{number}"
    failed = customers("applicants")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["errors"][0]["applicant_id"] == number
    shown = customers("show", record)
    assert (shown["state"], shown["quickbooks_id"]) == ("parked", None)
    assert "2020" in shown["reason"]
    assert customers("show", str(number))["record"] == record, "no student has that number"
    rows = customers("audit", "--record", record, "--failed", "--since", "1h")
    assert {(row["operation"], row["fault_code"], row["http_status"]) for row in rows} == {("create", "2020", 400)}
    assert customers("audit", "--since", "2999-01-01") == []
    with desk.simulator.lock:
        desk.simulator.faults.clear()
    assert customers("retry", record) == {"retried": [record]}
    assert customers("applicants")["successful"] == 1
    assert customers("show", record)["state"] == "synced"
    assert customers("retry", record) == {"retried": []}
    for text in (json.dumps(customers("audit", "--limit", 1000)), customers.typed("audit").stdout):
        assert not any(canary in text for canary in CANARIES)


def test_a_customer_that_is_not_there_is_told(desk: Office, customers: Any) -> None:
    """An unknown number, a name that is none, a time that is none: exit code 1 and what to type."""
    for words in (["show", "applicant:99999"], ["show", "99999"], ["show", "Ann"], ["retry", "student:99999"],
                  ["audit", "--since", "yesterday"]):  # fmt: skip
        said = customers.typed(*words)
        assert said.returncode == 1, words
        assert said.stderr.startswith("error: ")
        assert len(said.stderr.splitlines()) == 2


def test_commands_without_a_company_say_so(desk: Office, customers: Any) -> None:
    """Not connected: exit code 1 with what to type, and nothing is pushed; figures are told all the same."""
    desk.admit(1)
    desk.realm("state = 'disconnected'")
    try:
        said = customers.typed("all")
        assert said.returncode == 1
        assert "QuickBooks not connected" in said.stderr
        assert "rowtide quickbooks connect" in said.stderr
        assert customers("analyze")["applicants"]["total"] > 0
        assert customers("status")["quickbooks_connected"] is False
    finally:
        desk.realm("state = 'connected'")
        customers("all")


def test_tokens_are_made_listed_and_taken_away(desk: Office, typed: Any) -> None:
    """`api token` prints the token alone, once; `api tokens` names; `api revoke` takes away."""
    made = typed("api", "token", "office", check=True, **desk.environment)
    token = made.stdout.strip()
    assert token.startswith("rowtide_")
    assert token not in made.stderr
    listed = typed("api", "tokens", "--json", check=True, **desk.environment)
    assert "office" in [entry["name"] for entry in json.loads(listed.stdout)]
    assert token not in listed.stdout
    assert typed("api", "revoke", "office", **desk.environment).returncode == 0
    assert typed("api", "revoke", "office", **desk.environment).returncode == 1
    with connect(desk.app.dsn) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM rowtide.api_token").fetchall()]
    assert "office" not in names
