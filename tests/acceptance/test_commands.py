"""The commands as a user types them, from the installed wheel, in an empty folder."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest


def event(table: str, op: str, key: dict, row: dict | None, ts: int) -> str:
    source = {"connector": "mysql", "table": table, "ts_ms": ts}
    value = {"op": op, "before": None, "after": row, "source": source, "ts_ms": ts}
    return json.dumps({"topic": "todo", "key": json.dumps(key), "value": json.dumps(value), "ts": ts})


@pytest.fixture
def todo(tmp_path: Path) -> Path:
    """A domain of one's own, as in the README."""
    folder = tmp_path / "todo"
    (folder / "models").mkdir(parents=True)
    (folder / "source.sql").write_text(
        "CREATE TABLE project (id integer PRIMARY KEY, name text NOT NULL);\n"
        "CREATE TABLE task (id integer PRIMARY KEY, project_id integer NOT NULL, due timestamp NOT NULL, done boolean NOT NULL);\n"
    )
    (folder / "models" / "task_status.sql").write_text(
        "-- key: id\n-- changes_at: late_at\n"
        "SELECT t.id, t.project_id, CASE WHEN t.done THEN 'done' WHEN t.due <= c.now AT TIME ZONE 'UTC' THEN 'late' ELSE 'open' END "
        "AS status, CASE WHEN NOT t.done AND t.due > c.now AT TIME ZONE 'UTC' THEN t.due AT TIME ZONE 'UTC' END AS late_at\n"
        "FROM task AS t CROSS JOIN clock AS c\n"
    )
    (folder / "models" / "project_summary.sql").write_text(
        "-- key: id\nSELECT p.id, p.name, count(s.id) AS tasks, count(s.id) FILTER (WHERE s.status = 'late') AS late "
        "FROM project AS p LEFT JOIN task_status AS s ON s.project_id = p.id GROUP BY p.id, p.name\n"
    )
    return folder


HISTORY = "\n".join(
    [
        event("project", "c", {"id": 1}, {"id": 1, "name": "roof"}, 1_700_000_000_000),
        event(
            "task",
            "c",
            {"id": 1},
            {"id": 1, "project_id": 1, "due": "2023-11-15T10:00:00", "done": False},
            1_700_000_001_000,
        ),
        event(
            "task",
            "c",
            {"id": 2},
            {"id": 2, "project_id": 1, "due": "2024-01-01T00:00:00", "done": False},
            1_700_000_002_000,
        ),
    ]
)


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


def test_a_changed_model_is_rebuilt(rowtide, todo: Path) -> None:
    """A model changed on disk is refused by `run` with the command to type, and `rebuild` brings it in."""
    rowtide("--domain", todo, "init", check=True)
    rowtide("--domain", todo, "log", "append", "-", stdin=HISTORY, check=True)
    rowtide("--domain", todo, "run", "--until-idle", check=True)
    model = todo / "models" / "project_summary.sql"
    model.write_text(model.read_text().replace("p.name,", "upper(p.name) AS name,", 1))
    refused = rowtide("--domain", todo, "run", "--until-idle")
    assert refused.returncode == 1
    assert "rowtide rebuild" in refused.stderr
    rowtide("--domain", todo, "rebuild", check=True)
    found = rowtide("--domain", todo, "query", "--sql", "SELECT name, tasks FROM project_summary", "--json", check=True)
    assert json.loads(found.stdout) == [{"name": "ROOF", "tasks": 2}]
    assert rowtide("--domain", todo, "verify").returncode == 0


