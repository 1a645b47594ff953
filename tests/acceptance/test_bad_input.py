"""What is wrong is said in two lines: what failed and why, and what to type next. Nothing is lost by it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
from domain_folder import write_domain
from todo import HISTORY, event, project, task

LATER = 1_700_000_003_000


def assert_said(failed: subprocess.CompletedProcess[str], *said: str, code: int = 1) -> None:
    """One error, its hint, none of Python's own words, no secret."""
    assert failed.returncode == code, failed.stdout + failed.stderr
    lines = failed.stderr.splitlines()[-2:]
    assert sum(line.startswith("error:") for line in failed.stderr.splitlines()) == 1, failed.stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  ")
    for text in said:
        assert text in failed.stderr
    assert not re.search(r"Traceback|<class|<Token|psycopg\.|sqlglot|Errno|secret", failed.stderr), failed.stderr


MODELS = {
    "nothing selected": ("-- key: id\nSELECT id FROM", "wrong.sql:2: syntax error"),
    "unclosed quote": ("-- key: id\nSELECT 'x FROM task", "not closed"),
    "a stray word": ("-- key: id\nSELECT id FROM task WHERE WHERE done", "wrong.sql:2: syntax error"),
    "half a join": ("-- key: id\nSELECT id FROM task JOIN", "wrong.sql:2: syntax error"),
    "no key": ("SELECT id FROM task", "names no key"),
    "the moment": ("-- key: id\nSELECT id, now() AS t FROM task", "clock.now"),
    "unknown table": ("-- key: id\n\nSELECT id\n  FROM tusk", "wrong.sql:4: there is no table or model “tusk”"),
    "unknown column": ("-- key: id\n-- title: Colours\nSELECT id,\n       color FROM task", "wrong.sql:4: "),
    "column of none": ("-- key: id\nSELECT t.id,\n       t.color FROM task AS t", "wrong.sql:3: "),
    "limit": ("-- key: id\nSELECT id FROM task LIMIT 5", "LIMIT"),
    "one group": ("-- key: n\nSELECT count(*) AS n FROM task", "GROUP BY"),
    "cross join": ("-- key: id\nSELECT t.id FROM task AS t CROSS JOIN project AS p", "cannot be traced"),
    "union": ("-- key: id\nSELECT id FROM project_summary UNION SELECT id FROM task", "UNION ALL"),
    "clock without due time": ("-- key: id\nSELECT t.id, c.now FROM task AS t CROSS JOIN clock AS c", "changes_at"),
    "open window": ("-- key: id\nSELECT id, row_number() OVER (ORDER BY due) AS n FROM task", "window"),
    "itself": ("-- key: id\nSELECT a.id FROM wrong AS a", "circle"),
    "misspelt header": ("-- chagnes_at: due\n-- key: id\nSELECT id, due FROM task", "Did you mean `-- changes_at:`?"),
    "misspelt key": ("-- kye: id\nSELECT id FROM task", "Did you mean `-- key:`?"),
    "two statements": ("-- key: id\nSELECT id FROM task; SELECT 1", "exactly one SELECT"),
    "no statement": ("-- key: id\n", "no SELECT"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_cannot_be_kept_is_refused(typed, todo: Path, case: str) -> None:
    """The message names the file, the line where there is one, and the construct, before anything is made."""
    sql, said = MODELS[case]
    (todo / "models" / "wrong.sql").write_text(sql)
    assert_said(typed("--domain", todo, "init"), "wrong.sql", said)


def test_models_in_a_circle_are_refused(typed, todo: Path) -> None:
    """Models that read each other are named."""
    (todo / "models" / "hen.sql").write_text("-- key: id\nSELECT e.id FROM egg AS e")
    (todo / "models" / "egg.sql").write_text("-- key: id\nSELECT h.id FROM hen AS h")
    assert_said(typed("--domain", todo, "init"), "circle", "egg", "hen")


def test_two_models_with_one_name_are_refused(typed, todo: Path) -> None:
    """The same file name in two folders is one table twice; so is a model named like a source table."""
    (todo / "models" / "more").mkdir()
    (todo / "models" / "more" / "task_status.sql").write_text("-- key: id\nSELECT id FROM task")
    assert_said(typed("--domain", todo, "init"), "task_status", "Rename")
    (todo / "models" / "more" / "task_status.sql").rename(todo / "models" / "task.sql")
    assert_said(typed("--domain", todo, "init"), "“task” names more than one")


SOURCES = {
    "no key": ("CREATE TABLE t (a integer);", "no PRIMARY KEY"),
    "no column of the key": ("CREATE TABLE t (a integer, PRIMARY KEY (b));", "“b”"),
    "not SQL": ("CREATE TABEL t (a);", "only CREATE TABLE"),
    "unknown type": ("CREATE TABLE t (a integer PRIMARY KEY, b colour);", "unknown type"),
    "twice": ("CREATE TABLE t (a integer PRIMARY KEY); CREATE TABLE t (a integer PRIMARY KEY);", "declared twice"),
    "nothing": ("-- nothing here\n", "declares no table"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_source_that_cannot_be_mirrored_is_refused(typed, tmp_path: Path, case: str) -> None:
    """The message names source.sql or the table, and the way out."""
    sql, said = SOURCES[case]
    folder = write_domain(tmp_path / "wrong", sql, {"m": "-- key: a\nSELECT a FROM t"})
    assert_said(typed("--domain", folder, "init"), said)


def test_files_that_are_no_text_are_named(typed, todo: Path) -> None:
    """A file that is not UTF-8 is named with the place."""
    for name in ("source.sql", "models/task_status.sql", "domain.toml"):
        path = todo / name
        kept = path.read_bytes() if path.exists() else None
        path.write_bytes(b"-- key: id\nSELECT '\xff'")
        assert_said(typed("--domain", todo, "init"), path.name)
        path.unlink() if kept is None else path.write_bytes(kept)


EVENTS = {
    "wrong type of a key": event(
        "task", "c", {"id": "x"}, {"id": "x", "project_id": 1, "due": None, "done": False}, LATER
    ),
    "wrong type of a value": task(3, "2024-13-45T99:00:00", LATER),
    "text for a boolean": task(3, "2024-01-01T00:00:00", LATER, done="perhaps"),
    "missing key column": event("task", "c", {"nr": 3}, {"id": 3, "project_id": 1}, LATER),
    "null where none may be": task(3, None, LATER),
    "no JSON": json.dumps({"topic": "todo", "key": None, "value": "{not json", "ts": 1}),
    "no envelope": json.dumps({"topic": "todo", "key": None, "value": "[1, 2]", "ts": 1}),
    "unknown operation": event("task", "z", {"id": 3}, {"id": 3}, LATER),
    "undecodable bytes": json.dumps({"topic": "todo", "key_base64": "/w==", "value_base64": "//79", "ts": 1}),
    "a NUL in a text": project(9, "a\0b", LATER),
}


@pytest.mark.parametrize("case", EVENTS)
def test_a_bad_event_is_parked_whole_and_holds_nothing_up(typed, todo: Path, case: str) -> None:
    """It is counted and kept as it came, the domain says degraded and why, and the others are applied."""
    bad = EVENTS[case]
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=f"{bad}\n{HISTORY}", check=True)
    typed(*here, "run", "--until-idle", check=True)
    status = json.loads(typed(*here, "status", "--json", check=True).stdout)
    assert (status["state"], status["parked"], status["rows"]["task_status"]) == ("degraded", 1, 2)
    assert "parked" in status["reason"]
    whole = json.loads(typed(*here, "log", "parked", "--json", check=True).stdout)
    assert {name: value for name, value in whole.items() if name != "reason"} == json.loads(bad)
    assert whole["reason"]
    assert typed(*here, "verify").returncode == 0


def test_a_corrected_parked_event_goes_in_again(typed, todo: Path) -> None:
    """What `log parked --json` prints is appended again once it is mended; `--forget` ends the matter."""
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=f"{task(3, '2024-13-45T99:00:00', LATER)}\n{HISTORY}", check=True)
    typed(*here, "run", "--until-idle", check=True)
    whole = typed(*here, "log", "parked", "--json", check=True).stdout
    typed(*here, "log", "append", "-", stdin=whole.replace("2024-13-45T99", "2024-12-31T23"), check=True)
    typed(*here, "log", "parked", "--forget", check=True)
    typed(*here, "run", "--until-idle", check=True)
    status = json.loads(typed(*here, "status", "--json", check=True).stdout)
    assert (status["state"], status["parked"], status["rows"]["task_status"]) == ("idle", 0, 3)


def test_a_table_nobody_declared_is_ignored(typed, todo: Path) -> None:
    """A source may have more tables than the domain reads: their events are no fault."""
    typed("--domain", todo, "init", check=True)
    other = event("invoice", "c", {"id": 1}, {"id": 1, "total": "9.50"}, LATER)
    typed("--domain", todo, "log", "append", "-", stdin=f"{other}\n{HISTORY}", check=True)
    typed("--domain", todo, "run", "--until-idle", check=True)
    status = json.loads(typed("--domain", todo, "status", "--json", check=True).stdout)
    assert (status["state"], status["parked"], status["rows"]["task_status"]) == ("idle", 0, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "Line 2"),
        (b'{"topic": "t", "key": 5}', "Line 2"),
        (b'{"topic": ""}', "names no topic"),
        (b'{"topic": "t", "vlaue": "x"}', "Line 2"),
        (b'{"topic": "t", "value": "\xff"}', "Line 2"),
        (b'{"topic": "t", "value_base64": "%%"}', "base64"),
        (b'{"topic": "t", "partition": 7}', "no partition 7"),
    ],
)
def test_a_bad_line_is_named_and_nothing_of_its_topic_appended(typed, line: bytes, said: str) -> None:
    """The number of the line, what a line should look like, and how many went in before."""
    good = b'{"topic": "t", "key": null, "value": null, "ts": 1}'
    assert_said(typed("log", "append", "-", stdin=good + b"\n" + line + b"\n"), said, "0 records")
    assert '"end": 0' in typed("log", "topics", "--json", check=True).stdout


NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/x"
CASES = {
    "unknown domain": (["--domain", "nowhere", "init"], {}, "no domain “nowhere”"),
    "folder without source": (["--domain", ".", "init"], {}, "no source.sql"),
    "unknown parameter": (["init"], {"ROWTIDE_PARAMETERS__LATE_FEE": "2"}, "late_fee_per_day"),
    "parameter of a wrong type": (["init"], {"ROWTIDE_PARAMETERS__LATE_FEE_PER_DAY": "much"}, "does not fit"),
    "unknown time zone": (["init"], {"ROWTIDE_PARAMETERS__TIME_ZONE": "Mars/Olympus"}, "time zone"),
    "no state database": (["init"], {"ROWTIDE_STATE__DSN": NOWHERE}, "does not answer"),
    "malformed dsn": (["init"], {"ROWTIDE_STATE__DSN": "postgresql://secret@[x"}, "state.dsn"),
    "unwritable folder": (
        ["init"],
        {"ROWTIDE_STATE__DSN": None, "ROWTIDE_STATE__FOLDER": "/proc/nothing/here"},
        "cannot be written",
    ),
    "folder that is a file": (
        ["init"],
        {"ROWTIDE_STATE__DSN": None, "ROWTIDE_STATE__FOLDER": "/dev/null"},
        "cannot be written",
    ),
    "not set up": (["verify"], {}, "rowtide init"),
    "query before init": (["query", "overdue"], {}, "rowtide init"),
    "report before init": (["report", "day"], {}, "rowtide init"),
    "unknown topic": (["log", "dump", "nothing"], {}, "no topic"),
    "no file": (["log", "append", "nothing.jsonl"], {}, "no file"),
    "clock alone": (["run", "--clock", "2024-01-01"], {}, "--until-idle"),
    "no time": (["run", "--until-idle", "--clock", "soon"], {}, "2026-02-14T00:00:00"),
    "unknown model": (["explain", "nothing"], {}, "There are:"),
    "no data set": (["demo", "--data", ".", "--for", "1"], {"ROWTIDE_STATE__DSN": None}, "sakila-schema.sql"),
    "no Kafka there": (
        ["log", "topics"],
        {"ROWTIDE_LOG__KIND": "kafka", "ROWTIDE_LOG__SERVERS": "kafka.example:9092"},
        "log.allow_plaintext",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_plainly(typed, tmp_path: Path, case: str) -> None:
    """What failed, why, and what to type next; exit code 1, no trace, no secret."""
    arguments, environment, said = CASES[case]
    if case == "no data set":
        environment = {**environment, "ROWTIDE_STATE__FOLDER": str(tmp_path / "state")}
    assert_said(typed(*arguments, **environment), said)


def test_what_a_query_does_wrong_is_said(typed) -> None:
    """An unknown query lists those there are; one that writes, or returns nothing, is refused."""
    typed("init", check=True)
    assert_said(typed("query", "nothing"), "has no query", "There are:")
    assert_said(typed("query", "--sql", "DELETE FROM rental_status"), "read-only")
    assert_said(typed("query", "--sql", "SELECT colour FROM rental_status"), "colour", "character 8")
    assert_said(typed("query", "--sql", "SET work_mem = '1MB'"), "returns no rows")
    assert_said(typed("rental", "write-off", "1", "--reason", "x"), "no late fee")


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["run", "--no-such"], ["rental", "write-off", "many", "--reason", "x"]]
)
def test_wrong_usage_ends_with_two(typed, arguments: list[str]) -> None:
    """A command line that cannot be understood is told from a failure by its exit code."""
    failed = typed(*arguments)
    assert failed.returncode == 2
    assert "Usage:" in failed.stderr


