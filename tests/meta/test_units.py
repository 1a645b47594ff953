"""The unit for systemd is one that systemd accepts, and fits the daemon that it starts."""

from __future__ import annotations

import base64
import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.quickbooks.keys import CREDENTIAL
from daemon.settings import load_settings, names

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
UNIT = FOLDER / "rowtide@.service"
MOST_EXPOSED = 2.0  # of systemd's 10; it calls less than 2.5 "OK"


class Lines(dict[str, str]):
    """A key given twice keeps both values, as systemd reads lists."""

    def __setitem__(self, key: str, value: object) -> None:
        if isinstance(value, list) and key in self:
            value = [*self[key], *value]
        super().__setitem__(key, value)  # type: ignore[assignment]


def service() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, dict_type=Lines)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(UNIT)
    return parser["Service"]


@pytest.fixture
def runnable(tmp_path: Path) -> Path:
    """The unit as an instance, with a program that this machine has."""
    path = tmp_path / "rowtide@rental.service"
    program = Path(sys.executable).with_name("rowtide")
    path.write_text(UNIT.read_text().replace("/opt/rowtide/bin/rowtide", str(program)))
    return path


def analyse(*arguments: str) -> str:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/bin"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_accepts_it(runnable: Path) -> None:
    """No setting of the unit is unknown, misspelt or without effect."""
    assert analyse("verify", "--man=no", str(runnable)) == ""


def test_it_is_locked_in(runnable: Path) -> None:
    """What systemd counts as exposed stays little."""
    told = analyse("security", "--offline=true", "--no-pager", str(runnable))
    level = re.search(r"exposure level for .*: ([\d.]+)", told)
    assert level is not None
    assert float(level[1]) <= MOST_EXPOSED


def test_it_starts_and_ends_as_the_daemon_does() -> None:
    """The daemon tells that it is ready and alive; it is asked to end alone, and may take its time."""
    found = service()
    assert found["Type"] == "notify"
    assert int(found["WatchdogSec"]) >= 10
    assert found["KillMode"] == "mixed"
    assert found["Restart"] == "on-failure"
    assert int(found["TimeoutStopSec"]) >= 10
    assert found["User"] == "rowtide"
    assert "u rowtide " in (FOLDER / "rowtide.sysusers").read_text()


def test_the_example_settings_load(tmp_path: Path) -> None:
    """rental.toml is accepted with the credential that the unit loads; it keeps its state where the unit lets it."""
    found = service()
    name, _, place = found["LoadCredential"].partition(":")
    assert name in dict(names())
    assert place == "/etc/rowtide/%i.source.dsn"
    (tmp_path / name).write_text("host=x")
    settings = load_settings(FOLDER / "rental.toml", {"CREDENTIALS_DIRECTORY": str(tmp_path)}).settings
    assert settings.source.dsn is not None
    assert settings.source.dsn.get_secret_value() == "host=x"
    assert settings.state.folder == Path("/var/lib") / found["StateDirectory"].replace("%i", "rental")
    assert "dsn" not in re.sub(r"#.*", "", (FOLDER / "rental.toml").read_text())


def test_the_school_has_its_secrets(tmp_path: Path) -> None:
    """school.toml is accepted with the credentials that the unit and school.conf load, and the key of the tokens is found there."""
    drop_in = configparser.RawConfigParser(strict=False, dict_type=Lines)
    drop_in.optionxform = str  # type: ignore[assignment]
    drop_in.read(FOLDER / "school.conf")
    loaded = [service()["LoadCredential"], *drop_in["Service"]["LoadCredential"].splitlines()]
    places = dict(line.split(":", 1) for line in loaded)
    assert all(place.startswith("/etc/rowtide/%i.") for place in places.values())
    values = {"source.dsn": "mariadb://rowtide@mis/school", "quickbooks.client_secret": "secret", "api.token": "t" * 64}
    for name in places:
        (tmp_path / name).write_text(values.get(name, base64.b64encode(b"k" * 32).decode()))
    settings = load_settings(FOLDER / "school.toml", {"CREDENTIALS_DIRECTORY": str(tmp_path)}).settings
    options = settings.quickbooks.options()
    assert (options.client_secret, settings.source.kind) == ("secret", "mysql")
    assert settings.api.token is not None
    assert places.keys() - values.keys() == {CREDENTIAL}
    assert settings.state.folder == Path("/var/lib") / service()["StateDirectory"].replace("%i", "school")
    assert all(f"{name} =" not in (FOLDER / "school.toml").read_text() for name in ("client_secret", "token", "dsn"))
