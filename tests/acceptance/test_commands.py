"""The installed wheel as a user types it, in an empty folder, on the embedded database."""

from __future__ import annotations

import json
from pathlib import Path

from todo import HISTORY, last_json


def test_a_captured_history_is_replayed_and_time_passes(rowtide, todo: Path) -> None:
    """`log append`, `run --until-idle --clock`, `query` and `verify` give the models at that time, and `log dump` the history."""
    rowtide("--domain", todo, "init", check=True)
    assert rowtide("--domain", todo, "log", "append", "-", stdin=HISTORY, check=True).stdout == "appended 3 records\n"
    rowtide("--domain", todo, "run", "--until-idle", check=True)
    query = ("--domain", todo, "query", "--sql", "SELECT tasks, late FROM project_summary", "--json")
    assert json.loads(rowtide(*query, check=True).stdout) == [{"tasks": 2, "late": 0}]
    rowtide("--domain", todo, "run", "--until-idle", "--clock", "2023-11-15T10:00:00", check=True)
    assert json.loads(rowtide(*query, check=True).stdout) == [{"tasks": 2, "late": 1}]
    verified = json.loads(rowtide("--domain", todo, "verify", "--json", check=True).stdout)
    assert verified["clean"] is True
    assert {table["name"]: table["rows"] for table in verified["tables"]} == {"task_status": 2, "project_summary": 1}
    dumped = rowtide("--domain", todo, "log", "dump", "todo", check=True).stdout
    assert [json.loads(line) for line in dumped.splitlines()] == [json.loads(line) for line in HISTORY.splitlines()]


def test_the_demo_ends_clean(rowtide) -> None:
    """`demo --for 6 --json` prints one line: every model equals its query, everybody admitted is one customer."""
    done = rowtide("demo", "--for", "6", "--json", check=True)
    assert len(done.stdout.splitlines()) == 1
    summary = json.loads(done.stdout)
    assert summary["verify"]["clean"] is True
    assert summary["events"] > 3000
    assert summary["lag"]["events_behind"] == 0
    assert {table["domain"] for table in summary["verify"]["tables"]} == {"rental", "mis"}
    told = summary["customers"]
    assert told["admitted"] >= 400
    assert told == {
        "admitted": told["admitted"], "synced": told["admitted"], "pending": 0, "failed": 0, "duplicates": 0, "missing": 0,
        "one_each": True,
    }  # fmt: skip


def test_the_demo_takes_the_real_data_set(rowtide, sakila: Path) -> None:
    """`demo --data` runs on the Sakila data set, here without the school."""
    demo = ("demo", "--domain", "rental", "--for", "5", "--json", "--data", sakila)
    summary = last_json(rowtide(*demo, check=True).stdout)
    rows = {table["name"]: table["rows"] for table in summary["verify"]["tables"]}
    assert summary["verify"]["clean"] is True
    assert rows["rental_status"] >= 16_044
    assert rows["customer_account"] == 599
    assert "customers" not in summary
