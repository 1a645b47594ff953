"""The API keeps what its OpenAPI document promises, whatever is sent: schemathesis asks a served one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_school import Office, office, without_settings

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate

SEED = os.environ.get("ROWTIDE_SEED") or "20260214"  # one seed, one set of requests
EXAMPLES = "5"  # drawn for each address, besides those at the edges of what the document allows


@pytest.fixture(scope="module")
def served(server: EmbeddedPostgres) -> Iterator[Office]:
    dsn = server.ensure_database("api_schema")
    migrate(dsn)
    with office(dsn) as opened:
        opened.admit(3)
        opened.enrol(2)
        yield opened


def test_the_document_holds(served: Office, tmp_path: Path) -> None:
    """Statuses, headers, media types and bodies are those of the document; what it allows is taken, what not refused.

    The token, too: schemathesis asks each address without it and with a wrong one.
    """
    report = tmp_path / "report.json"
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/api/openapi.json"),
            *("--header", f"Authorization: Bearer {served.token}", "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", EXAMPLES, "--seed", SEED, "--checks", "all", "--continue-on-failure", "--no-color"),
            *("--generation-database", "none", "--report-json-path", str(report)),
        ],
        cwd=tmp_path,
        env=without_settings(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = asked.stdout.replace(served.token, "TOKEN")
    assert asked.returncode == 0, f"seed {SEED}\n{told}"
    assert len(json.loads(report.read_text())) > 0, told
    assert served.token not in report.read_text()


def test_every_address_is_in_the_document(served: Office) -> None:
    """The document has all addresses of the API, each with what may go wrong and what opens it."""
    document = served.get("/api/openapi.json").json()
    assert sorted(path.removeprefix("/v1/sync/customers/") for path in document["paths"]) == sorted(
        ["analyze", "preview/applicants", "preview/students", "applicants", "students", "all", "status"]
    )
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert {"200", "401", "500", "503"} <= operation["responses"].keys(), path
            assert "422" not in operation["responses"], path
            assert operation["security"], path
    assert document["servers"] == [{"url": "/api"}]
