"""Settings: where each comes from, which source wins, and what is said of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from connectors.quickbooks.customer import read_places
from daemon.settings import SettingsError, load_settings, shown


def load(tmp_path: Path, toml: str = "", environment: dict[str, str] | None = None, **overrides: Any) -> Any:
    file = tmp_path / "rowtide.toml"
    file.write_text(toml)
    return load_settings(file, environment or {}, {name.replace("__", "."): value for name, value in overrides.items()})


def test_the_order_of_sources(tmp_path: Path) -> None:
    """Command line over environment over *_FILE over credential over file over default."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "web.port").write_text("3\n")
    secret = tmp_path / "port"
    secret.write_text("4\n")
    environment: dict[str, str] = {}
    assert load(tmp_path, "").settings.web.port == 8470
    assert load(tmp_path, "[web]\nport = 2").settings.web.port == 2
    environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert load(tmp_path, "[web]\nport = 2", environment).settings.web.port == 3
    environment["ROWTIDE_WEB__PORT_FILE"] = str(secret)
    assert load(tmp_path, "[web]\nport = 2", environment).settings.web.port == 4
    environment["ROWTIDE_WEB__PORT"] = "5"
    assert load(tmp_path, "[web]\nport = 2", environment).settings.web.port == 5
    loaded = load(tmp_path, "[web]\nport = 2", environment, web__port=6)
    assert loaded.settings.web.port == 6
    assert ("web.port", "6", "command line") in shown(loaded)


