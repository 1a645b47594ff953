"""Replay where the log is Kafka, whose offsets have holes that no reader's position passes."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from todo import HISTORY, last_json, task

from deploy.stack.kafka import KafkaBroker


@pytest.fixture
def here(typed: Any, todo: Path, broker: KafkaBroker) -> Any:
    """Types a command for the domain, its log being a cluster's topics of its own."""
    name = f"todo_{uuid.uuid4().hex[:8]}"
    folder = todo.rename(todo.parent / name)
    (folder / "domain.toml").write_text(f'[source]\ntopics = ["{name}"]\n')
    environment = {"ROWTIDE_LOG__KIND": "kafka", "ROWTIDE_LOG__SERVERS": broker.servers}

    def run(*arguments: object, stdin: str = "", check: bool = True) -> Any:
        text = stdin.replace('"topic": "todo"', f'"topic": "{name}"')
        return typed("--domain", folder, *arguments, stdin=text, check=check, **environment)

    run.name = name  # type: ignore[attr-defined]
    return run


def test_replay_and_rebuild_on_kafka(here: Any, database: str, tmp_path: Path) -> None:
    """A dry run, a replay from a time, one from positions, and a rebuild: each ends, and mends what it is to mend."""
    here("init")
    lines = [HISTORY, *(task(n, "2024-01-01T00:00:00", 1_700_000_010_000 + n) for n in range(10, 500))]
    here("log", "append", "-", stdin="\n".join(lines))
    here("run", "--until-idle")
    assert last_json(here("replay", "--json").stdout)["same"]
    with psycopg.connect(database, autocommit=True) as connection:

        def damage() -> None:
            connection.execute(f"DELETE FROM {here.name}_source.task WHERE id = 490")
            connection.execute(f"UPDATE {here.name}_source.task SET done = true WHERE id = 491")

        file = tmp_path / "positions.json"
        file.write_text(f'{{"{here.name}/0": 0}}')
        for origin in ("earliest", "2023-11-14T22:13:30.400Z", file):
            damage()
            options = ("replay", "--from", origin, "--restart", "--apply", "--json")
            told = last_json(here(*options).stdout)
            task_ = next(table for table in told["tables"] if table["name"] == "task")
            assert (task_["added"], task_["removed"], task_["changed"]) == (1, 0, 1), origin
            here("log", "append", "-", stdin=task(1000, "2024-01-01T00:00:00", 1_700_000_020_000))
            here("run", "--until-idle")
            assert last_json(here("verify", "--json").stdout)["clean"]
        damage()
        assert last_json(here("rebuild", "--json").stdout)["events"] > 490
        assert connection.execute(f"SELECT count(*) FROM {here.name}_source.task").fetchone() == (493,)
