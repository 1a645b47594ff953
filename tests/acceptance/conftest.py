"""Two ways to type a command: the installed wheel in processes of its own, and the same entry point in this process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from counting import counting_domain
from daemons import Daemons, daemons
from domain_folder import write_domain
from todo import code_blocks

from connectors.state import migrate

ROOT = Path(__file__).resolve().parents[2]
Rowtide = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of `rowtide` in an environment that has the wheel and not the tree."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    uv = Path(sys.executable).parent / "uv"
    wheel = next(folder.glob("*.whl"))
    subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel], check=True)
    # The dependencies are those of this environment, but not its link to the tree.
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "venv" / "bin" / "rowtide"


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("ROWTIDE_", "PYTHON"))}


@pytest.fixture
def rowtide(installed: Path, tmp_path: Path) -> Iterator[Rowtide]:
    """Runs the installed `rowtide` in an empty folder with a state folder of its own."""
    environment = {**clean_environment(), "ROWTIDE_STATE__FOLDER": str(tmp_path / "state")}

    def run(*arguments: object, check: bool = False, stdin: str | None = None, **extra: str) -> Any:
        return subprocess.run(
            [installed, *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, **extra},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=check,
        )

    run.environment = environment  # type: ignore[attr-defined]
    return run


@pytest.fixture
def typed(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rowtide]:
    """Runs the entry point of `rowtide` in this process, on a fresh database of the run's server.

    An `extra` of None takes the variable away.
    """
    from daemon.cli import main

    for name in list(os.environ):
        if name.startswith("ROWTIDE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    environment = {"ROWTIDE_STATE__DSN": database, "ROWTIDE_LOG_FORMAT": "json"}

    def run(*arguments: object, check: bool = False, stdin: str | bytes = b"", **extra: str | None) -> Any:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**environment, **extra}.items():
                if value is not None:
                    patch.setenv(name, value)
            patch.setattr(sys, "argv", ["rowtide", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
            code = 0
            try:
                main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        out, err = capsys.readouterr()
        assert not check or code == 0, err
        return subprocess.CompletedProcess(arguments, code, out, err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def todo(tmp_path: Path) -> Path:
    """The domain of the README, its files taken from there."""
    blocks = code_blocks((ROOT / "README.md").read_text(), "sql")
    tables, status, summary = (
        next(block for block in blocks if part in block)
        for part in ("CREATE TABLE task", "AS late_at", "FROM project AS p")
    )
    return write_domain(tmp_path / "todo", tables, {"task_status": status, "project_summary": summary})


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    return counting_domain(tmp_path)


@pytest.fixture
def start(database: str, tmp_path: Path) -> Iterator[Daemons]:
    """Starts daemons on one state database."""
    migrate(database)
    with daemons({"ROWTIDE_STATE__DSN": database}, tmp_path) as starting:
        yield starting
