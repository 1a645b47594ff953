"""Replay and rebuild: the log taken in again beside the live tables, compared, swapped; interrupted and gone on with."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from daemons import Daemons, daemons, until
from todo import HISTORY, event, last_json, task

FIRST = 1_700_000_010_000
MANY = 3000


@pytest.fixture
def start(database: str, tmp_path: Path) -> Iterator[Daemons]:
    with daemons({"ROWTIDE_STATE__DSN": database, "ROWTIDE_WORKER__BATCH_EVENTS": "500"}, tmp_path) as starting:
        yield starting


@pytest.fixture
def here(typed, todo: Path) -> tuple[object, ...]:
    """The options of an instance that has worked off a history of a project and its tasks."""
    options = ("--domain", todo)
    typed(*options, "init", check=True)
    lines = [HISTORY, *(task(n, "2024-01-01T00:00:00", FIRST + n) for n in range(10, MANY))]
    typed(*options, "log", "append", "-", stdin="\n".join(lines), check=True)
    typed(*options, "run", "--until-idle", check=True)
    return options


def contents(database: str) -> dict[str, list[str]]:
    tables = ("todo_source.project", "todo_source.task", "todo.task_status", "todo.project_summary")
    with psycopg.connect(database) as connection:
        return {t: [r for (r,) in connection.execute(f"SELECT x::text FROM {t} AS x ORDER BY 1")] for t in tables}


def execute(database: str, *statements: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def changes(summary: Any) -> dict[str, tuple[int, int, int]]:
    found = {t["name"]: (t["added"], t["removed"], t["changed"]) for t in summary["tables"]}
    return {name: counts for name, counts in found.items() if any(counts)}


DAMAGE = (
    "DELETE FROM todo_source.task WHERE id = 20",
    "UPDATE todo_source.task SET done = true WHERE id IN (21, 22)",
    "INSERT INTO todo_source.task (id, project_id, due, done) VALUES (9999999, 1, '2024-01-01', false)",
    "DELETE FROM todo.task_status WHERE id = 23",
)


def test_a_dry_run_tells_what_would_change_and_changes_nothing(typed, database: str, here: Any) -> None:
    """Of damaged tables each row that differs is counted; the live tables stay; `--apply` then swaps what was built."""
    good = contents(database)
    clean = last_json(typed(*here, "replay", "--json", check=True).stdout)
    assert (clean["same"], clean["pushes"], clean["applied"], clean["resumed"]) == (True, 0, False, False)
    assert clean["events"] == MANY - 10 + 3 + 1  # and the parameters
    execute(database, *DAMAGE)
    damaged = contents(database)
    told = last_json(typed(*here, "replay", "--json", check=True).stdout)
    assert changes(told) == {"task": (1, 1, 2), "task_status": (1, 0, 0)}
    assert (told["same"], told["resumed"], told["events"]) == (False, True, 0)
    assert contents(database) == damaged
    shown = typed(*here, "replay", check=True).stdout
    assert "pushed to QuickBooks and sources: 0" in shown
    assert "--apply swaps" in shown
    applied = last_json(typed(*here, "replay", "--apply", "--json", check=True).stdout)
    assert (applied["applied"], applied["pushes"], changes(applied)) == (True, 0, changes(told))
    assert contents(database) == good
    assert typed(*here, "verify").returncode == 0
    assert typed(*here, "status", "--json").returncode == 0


def test_what_was_built_can_be_removed(typed, database: str, here: Any) -> None:
    """`--discard` leaves no table, position or instance of the replay behind; `--restart` begins anew."""
    typed(*here, "replay", check=True)
    again = last_json(typed(*here, "replay", "--restart", "--json", check=True).stdout)
    assert (again["resumed"], again["events"]) == (False, MANY - 6)
    assert "removed" in typed(*here, "replay", "--discard", check=True).stdout
    with psycopg.connect(database) as connection:
        for query in (
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%_next%'",
            "SELECT count(*) FROM rowtide.position WHERE instance = 'todo_next'",
            "SELECT count(*) FROM rowtide.instance WHERE name = 'todo_next'",
        ):
            assert connection.execute(query).fetchone() == (0,)
    assert "nothing to remove" in typed(*here, "replay", "--discard", check=True).stdout


@pytest.mark.parametrize("point", ["replay_begun", "replay_batch:2", "replay_fenced"])
def test_a_killed_rebuild_is_gone_on_with(typed, database: str, here: Any, start: Daemons, point: str) -> None:
    """Killed at any place, the live tables are as they were and a daemon works on; the next rebuild ends what was begun."""
    execute(database, *DAMAGE)
    damaged = contents(database)
    killed = start(*here, "rebuild", ROWTIDE_FAILPOINT=point)
    assert killed.ended() == -signal.SIGKILL
    assert contents(database) == damaged
    typed(*here, "log", "append", "-", stdin=task(5, "2024-01-01T00:00:00", FIRST + MANY), check=True)
    typed(*here, "run", "--until-idle", check=True)
    rebuilt = last_json(typed(*here, "rebuild", "--json", check=True).stdout)
    assert rebuilt["resumed"]
    assert rebuilt["events"] == {"replay_begun": MANY - 5, "replay_batch:2": MANY - 5 - 1000, "replay_fenced": 1}[point]
    assert len(contents(database)["todo_source.task"]) == MANY - 10 + 2 + 1
    assert typed(*here, "verify").returncode == 0


@pytest.mark.parametrize("point", ["replay_absorbed:2", "replay_recomputed"])
def test_a_killed_replay_from_a_position_is_gone_on_with(
    typed, database: str, here: Any, start: Daemons, tmp_path: Path, point: str
) -> None:
    """The same for a replay that begins with a copy of the live tables."""
    good = contents(database)
    file = tmp_path / "positions.json"
    file.write_text('{"todo/0": 0}')
    execute(database, *DAMAGE[:2])
    damaged = contents(database)
    options = ("replay", "--from", file, "--apply", "--json")
    killed = start(*here, *options, ROWTIDE_FAILPOINT=point)
    assert killed.ended() == -signal.SIGKILL
    assert contents(database) == damaged
    assert last_json(typed(*here, *options, check=True).stdout)["resumed"]
    assert contents(database) == good
    assert typed(*here, "verify").returncode == 0


def test_a_replay_from_a_time_mends_what_lies_behind_it(typed, database: str, here: Any) -> None:
    """Rows whose last event lies behind the time come back; earlier ones, and rows of no event, stay as they are."""
    execute(database, *DAMAGE, "UPDATE todo_source.task SET done = true WHERE id = 2900")
    told = last_json(typed(*here, "replay", "--from", "2023-11-14T22:13:32Z", "--json", check=True).stdout)
    # The time is FIRST + 2000 ms: task 2000 and later.
    assert changes(told)["task"] == (0, 0, 1)
    assert told["events"] == MANY - 2000 + 1  # and the parameters, recorded now
    # The models follow the mirror as it is then: refreshed whole, whatever they were.
    typed(*here, "replay", "--from", "2023-11-14T22:13:32Z", "--apply", check=True)
    assert typed(*here, "verify").returncode == 0
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT id FROM todo_source.task WHERE done ORDER BY id").fetchall()
    assert rows == [(21,), (22,)]


def test_a_changed_model_without_the_beginning_of_the_log(typed, todo: Path, database: str, here: Any) -> None:
    """Where the log no longer begins at the beginning, `--from` the live positions brings a changed model in."""
    old = {"ROWTIDE_LOG__RETENTION_AGE": "1d"}
    typed(*here, "log", "retention", check=True, **old)
    refused = typed(*here, "rebuild")
    assert (refused.returncode, "docs/replay.md" in refused.stderr) == (1, True)
    positions = typed(*here, "status", "--json", check=True).stdout
    (todo / "now.json").write_text(positions)
    model = todo / "models" / "project_summary.sql"
    model.write_text(model.read_text().replace("p.name,", "upper(p.name) AS shouted,", 1))
    told = last_json(typed(*here, "replay", "--from", todo / "now.json", "--apply", "--json", check=True).stdout)
    assert (told["begun_anew"], told["events"]) == (["project_summary"], 0)
    assert typed(*here, "verify").returncode == 0
    found = typed(*here, "query", "--sql", "SELECT shouted FROM project_summary", "--json", check=True)
    assert json.loads(found.stdout) == [{"shouted": "ROOF"}]


def test_replays_that_cannot_be_right_are_refused(typed, todo: Path, database: str, here: Any, tmp_path: Path) -> None:
    """Each refusal says why and what to do, and leaves the live tables as they are."""
    before = contents(database)
    file = tmp_path / "positions.json"

    def refused(*options: object) -> str:
        ended = typed(*here, "replay", *options)
        assert ended.returncode == 1, options
        assert len(ended.stderr.strip().splitlines()) >= 2
        assert contents(database) == before
        return ended.stderr

    assert "neither `earliest`, nor a time, nor a file" in refused("--from", "yesterday")
    for text, reason in {
        "[1]": "holds no positions",
        '{"todo/0": "x"}': "holds no positions",
        "{}": "names no position",
        '{"other/0": 1}': "reads no other/0",
        '{"todo/0": 99999999}': "lies behind what the live tables have taken in",
    }.items():
        file.write_text(text)
        assert reason in refused("--from", file)
    source = todo / "source.sql"
    kept = source.read_text()
    source.write_text(kept.replace("name text", "name varchar(200)"))
    file.write_text('{"todo/0": 5}')
    assert "is declared otherwise than the live one was made" in refused("--from", file)
    source.write_text(kept)
    typed(*here, "log", "retention", check=True, ROWTIDE_LOG__RETENTION_AGE="1d")
    assert "no longer has the beginning" in refused("--from", "earliest")
    assert "no longer has the events 5 to" in refused("--from", file)
    assert "may be later than 2023" in refused("--from", "2023-11-14T22:13:32Z")
    execute(
        database,
        "UPDATE rowtide.instance SET definition = jsonb_set(definition, '{topic_ids,todo}', '\"12345\"') WHERE name = 'todo'",
    )
    assert "created anew" in refused("--from", file)


def test_the_live_daemon_works_on_during_a_replay(typed, database: str, here: Any, start: Daemons) -> None:
    """A daemon goes on taking events in while a replay compares and swaps, and afterwards in the new tables."""
    daemon = start(*here, "run")
    daemon.wait_for("daemon.leading")
    for number in range(4):
        lines = [event("task", "u", {"id": n}, {"id": n, "project_id": 1, "due": "2024-01-01T00:00:00", "done": True}, FIRST + MANY + n)
                 for n in range(10 + number * 500, 510 + number * 500)]  # fmt: skip
        typed(*here, "log", "append", "-", stdin="\n".join(lines), check=True)
        told = last_json(typed(*here, "replay", "--json", *(["--apply"] if number % 2 else []), check=True).stdout)
        assert told["same"], told
    typed(*here, "log", "append", "-", stdin=task(5, "2024-01-01T00:00:00", FIRST + 2 * MANY), check=True)
    until(lambda: len(contents(database)["todo_source.task"]) == MANY - 10 + 2 + 1)
    assert daemon.stop() == 0
    assert typed(*here, "verify").returncode == 0
