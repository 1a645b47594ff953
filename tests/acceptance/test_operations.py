"""What an operator does and sees: status, retention, gaps, rebuilds, stopping, the page."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from daemons import Daemons, until
from psycopg.conninfo import conninfo_to_dict
from todo import HISTORY, last_json, task

from connectors.embedded import EmbeddedPostgres

NOW = 1_700_000_010_000


@pytest.fixture
def source(server: EmbeddedPostgres, database: str) -> Iterator[str]:
    """A database with the README's two tables, to capture from."""
    name = f"{conninfo_to_dict(database)['dbname']}_source"
    dsn = server.ensure_database(name)
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE project (id integer PRIMARY KEY, name text NOT NULL)")
        connection.execute(
            "CREATE TABLE task (id integer PRIMARY KEY, project_id integer NOT NULL, due timestamp NOT NULL, done boolean NOT NULL)"
        )
    yield dsn
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active", [name]
        )
        until(
            lambda: (
                not connection.execute(
                    "SELECT 1 FROM pg_replication_slots WHERE database = %s AND active", [name]
                ).fetchone()
            )
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [name]
        )
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


# --- status ---


def test_status_tells_each_state(typed, todo: Path, start: Daemons) -> None:
    """absent, idle with its lag, running, stopped with the reason and the way out."""
    here = ("--domain", todo)

    def status() -> dict:
        return json.loads(typed(*here, "status", "--json", check=True).stdout)

    absent = status()
    assert (absent["state"], "rowtide init" in absent["reason"]) == ("absent", True)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=HISTORY, check=True)
    idle = status()
    assert (idle["state"], idle["led"], idle["clock"]) == ("idle", False, None)
    assert idle["topics"]["todo/0"] == {"position": 0, "start": 0, "end": 3, "lag": 3}
    assert idle["behind_seconds"] > 0
    daemon = start(*here, "run")
    until(lambda: status()["lag_events"] == {"todo/0": 0, "rowtide.todo/0": 0})
    running = status()
    assert (running["state"], running["led"], running["behind_seconds"]) == ("running", True, 0.0)
    assert daemon.stop() == 0
    assert status()["state"] == "idle"


def test_a_source_that_refuses_is_shown(typed, todo: Path, source: str, start: Daemons) -> None:
    """Capture that fails for a person's mistake stops the daemon; status names the reason, and whether the source answers now."""
    here = ("--domain", todo)
    with psycopg.connect(source) as connection:
        connection.execute("DROP TABLE task")
    daemon = start(*here, "run", ROWTIDE_SOURCE__DSN=source)
    assert daemon.ended() == 1
    status = json.loads(typed(*here, "status", "--json", check=True, ROWTIDE_SOURCE__DSN=source).stdout)
    assert status["state"] == "stopped"
    assert "no table public.task" in status["reason"]
    assert status["source"]["reachable"] is True
    wrong = source.replace("postgres:@", "nobody:secret@")
    status = json.loads(typed(*here, "status", "--json", check=True, ROWTIDE_SOURCE__DSN=wrong).stdout)
    assert status["source"]["reachable"] is False
    assert "nobody" in status["source"]["reason"]
    assert "secret" not in json.dumps(status)
    shown = typed(*here, "status", check=True, ROWTIDE_SOURCE__DSN=wrong).stdout
    assert "source postgres: does not answer" in shown


def test_explain_needs_no_init(typed, todo: Path) -> None:
    """How a model is kept can be looked at before anything is made, and nothing is made by it."""
    shown = typed("--domain", todo, "explain", "project_summary", check=True).stdout
    assert "reads task_status" in shown
    assert "plan:" in shown
    assert last_json(typed("--domain", todo, "status", "--json", check=True).stdout)["state"] == "absent"


# --- retention, gaps, rebuild ---

OLD = {"ROWTIDE_LOG__RETENTION_AGE": "1d"}


def test_retention_keeps_what_is_not_read(typed, todo: Path) -> None:
    """Old events go only once every instance has taken them in; our own topics stay whole."""
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=HISTORY, check=True)
    assert last_json(typed(*here, "log", "retention", "--json", check=True, **OLD).stdout) == {"todo": 0}
    typed(*here, "run", "--until-idle", check=True)
    assert last_json(typed(*here, "log", "retention", "--json", check=True, **OLD).stdout) == {"todo": 3}
    typed(*here, "log", "append", "-", stdin=task(3, "2024-01-01T00:00:00", NOW), check=True)
    assert last_json(typed(*here, "log", "retention", "--json", check=True, **OLD).stdout) == {"todo": 0}
    topics = {e["topic"]: e for e in last_json(typed(*here, "log", "topics", "--json", check=True).stdout)}
    assert (topics["todo"]["start"], topics["todo"]["end"]) == (3, 4)
    assert topics["rowtide.todo"]["start"] == 0
    typed(*here, "run", "--until-idle", check=True)
    assert typed(*here, "verify").returncode == 0


