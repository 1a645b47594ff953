"""The installed wheel: built once, installed beside the dependencies, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def rowtide(installed: Path, tmp_path: Path) -> Iterator[Rowtide]:
    """Runs `rowtide` in an empty folder with a state folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ROWTIDE_", "PYTHON"))}
    environment["ROWTIDE_STATE__FOLDER"] = str(tmp_path / "state")

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


def last_json(text: str) -> Any:
    """The last line as JSON."""
    return json.loads(text.strip().splitlines()[-1])
