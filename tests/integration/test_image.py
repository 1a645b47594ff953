"""The container's steps work, as far as they can be done without an engine: natively, in folders of a test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy.stack import definition

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of each line."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of one stage, without its FROM."""
    found: list[tuple[str, str]] = []
    inside = False
    for word, rest in instructions():
        if word == "FROM":
            inside = rest.endswith(f" AS {name}")
        elif inside:
            found.append((word, rest))
    return found


def pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """A lock file's packages: version and hashes."""
    found = {}
    for entry in re.split(r"\n(?=\S)", path.read_text().strip()):
        name, _, rest = entry.partition("==")
        found[name] = (rest.split()[0], frozenset(re.findall(r"sha256:\w+", entry)))
    return found


def test_its_versions_are_pinned_once() -> None:
    """Base images are the definition's, of the Python that CI tests; uv is the Makefile's."""
    images = {rest.split(" AS ")[0] for word, rest in instructions() if word == "FROM"} - {"production"}
    assert images == {definition.PYTHON_IMAGE}
    assert definition.PYTHON_IMAGE.startswith(f"python:{sys.version_info[0]}.{sys.version_info[1]}.")
    for text in (DOCKERFILE.read_text(), (ROOT / "Makefile").read_text()):
        assert set(re.findall(r"uv==([\d.]+)", text)) == {definition.UV}


def test_its_packages_are_those_that_are_tested() -> None:
    """deploy/requirements.lock is the part of requirements.lock that the daemon needs: same versions, same hashes."""
    tested, shipped = pins(ROOT / "requirements.lock"), pins(ROOT / "deploy" / "requirements.lock")
    assert {name: pin for name, pin in shipped.items() if tested.get(name) != pin} == {}
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[^A-Za-z0-9_-]", need)[0].lower().replace("_", "-") for need in needed}
    assert names <= set(shipped)
    assert "pytest" not in shipped


def test_what_it_copies_is_let_through() -> None:
    """Every COPY names something that is there and that the ignore file does not hold back."""
    let = {line[1:] for line in (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    for word, rest in instructions():
        if word != "COPY" or rest.startswith("--from="):
            continue
        for source in rest.split()[:-1]:
            assert list(ROOT.glob(source)), source
            assert source.split("/")[0] in let, source


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build stage leaves in /opt/rowtide, made by its own commands in folders of the test."""
    base = tmp_path_factory.mktemp("image")
    source, target = base / "src", base / "rowtide"
    tools = Path(sys.executable).parent
    source.mkdir()
    for word, rest in stage("build"):
        if word == "COPY":
            *sources, place = rest.split()
            for name in sources:
                to = source / place / (Path(name).name if place == "./" else "")
                to.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, to, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, to)
        elif word == "RUN" and "pip install" in rest and "uv==" in rest:
            continue  # uv is here already
        elif word == "RUN":
            # With the cache that the image does without: the packages are on this machine.
            command = rest.replace("--no-cache ", "").replace("/usr/local/bin/python3", sys.executable)
            command = command.replace("/opt/rowtide", str(target)).replace("/src/", f"{source}/")
            done = subprocess.run(
                ["/bin/sh", "-euc", command],
                cwd=source,
                env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    return target


def test_the_build_stage_leaves_a_working_rowtide(built: Path, tmp_path: Path) -> None:
    """The command runs from what was built alone, with no packages of tests in it."""
    done = subprocess.run(
        [built / "bin" / "rowtide", "--domain", "rental", "explain", "--help"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        [built / "bin" / "python", "-c", "import consumers, daemon, sys; print(consumers.__file__)\nimport pytest"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert str(built) in listed.stdout
    assert "No module named 'pytest'" in listed.stderr


def test_the_trial_stage_can_prepare_the_others(built: Path, tmp_path: Path) -> None:
    """Its steps need nothing but what the image has: the passwords are made up, and made up once."""
    place = tmp_path / "stack"
    for word, rest in stage("trial"):
        if word == "COPY":
            *sources, to = rest.split()
            folder = place / Path(to).relative_to("/opt/rowtide-stack")
            folder.mkdir(parents=True, exist_ok=True)
            for name in sources:
                for path in ROOT.glob(name):
                    shutil.copy(path, folder)
    code = "import sys, pathlib; from deploy.stack import prepare; prepare.passwords(pathlib.Path(sys.argv[1]))"
    secrets = tmp_path / "secrets"
    seen = []
    for _ in range(2):
        done = subprocess.run(
            [built / "bin" / "python", "-c", code, str(secrets)],
            cwd=tmp_path,
            env={"PYTHONPATH": str(place), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        seen.append({str(path.relative_to(secrets)): path.read_text() for path in secrets.rglob("*") if path.is_file()})
    assert seen[0] == seen[1]
    assert len({seen[0][f"{reader}/password"] for reader in ("root", "shop", "source", "state")}) == 4
    assert {oct(path.stat().st_mode & 0o777) for path in secrets.rglob("*") if path.is_file()} == {"0o444"}