def test_retention_by_size(typed, todo: Path) -> None:
    """A topic larger than the settings allow loses its oldest events, none that is not read."""
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    lines = "\n".join(task(n, "2024-01-01T00:00:00", NOW) for n in range(100))
    typed(*here, "log", "append", "-", stdin=lines, check=True)
    typed(*here, "run", "--until-idle", check=True)
    typed(*here, "log", "append", "-", stdin=lines, check=True)
    removed = last_json(
        typed(*here, "log", "retention", "--json", check=True, ROWTIDE_LOG__RETENTION_SIZE="1kB").stdout
    )
    assert removed == {"todo": 100}


def test_a_daemon_enforces_retention_by_itself(todo: Path, start: Daemons, typed, monkeypatch) -> None:
    """Nobody has to call for it: the leader does it at its own times."""
    import threading

    from daemon import retention
    from daemon.app import open_app
    from daemon.settings import load_settings

    here = ("--domain", todo)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=HISTORY, check=True)
    typed(*here, "run", "--until-idle", check=True)
    environment = {"ROWTIDE_STATE__DSN": start.environment["ROWTIDE_STATE__DSN"], **OLD}
    over = threading.Event()
    with open_app(load_settings(None, environment, {"domain": str(todo)}).settings) as app:
        thread = threading.Thread(target=retention.keep_enforcing, args=(app, over, 0.01))
        thread.start()
        try:
            until(lambda: next(e.start for p, e in app.log.extents(["todo"]).items()) == 3)
        finally:
            over.set()
            thread.join()


def test_a_gap_is_never_skipped(typed, todo: Path, database: str) -> None:
    """An instance whose next events are gone from the log stops and says so; rebuild leaves its tables alone."""
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=HISTORY, check=True)
    typed(*here, "run", "--until-idle", check=True)
    typed(*here, "log", "retention", check=True, **OLD)
    refused = typed(*here, "rebuild")
    assert refused.returncode == 1
    assert "no longer has the beginning" in refused.stderr
    assert "live tables are as they were" in refused.stderr
    assert json.loads(typed(*here, "status", "--json", check=True).stdout)["rows"]["task_status"] == 2
    # The stored position is set back, as after restoring an older backup of the tables.
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE rowtide.position SET next_offset = 1 WHERE topic = 'todo'")
    refused = typed(*here, "run", "--until-idle")
    assert refused.returncode == 1
    assert "no longer in the log" in refused.stderr
    status = json.loads(typed(*here, "status", "--json", check=True).stdout)
    assert status["state"] == "stopped"
    assert status["rows"]["task_status"] == 2


def test_a_new_instance_notices_that_the_beginning_is_gone(typed, todo: Path, database: str) -> None:
    """A partition never read is read from its very first event, not from where the log happens to begin."""
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=HISTORY, check=True)
    typed(*here, "run", "--until-idle", check=True)
    typed(*here, "log", "retention", check=True, **OLD)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DELETE FROM rowtide.position WHERE topic = 'todo'")
    refused = typed(*here, "run", "--until-idle")
    assert refused.returncode == 1
    assert "no longer in the log" in refused.stderr


def test_a_running_daemon_goes_on_with_a_rebuilt_domain(typed, todo: Path, start: Daemons) -> None:
    """A changed model is refused by a new run, `rebuild` brings it in, and the daemon that ran before goes on with it."""
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=HISTORY, check=True)
    daemon = start(*here, "run")
    daemon.wait_for("batch.committed")
    model = todo / "models" / "project_summary.sql"
    model.write_text(model.read_text().replace("p.name,", "upper(p.name) AS name,", 1))
    refused = typed(*here, "verify")
    assert (refused.returncode, "rowtide rebuild" in refused.stderr) == (1, True)
    typed(*here, "rebuild", check=True)
    typed(*here, "log", "append", "-", stdin=task(3, "2024-01-01T00:00:00", NOW), check=True)
    query = (*here, "query", "--sql", "SELECT name, tasks FROM project_summary", "--json")
    until(lambda: json.loads(typed(*query, check=True).stdout) == [{"name": "ROOF", "tasks": 3}])
    assert daemon.stop() == 0
    assert typed(*here, "verify").returncode == 0


# --- the log ---