def test_a_bad_event_is_parked_and_holds_nothing_up(rowtide, todo: Path) -> None:
    """What cannot be applied is counted, the domain says degraded, and the other events are applied."""
    bad = event(
        "task",
        "c",
        {"id": 3},
        {"id": "x", "project_id": 1, "due": "2024-01-01T00:00:00", "done": False},
        1_700_000_003_000,
    )
    broken = json.dumps({"topic": "todo", "key": None, "value": "{not json", "ts": 1})
    rowtide("--domain", todo, "init", check=True)
    rowtide("--domain", todo, "log", "append", "-", stdin=f"{bad}\n{broken}\n{HISTORY}", check=True)
    rowtide("--domain", todo, "run", "--until-idle", check=True)
    status = json.loads(rowtide("--domain", todo, "status", "--json", check=True).stdout)
    assert (status["state"], status["parked"], status["rows"]["task_status"]) == ("degraded", 2, 2)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("-- key: id\nSELECT id FROM", "syntax error"),
        ("SELECT id FROM task", "names no key"),
        ("-- key: id\nSELECT id, now() AS t FROM task", "clock.now"),
        ("-- key: id\nSELECT id FROM tusk", "no table or model “tusk”"),
        ("-- key: id\nSELECT id, color FROM task", "color"),
        ("-- key: id\nSELECT id FROM task LIMIT 5", "LIMIT"),
        ("-- key: n\nSELECT count(*) AS n FROM task", "GROUP BY"),
        ("-- key: id\nSELECT t.id FROM task AS t CROSS JOIN project AS p", "cannot be traced"),
        ("-- key: id\nSELECT id FROM project_summary UNION SELECT id FROM task", "UNION ALL"),
        ("-- key: id\nSELECT t.id, c.now FROM task AS t CROSS JOIN clock AS c", "changes_at"),
        ("-- key: id\nSELECT id, row_number() OVER (ORDER BY due) AS n FROM task", "window"),
        ("-- key: id\nSELECT a.id FROM wrong AS a", "circle"),
    ],
)
def test_a_model_that_cannot_be_kept_is_refused(rowtide, todo: Path, sql: str, said: str) -> None:
    """The message names the file and the construct, and what to do; exit code 1, no trace."""
    (todo / "models" / "wrong.sql").write_text(sql)
    refused = rowtide("--domain", todo, "init")
    assert refused.returncode == 1
    assert "wrong.sql" in refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--domain", "nowhere", "init"], {}, "no domain “nowhere”"),
        (["--config", "missing.toml", "init"], {}, "does not exist"),
        (["config", "show"], {"ROWTIDE_WEB__PORT": "many"}, "ROWTIDE_WEB__PORT"),
        (["config", "show"], {"ROWTIDE_WEB__PORTS": "1"}, "web.port"),
        (["config", "show"], {"ROWTIDE_WEB__HOST": "0.0.0.0"}, "allow_remote"),
        (["config", "show"], {"ROWTIDE_LOG__RETENTION_AGE": "long"}, "30d"),
        (["config", "show"], {"ROWTIDE_SOURCE__KIND": "postgres"}, "source.dsn"),
        (["init"], {"ROWTIDE_STATE__FOLDER": "/proc/nothing/here"}, "cannot be written"),
        (["init"], {"ROWTIDE_STATE__DSN": "postgresql://nobody:secret@127.0.0.1:1/x"}, "does not answer"),
        (["init"], {"ROWTIDE_PARAMETERS__LATE_FEE": "2"}, "late_fee_per_day"),
        (["init"], {"ROWTIDE_PARAMETERS__LATE_FEE_PER_DAY": "much"}, "does not fit"),
        (["init"], {"ROWTIDE_PARAMETERS__TIME_ZONE": "Mars/Olympus"}, "time zone"),
        (["query", "nothing"], {}, "There are:"),
        (["query", "--sql", "DELETE FROM rental_status"], {}, "failed"),
        (["log", "dump", "nothing"], {}, "no topic"),
        (["log", "append", "nothing.jsonl"], {}, "no file"),
        (["run", "--clock", "2024-01-01"], {}, "--until-idle"),
        (["rental", "write-off", "1", "--reason", "x"], {}, "no late fee"),
        (["demo", "--data", ".", "--for", "1"], {}, "sakila-schema.sql"),
    ],
)
def test_what_is_wrong_is_said_plainly(rowtide, arguments: list[str], environment: dict[str, str], said: str) -> None:
    """What failed, why, and what to type next; exit code 1, no trace, no secret."""
    if arguments[0] == "query":
        rowtide("init", check=True)
    failed = rowtide(*arguments, **environment)
    assert failed.returncode == 1, failed.stdout
    assert said in failed.stderr
    assert failed.stderr.count("error:") == 1
    assert "Traceback" not in failed.stderr
    assert "secret" not in failed.stderr


def test_a_bad_line_is_named(rowtide) -> None:
    """A line that is no record is named by its number and nothing of its topic is appended."""
    failed = rowtide("log", "append", "-", stdin='{"topic":"t","key":null,"value":null,"ts":1}\nnonsense\n')
    assert failed.returncode == 1
    assert "Line 2" in failed.stderr
    assert '"end": 0' in rowtide("log", "topics", "--json", check=True).stdout


def test_a_port_in_use_is_said_before_anything_starts(rowtide) -> None:
    """The page's port taken by another program is an error that names the setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        failed = rowtide("run", ROWTIDE_WEB__PORT=str(taken.getsockname()[1]))
    assert failed.returncode == 1
    assert "web.port" in failed.stderr


def test_sigterm_stops_within_five_seconds(rowtide, installed: Path, tmp_path: Path) -> None:
    """A running daemon ends cleanly on SIGTERM."""
    rowtide("init", check=True)
    environment = {**rowtide.environment, "ROWTIDE_WEB__PORT": "0"}
    process = subprocess.Popen([installed, "run"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "daemon.started" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=5)
    assert process.returncode == 0
    assert "daemon.stopped" in rest


def test_the_demo_ends_clean(rowtide) -> None:
    """`demo --for 6 --json` prints one line that says what happened, and every model equals its query."""
    done = rowtide("demo", "--for", "6", "--json", check=True)
    assert len(done.stdout.splitlines()) == 1
    summary = json.loads(done.stdout)
    assert summary["verify"]["clean"] is True
    assert summary["events"] > 3000
    assert summary["lag"]["events_behind"] == 0


def test_the_demo_takes_the_real_data_set(rowtide, sakila: Path) -> None:
    """`demo --data` runs on the Sakila data set."""
    summary = json.loads(rowtide("demo", "--for", "5", "--json", "--data", sakila, check=True).stdout)
    rows = {table["name"]: table["rows"] for table in summary["verify"]["tables"]}
    assert summary["verify"]["clean"] is True
    assert rows["rental_status"] >= 16_044
    assert rows["customer_account"] == 599
