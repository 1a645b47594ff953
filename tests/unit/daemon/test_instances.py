"""The settings of several instances, and how many of them a daemon takes."""

from __future__ import annotations

import gc
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from consumers.worker import _Tuning
from daemon.domains import domain_of
from daemon.settings import Loaded, SettingsError, load_instances, load_settings, shown
from daemon.share import MOST, STEP, Share

TWO = """
[source]
dsn = "postgresql://common@host/db"
[parameters]
late_fee_per_day = "2"
[instances.north]
source.dsn = "mariadb://rowtide@north/db"
parameters.time_zone = "Europe/Berlin"
[instances.south]
"""


def load(folder: Path, text: str, environment: dict[str, str] | None = None, *chosen: str) -> dict[str | None, Loaded]:
    (folder / "rowtide.toml").write_text(text)
    found = load_instances(folder / "rowtide.toml", environment or {}, chosen=chosen)
    return {loaded.settings.instance: loaded for loaded in found}


def dsn(loaded: Loaded) -> str:
    assert loaded.settings.source.dsn is not None
    return loaded.settings.source.dsn.get_secret_value()


def test_a_table_lies_over_the_common_settings(tmp_path: Path) -> None:
    """What a table tells holds for its instance, the rest is common; the origin tells the table."""
    found = load(tmp_path, TWO)
    assert list(found) == ["north", "south"]
    assert dsn(found["north"]) == "mariadb://rowtide@north/db"
    assert found["north"].settings.source.kind == "mysql"
    assert dsn(found["south"]) == "postgresql://common@host/db"
    assert found["north"].settings.parameters == {"late_fee_per_day": "2", "time_zone": "Europe/Berlin"}
    assert found["south"].settings.parameters == {"late_fee_per_day": "2"}
    origins = {name: origin for name, _, origin in shown(found["north"])}
    assert origins["source.dsn"] == f"{tmp_path / 'rowtide.toml'}: instances.north.source.dsn"


def test_the_environment_and_credentials_tell_of_an_instance_too(tmp_path: Path) -> None:
    """A secret of one instance comes by its variable or credential; what is common does not hide it."""
    (tmp_path / "instances.south.source.dsn").write_text("postgresql://secret@south/db\n")
    environment = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "ROWTIDE_SOURCE__DSN": "postgresql://common@other/db",
        "ROWTIDE_INSTANCES__EAST__SOURCE__DSN": "postgresql://east@east/db",
    }
    found = load(tmp_path, TWO, environment)
    assert list(found) == ["north", "south", "east"]
    assert [dsn(found[name]) for name in found] == [
        "mariadb://rowtide@north/db",
        "postgresql://secret@south/db",
        "postgresql://east@east/db",
    ]


def test_one_is_named_or_all_are_served(tmp_path: Path) -> None:
    """`run` serves those chosen, else all; a command about one needs its name where there are several."""
    assert list(load(tmp_path, TWO, None, "south")) == ["south"]
    assert list(load(tmp_path, TWO, {"ROWTIDE_INSTANCE": "north"})) == ["north"]
    assert list(load(tmp_path, "")) == [None]
    assert list(load(tmp_path, "", None, "east", "west")) == ["east", "west"]
    file = tmp_path / "rowtide.toml"
    file.write_text(TWO)
    with pytest.raises(SettingsError, match=r"several instances \(north, south\)"):
        load_settings(file, {})
    assert load_settings(file, {}, {"instance": "south"}).settings.instance == "south"
    file.write_text("[instances.only]\n")
    assert load_settings(file, {}).settings.instance == "only"


@pytest.mark.parametrize(
    ("text", "chosen", "expected"),
    [
        ("[instances.north]\nsource.dns = 1", (), r"Unknown setting “source\.dns” \(.*instances\.north\.source\.dns\)"),
        (
            "[instances.north]\nweb.port = 1",
            (),
            r"web\.port cannot be an instance's own \(.*instances\.north\.web\.port",
        ),
        ("[instances.north]\ninstances.x.domain = 'a'", (), r"instances\.x\.domain cannot be an instance's own"),
        ("[instances.North]", (), r"setting instance is wrong \(.*instances\.North\): “North” cannot name an instance"),
        ("[instances.a_next]", (), "_next and _source"),
        ("[instances.public]", (), "name of PostgreSQL's"),
        ("instance = 'rowtide'", (), "Rowtide's own"),
        ("instances = 3", (), r"instances is no table"),
        ("[instances]\nnorth = 3", (), r"instances\.north is no table"),
        ("[instances.north]", ("nroth",), "no instance “nroth”"),
        ("[instances.north]", ("north", "north"), "named twice"),
        ("log.group = 'g'\n[instances.a]\n[instances.b]", (), "Several instances have the Kafka group g"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, chosen: tuple[str, ...], expected: str) -> None:
    """A wrong table or name is refused before anything runs."""
    with pytest.raises(SettingsError, match=expected):
        load(tmp_path, text, None, *chosen)


def test_all_that_is_an_instances_own_has_its_name() -> None:
    """Its schemas, its own topic and the topic of its capture; log.topics names others. The files' meaning is the same."""
    plain = domain_of(load_settings(None, {}).settings)
    north = domain_of(load_settings(None, {}, {"instance": "north"}).settings)
    assert (plain.name, plain.topics, plain.own_topic) == ("rental", ("dvdrental",), "rowtide.rental")
    assert (north.name, north.topics, north.own_topic) == ("north", ("north",), "rowtide.north")
    assert (north.kind, north.fingerprint) == (plain.kind, plain.fingerprint)
    given: dict[str, Any] = {"instance": "north", "log.topics": "shop.north, shop.more"}
    assert domain_of(load_settings(None, {}, given).settings).topics == ("shop.north", "shop.more")


def test_who_leads_much_waits() -> None:
    """The first at once, then a second for each led; whoever has his part waits longest, but never too long."""
    share = Share(4)
    waits = []
    for name in ("a", "b", "c", "d"):
        waits.append((share.hold(1), share.hold(2)))
        share.taken(name)
    assert waits == [(0, 0), (STEP, STEP), (2 * STEP, MOST), (3 * STEP, MOST)]
    share.given_back()
    share.given_back()
    share.given_back()
    assert share.hold(2) == STEP
    many = Share(100)
    for number in range(60):
        many.taken(str(number))
    assert many.hold(1) == MOST


def test_the_process_is_tuned_while_any_worker_runs() -> None:
    """The worker that ends first does not slow the others down; the last one leaves all as it was."""
    before = (sys.getswitchinterval(), gc.get_threshold())
    tuning = _Tuning()
    first, second = ExitStack(), ExitStack()
    first.enter_context(tuning.use())
    tuned = (sys.getswitchinterval(), gc.get_threshold())
    second.enter_context(tuning.use())
    first.close()
    assert (sys.getswitchinterval(), gc.get_threshold()) == tuned != before
    second.close()
    assert (sys.getswitchinterval(), gc.get_threshold()) == before