def test_the_log_is_copied_whole(typed, todo: Path, database: str, tmp_path: Path) -> None:
    """What `dump` writes and `append` reads are the same, for text, bytes, nulls and partitions; topics tells the extents."""
    lines = [
        {"topic": "x", "key": None, "value": None, "ts": 5},
        {"topic": "x", "key": "ü\\0", "value": "", "ts": 0},
        {"topic": "x", "key_base64": "/w==", "value_base64": "gA==", "ts": 2**41},
    ]
    text = "\n".join(map(json.dumps, lines))
    typed("log", "append", "-", stdin=text, check=True)
    dumped = typed("log", "dump", "x", check=True).stdout
    assert [json.loads(line) for line in dumped.splitlines()] == lines
    file = tmp_path / "copy.jsonl"
    file.write_text(dumped)
    typed("log", "append", file, check=True)
    assert typed("log", "dump", "x", check=True).stdout == dumped * 2
    topics = last_json(typed("log", "topics", "--json", check=True).stdout)
    assert topics == [{"topic": "x", "partition": 0, "start": 0, "end": 6}]


# --- stopping ---


def test_sigterm_during_a_snapshot(todo: Path, source: str, start: Daemons) -> None:
    """A daemon that reads a large table ends within five seconds, and the next one goes on."""
    with psycopg.connect(source) as connection:
        connection.execute("INSERT INTO task SELECT n, 1, '2024-01-01', false FROM generate_series(1, 60000) AS n")
    here = ("--domain", todo)
    daemon = start(*here, "run", ROWTIDE_SOURCE__DSN=source)
    daemon.wait_for("snapshot.started")
    assert daemon.stop() == 0
    daemon = start(*here, "run", ROWTIDE_SOURCE__DSN=source)
    daemon.wait_for("snapshot.completed")
    with psycopg.connect(start.environment["ROWTIDE_STATE__DSN"], autocommit=True) as connection:
        until(
            lambda: connection.execute("SELECT count(*) FROM todo.task_status").fetchone() == (60000,),
        )
    assert daemon.stop() == 0


def test_sigterm_while_the_source_does_not_answer(todo: Path, start: Daemons) -> None:
    """Waiting for a source ends within five seconds."""
    away = {"ROWTIDE_SOURCE__DSN": "postgresql://someone@127.0.0.1:1/nothing"}
    daemon = start("--domain", todo, "run", **away)
    daemon.wait_for("capture.reconnecting")
    assert daemon.stop() == 0


def test_sigterm_during_a_rebuild(typed, todo: Path, start: Daemons) -> None:
    """A rebuild that is told to end does so within five seconds, and the live tables are untouched."""
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    lines = "\n".join(task(n, "2024-01-01T00:00:00", NOW) for n in range(30_000))
    typed(*here, "log", "append", "-", stdin=lines, check=True)
    typed(*here, "run", "--until-idle", check=True)
    rebuild = start(*here, "rebuild", ROWTIDE_WORKER__BATCH_EVENTS="100")
    with psycopg.connect(start.environment["ROWTIDE_STATE__DSN"], autocommit=True) as connection:
        until(lambda: connection.execute("SELECT 1 FROM rowtide.position WHERE instance = 'todo_next'").fetchone())
    rebuild.signal(signal.SIGTERM)
    assert rebuild.ended(5) != 0
    assert json.loads(typed(*here, "status", "--json", check=True).stdout)["rows"]["task_status"] == 30_000
    typed(*here, "rebuild", check=True)
    assert typed(*here, "verify").returncode == 0


# --- the page ---


def test_the_page_and_what_monitors_ask(typed, todo: Path, start: Daemons) -> None:
    """/, /health, /ready, /status and /metrics tell what `rowtide status` tells."""
    here = ("--domain", todo)
    typed(*here, "init", check=True)
    typed(*here, "log", "append", "-", stdin=HISTORY, check=True)
    daemon = start(*here, "run", ROWTIDE_WEB__ENABLED="true", ROWTIDE_WEB__PORT="0")
    port = daemon.wait_for("page.opened")["port"]
    daemon.wait_for("batch.committed")

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    assert get("/health") == (200, '{"status":"ok"}')
    assert get("/ready")[0] == 200
    until(lambda: json.loads(get("/status")[1])["lag_events"] == {"todo/0": 0, "rowtide.todo/0": 0})
    assert json.loads(get("/status")[1])["rows"] == {"task_status": 2, "project_summary": 1}
    code, page = get("/")
    assert code == 200
    assert "task_status" in page
    metrics = get("/metrics")[1]
    assert 'rowtide_state{domain="todo",state="running"} 1.0' in metrics
    assert 'rowtide_model_rows{domain="todo",model="task_status"} 2.0' in metrics
    assert 'rowtide_lag_events{domain="todo",partition="0",topic="todo"} 0.0' in metrics
    assert 'rowtide_events_total{domain="todo"}' in metrics
    assert 'rowtide_incomplete_transactions_total{domain="todo"} 0.0' in metrics
    assert get("/reports/nothing")[0] == 404
    assert daemon.stop() == 0
