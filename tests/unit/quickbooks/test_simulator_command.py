"""`rowtide quickbooks simulate`: as a process, and what it tells to write down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from connectors.errors import RowtideError
from daemon.cli import app
from daemon.settings import load_settings

COMMAND = [sys.executable, "-m", "daemon", "quickbooks", "simulate", "--port", "0"]


def test_it_runs_until_it_is_told_to_end() -> None:
    """With what was asked for: customers, types, custom fields, faults; Ctrl-C ends it in order."""
    options = ["--json", "--seed-customers", "3", "--customer-type", "Student", "--custom-field", "1=Campus"]
    options += ["--latency", "0", "--fault", "html_502:operation=companyinfo,nth=1"]
    process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.readline())
        url = told["url"]
        assert requests.get(f"{url}/control/state", timeout=10).json()["customers"] == 3
        assert "Student" in requests.get(f"{url}/control/types", timeout=10).text
        assert requests.get(f"{url}/control/faults", timeout=10).json()[0]["fault"]["kind"] == "html_502"
        given = {"client_id": told["quickbooks"]["client_id"], "response_type": "code", "state": "s"}
        given["redirect_uri"] = "http://localhost:8472/callback"
        page = requests.get(f"{url}/connect/oauth2", params=given, timeout=10).text
        assert told["realm"] in page
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (0, "stopping …\n")


def test_what_it_tells_to_write_down_is_understood(tmp_path: Path) -> None:
    """The lines it prints are settings that Rowtide takes, and lead to it."""
    printed = CliRunner().invoke(app, ["quickbooks", "simulate", "--port", "0", "--for", "0"])
    assert printed.exit_code == 0, printed.output
    block = printed.output.partition("[quickbooks]")[2].partition("\n\n")[0]
    file = tmp_path / "rowtide.toml"
    file.write_text(f"[quickbooks]{block}\n")
    settings = load_settings(file, {}).settings.quickbooks
    assert (settings.enabled, settings.environment) == (True, "simulator")
    assert settings.options().base_url in printed.output
    assert settings.options().discovery.rstrip("/") in printed.output


@pytest.mark.parametrize(
    "wrong", [["--fault", "nonsense"], ["--custom-field", "Campus"], ["--host", "0.0.0.0"]], ids=lambda wrong: wrong[0]
)
def test_what_it_refuses(wrong: list[str]) -> None:
    refused = CliRunner().invoke(app, ["quickbooks", "simulate", "--port", "0", "--for", "0", *wrong])
    assert isinstance(refused.exception, RowtideError)
    assert refused.exception.hint
