"""`make stack`: the whole set-up as a process, from an empty folder to a proof, and once more from where it ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pymysql
import pytest

from connectors.errors import RowtideError
from deploy.stack import __main__ as command
from deploy.stack.definition import DOMAIN, SHOP
from deploy.stack.jars import StackUnavailableError
from deploy.stack.stack import Stack, require_tools

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180  # seconds for a start on a busy machine
SECONDS, RATE = 4, 60
# What the shop's traffic does beside the ordinary, some of which only foreign keys tell.
RARE = {"cancel_rental", "renumber_payment", "merge_customers", "cancel_payment", "bring_film", "change_status"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that MariaDB's and PostgreSQL's own accounts can reach."""
    try:
        require_tools()
    except StackUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    path = Path(tempfile.mkdtemp(prefix="rowtide-stack-"))
    path.chmod(0o755)
    yield path / "s"
    shutil.rmtree(path, ignore_errors=True)


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.stack", "--state", str(folder), "--traffic", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        # Settings of whoever runs it have no say in the stack.
        env={**os.environ, "ROWTIDE_DOMAIN": "nowhere", "ROWTIDE_STATE__DSN": "host=nowhere"},
    )


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    """The last line of a run of some seconds from an empty folder."""
    process = started(folder, "--fresh", "--rate", str(RATE), "--seed", "5", "--for", str(SECONDS))
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


def left_in(folder: Path) -> list[str]:
    """The processes that name the folder."""
    return [p.info["name"] for p in psutil.process_iter(["name", "cmdline"]) if str(folder) in str(p.info["cmdline"])]


def test_it_proves_itself(summary: dict[str, Any]) -> None:
    """After traffic of every kind the mirror is as MariaDB, row for row, and each model equals its query."""
    assert summary["clean"] is True
    assert summary["acts"].keys() & RARE
    assert sum(summary["acts"].values()) >= 50
    assert [table for table in summary["verify"]["tables"] if table["missing"] or table["different"]] == []
    assert summary["source"]["settled"] is True
    rows = {table["name"]: table["rows"] for table in summary["source"]["tables"]}
    assert rows["rental"] > 2000
    assert rows["store"] == 2


def test_it_leaves_no_secret_in_the_open(summary: dict[str, Any], folder: Path) -> None:
    """Passwords are their owner's alone: not in logs, configurations, the script; not in the connector's settings."""
    secrets = [path for path in (folder / "secrets").rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in secrets} == {"0o600"}
    passwords = [path.read_text() for path in secrets if path.name == "password"]
    assert len(passwords) == 4
    told = [*folder.glob("*.log"), *folder.glob("connect/*.*"), *folder.glob("kafka/*.*"), folder / "rowtide"]
    told += [path for path in (folder / "kafka" / "data").rglob("*.log") if path.is_file()]
    assert len(told) > 8
    for path in told:
        content = path.read_bytes()
        assert not any(password.encode() in content for password in passwords), path


def test_it_goes_on_and_ends_at_ctrl_c(summary: dict[str, Any], folder: Path) -> None:
    """A second start finds everything as it was, writes flags back meanwhile, and stops all it started at Ctrl-C."""
    assert left_in(folder) == []
    process = started(folder, "--rate", str(RATE))
    lines: list[str] = []
    lives = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if " events behind " in line:
                lives.set()
        lives.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert lives.wait(PATIENCE)
        assert process.poll() is None, "".join(lines)
        told = "".join(lines)
        state = told.split("psql '")[1].split("'")[0]
        simulator = told.split("  QuickBooks ")[1].split()[0]
        with urllib.request.urlopen(f"{simulator}/control/health", timeout=10) as answer:
            assert json.load(answer) == {"status": "ok"}
        with psycopg.connect(state, autocommit=True) as mirror:
            count = mirror.execute(f"SELECT count(*) FROM {DOMAIN}_source.rental").fetchone()
            assert count is not None
            assert count[0] >= {t["name"]: t["rows"] for t in summary["source"]["tables"]}["rental"] - RATE
            agrees_somewhere(mirror, folder)
        with pytest.raises(RowtideError, match="runs in"):
            Stack(folder).start()
        os.kill(process.pid, signal.SIGINT)
        process.wait(PATIENCE)
    finally:
        process.kill()
        reader.join()
    assert process.returncode == 0, "".join(lines)
    assert lines[-1] == "stopping …\n"
    assert left_in(folder) == []


def agrees_somewhere(mirror: psycopg.Connection[Any], folder: Path) -> None:
    """Wait until a rented item says so in MariaDB, where nothing but the write-back could have put it."""
    source = pymysql.connect(
        unix_socket=str(folder / "mariadb" / "s"), user="root", database=SHOP, autocommit=True, charset="utf8mb4"
    )
    deadline = time.monotonic() + 60
    pause = threading.Event()
    try:
        with source.cursor() as cursor:
            while time.monotonic() < deadline:
                items = mirror.execute(
                    f"SELECT inventory_id FROM {DOMAIN}.inventory_status WHERE status = 'rented' LIMIT 50"
                ).fetchall()
                cursor.execute("SELECT inventory_id FROM inventory WHERE status = 'rented'")
                if {item[0] for item in items} & {row[0] for row in cursor.fetchall()}:
                    return
                pause.wait(0.2)
    finally:
        source.close()
    raise AssertionError("no item is marked as rented in the source")


def test_it_says_what_the_machine_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything that is missing is named at once, with the command that installs it, before anything is made."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackUnavailableError) as raised:
        Stack(tmp_path / "s").start()
    for word in ("java", "mvn", "MariaDB"):
        assert word in raised.value.message
    assert "apt-get install" in raised.value.hint
    assert not (tmp_path / "s").exists()


def test_it_empties_no_folder_but_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--fresh` refuses a folder with something else in it."""
    (tmp_path / "letter.txt").write_text("keep me")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert command.main(["--state", str(tmp_path), "--fresh"]) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "is not empty, and no stack" in capsys.readouterr().err
    assert (tmp_path / "letter.txt").read_text() == "keep me"