@pytest.mark.parametrize(
    ("toml", "name", "said"),
    [
        ("[wbe]\nport = 1", "wbe.port", "Did you mean “web.port”?"),
        ("[web]\nprot = 1", "web.prot", "Did you mean “web.port”?"),
        ("domian = 'x'", "domian", "Did you mean “domain”?"),
        ("[log]\nretention_ages = '1d'", "log.retention_ages", "Did you mean “log.retention_age”?"),
        ("[web]\nport = 'many'", "web.port", "integer"),
        ("[web]\nport = 70000", "web.port", "65535"),
        ("[web]\nhost = '0.0.0.0'", "web", "allow_remote"),
        ("[log]\nretention_age = 'long'", "log.retention_age", "30d"),
        ("[log]\nretention_size = 'big'", "log.retention_size", "10GB"),
        ("[log]\nkind = 'kafka'", "log", "log.servers"),
        ("[log]\nkind = 'rabbit'", "log.kind", "embedded"),
        ("[log]\nservers = 'a:1'", "log", "kafka"),
        ("[source]\nkind = 'postgres'", "source", "source.dsn"),
        ("[source]\nkind = 'mysql'\ndsn = 'postgresql://u@h/d'", "source", "names a postgres database"),
        ("[source]\ndsn = 'oracle://u@h/d'", "source", "neither postgresql://"),
        ("[worker]\nbatch_events = 0", "worker.batch_events", "greater"),
        ("log_level = 'loud'", "log_level", "debug"),
        ("[source]\nheartbeat_seconds = -1", "source.heartbeat_seconds", "greater"),
        ("web = 3", "web", "web"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(tmp_path: Path, toml: str, name: str, said: str) -> None:
    """The message names the setting and the file it stands in, and what would be right."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, toml)
    assert name in caught.value.message
    assert "rowtide.toml" in caught.value.message
    assert said in str(caught.value)


def test_the_place_is_the_variable_where_it_comes_from_the_environment(tmp_path: Path) -> None:
    """What the environment says is corrected there."""
    with pytest.raises(SettingsError, match="ROWTIDE_WEB__PORT"):
        load(tmp_path, "", {"ROWTIDE_WEB__PORT": "many"})


@pytest.mark.parametrize(
    ("content", "said"), [(b"a = ", "Invalid value"), (b"a = '\xff'", "rowtide.toml"), (b"a = 1\na = 2", "overwrite")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    """No TOML, no UTF-8, a name twice."""
    file = tmp_path / "rowtide.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, {})
    assert str(file) in caught.value.message
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "nothing.toml", {})


def test_a_secret_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    """A missing file, a folder, and one without the right to read."""
    closed = tmp_path / "closed"
    closed.write_text("x")
    closed.chmod(0)
    places = [tmp_path / "nothing", tmp_path] + ([closed] if os.geteuid() else [])
    for place in places:
        with pytest.raises(SettingsError) as caught:
            load(tmp_path, "", {"ROWTIDE_SOURCE__DSN_FILE": str(place)})
        assert str(place) in caught.value.message
        assert "ROWTIDE_SOURCE__DSN_FILE" in caught.value.message


@pytest.mark.parametrize(
    ("dsn", "kind"),
    [
        ("postgresql://u@h/d", "postgres"),
        ("postgres://u@h/d", "postgres"),
        ("host=h dbname=d", "postgres"),
        ("mysql://u@h/d", "mysql"),
        ("mariadb://u@h/d", "mysql"),
    ],
)
def test_the_dsn_tells_the_kind_of_source(tmp_path: Path, dsn: str, kind: str) -> None:
    """source.kind need not be given."""
    assert load(tmp_path, "", {"ROWTIDE_SOURCE__DSN": dsn}).settings.source.kind == kind
    assert load(tmp_path, "").settings.source.kind == "none"


def test_settings_of_kafkas_client_keep_their_dotted_names(tmp_path: Path) -> None:
    """From the file as they are, from the environment with __ for a dot, secrets from files too."""
    secret = tmp_path / "password"
    secret.write_text("hush\n")
    toml = """
    [log]
    kind = "kafka"
    servers = "a:9092,b:9092"
    [log.client]
    "security.protocol" = "SASL_SSL"
    "sasl.mechanism" = "PLAIN"
    """
    environment = {"ROWTIDE_LOG__CLIENT__SASL__USERNAME": "me", "ROWTIDE_LOG__CLIENT__SASL__PASSWORD_FILE": str(secret)}
    loaded = load(tmp_path, toml, environment)
    assert loaded.settings.log.client == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "sasl.password": "hush",
    }
    text = str(shown(loaded))
    assert "hush" not in text
    assert "SASL_SSL" in text


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Neither by `config show` nor by an error about another setting of the same section."""
    environment = {"ROWTIDE_SOURCE__DSN": "mysql://u:hush@h/d", "ROWTIDE_STATE__DSN": "postgresql://u:hush@h/d"}
    assert "hush" not in str(shown(load(tmp_path, "", environment)))
    for wrong in ({"ROWTIDE_SOURCE__KIND": "postgres"}, {"ROWTIDE_SOURCE__HEARTBEAT_SECONDS": "x"}):
        with pytest.raises(SettingsError) as caught:
            load(tmp_path, "", {**environment, **wrong})
        assert "hush" not in str(caught.value)


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load(tmp_path).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.domain = "other"
    with pytest.raises(ValueError, match="frozen"):
        settings.web.port = 1


def test_a_setting_that_names_a_file_is_no_secret_in_one(tmp_path: Path) -> None:
    """A setting whose own name ends in _file takes a path from the environment, whether the file is there or not."""
    path = str(tmp_path / "absent")
    assert str(load(tmp_path, environment={"ROWTIDE_QUICKBOOKS__KEY_FILE": path}).settings.quickbooks.key_file) == path
    named = {"ROWTIDE_INSTANCES__NORTH__QUICKBOOKS__KEY_FILE": path, "ROWTIDE_INSTANCE": "north"}
    assert str(load(tmp_path, environment=named).settings.quickbooks.key_file) == path


@pytest.mark.parametrize("place", ["notes", "nothing", "definition:3", "definition:3:number", "definition:12:date"])
def test_a_field_goes_where_the_client_can_put_it(tmp_path: Path, place: str) -> None:
    """What the settings take, the mapping understands."""
    settings = load(tmp_path, f'[quickbooks.fields]\nCampus = "{place}"').settings
    assert set(read_places(settings.quickbooks.fields)) == {"Campus"}


@pytest.mark.parametrize("place", ["definition:", "definition:x", "definition:3:color", "note"])
def test_a_field_without_a_place_is_refused(tmp_path: Path, place: str) -> None:
    """The message names the field and what may be written."""
    with pytest.raises(SettingsError, match="Campus goes to"):
        load(tmp_path, f'[quickbooks.fields]\nCampus = "{place}"')


@pytest.mark.parametrize(
    ("quickbooks", "message"),
    [
        ('environment = "simulator"\napi_url = "http://books:8473"', "books"),
        ('environment = "simulator"\nsimulator_host = "books"\napi_url = "http://other:8473"', "other"),
        ('environment = "simulator"\nsimulator_host = "http://books"\napi_url = "http://books:8473"', "no address"),
        ('environment = "simulator"\nsimulator_host = "quickbooks.api.intuit.com"', "none of Intuit's"),
        ('environment = "sandbox"\nsimulator_host = "books"', 'environment = "simulator"'),
        ('environment = "production"\nsimulator_host = "books"', 'environment = "simulator"'),
    ],
)
def test_a_simulator_elsewhere_is_one_named_host(tmp_path: Path, quickbooks: str, message: str) -> None:
    """Another host than loopback has to be named, and is refused with Intuit's environments."""
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, f"[quickbooks]\n{quickbooks}")


def test_a_simulator_in_another_container_can_be_named(tmp_path: Path) -> None:
    """As docker-compose.yml has it."""
    text = '[quickbooks]\nenvironment = "simulator"\napi_url = "http://Books:8473"\nsimulator_host = "Books"'
    options = load(tmp_path, text).settings.quickbooks.options()
    assert (options.simulator_host, options.base_url) == ("books", "http://Books:8473/v3")