def test_a_port_in_use_is_said_before_anything_starts(typed) -> None:
    """The page's port taken by another program is an error that names the setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        failed = typed("run", ROWTIDE_WEB__PORT=str(taken.getsockname()[1]))
    assert_said(failed, "cannot listen", "web.port")


def test_what_the_state_database_forbids_is_said(typed, database: str) -> None:
    """A user without the right to create schemas learns which right it lacks."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS meek")
        connection.execute("CREATE ROLE meek LOGIN")
    assert_said(typed("init", ROWTIDE_STATE__DSN=f"{database}&user=meek"), "lacks a right", "GRANT CREATE")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk to fill")
def test_a_full_disk_stops_and_loses_nothing(typed, todo: Path, tmp_path: Path) -> None:
    """On a full disk the command stops and says so; with room again it goes on where it was, and verify is clean."""
    state = tmp_path / "small"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "none", state], check=True)
    here = {"ROWTIDE_STATE__DSN": None, "ROWTIDE_STATE__FOLDER": str(state)}
    try:
        typed("--domain", todo, "init", check=True, **here)
        lines = "\n".join(task(n, "2024-01-01T00:00:00", LATER + n) for n in range(10, 20_010))
        typed("--domain", todo, "log", "append", "-", stdin=f"{HISTORY}\n{lines}", check=True, **here)
        ballast = state / "ballast"
        with ballast.open("wb") as file:
            free = os.statvfs(state)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize - 2_000_000)
        failed = typed("--domain", todo, "run", "--until-idle", **here)
        assert_said(failed, "nothing is lost")
        ballast.unlink()
        typed("--domain", todo, "run", "--until-idle", check=True, **here)
        verified = json.loads(typed("--domain", todo, "verify", "--json", check=True, **here).stdout)
        assert verified["clean"] is True
        assert {t["name"]: t["rows"] for t in verified["tables"]} == {"task_status": 20_002, "project_summary": 1}
    finally:
        subprocess.run(["umount", "-l", state], check=True)
