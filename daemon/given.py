"""Reads what was given as settings, wherever it was given: one TOML file, the environment, files with secrets.

Here values have dotted names and an origin each, and nothing is known of what they mean. `[instances.NAME]` tables
lie over the common values.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.errors import RowtideError

PREFIX = "ROWTIDE_"
INSTANCES = "instances"
_OF_THE_PROCESS = ("state", "web", "api", "log_level", "log_format", "instance", INSTANCES)


class SettingsError(RowtideError):
    """A setting is wrong; the message names it and where it was given."""


@dataclass
class Given:
    """Values by dotted name, and where each came from.

    Args:
        instances: for each `[instances.NAME]` table the place of its first mention.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: Any, origin: str) -> None:
        """Add a value, over one given before."""
        self.values[name] = value
        self.origins[name] = origin
        first, _, rest = name.partition(".")
        if first == INSTANCES:
            self.instances.setdefault(rest.partition(".")[0], origin)

    def of(self, instance: str | None) -> Given:
        """The common values, and over them those of one instance. Raises SettingsError for what cannot be its own."""
        found = Given()
        prefix = f"{INSTANCES}.{instance}."
        for name in self.values:
            if name.partition(".")[0] != INSTANCES:
                found.put(name, self.values[name], self.origins[name])
        for name in self.values:
            if instance is not None and name.startswith(prefix):
                own = name.removeprefix(prefix)
                self._refuse_common(name, own)
                for other in [other for other in found.values if other.startswith(f"{own}.")]:
                    del found.values[other], found.origins[other]
                found.put(own, self.values[name], self.origins[name])
        if instance is not None:
            found.put("instance", instance, self.instances.get(instance, found.origins.get("instance", "command line")))
        return found

    def _refuse_common(self, name: str, own: str) -> None:
        first = own.partition(".")[0]
        if first in _OF_THE_PROCESS:
            raise SettingsError(
                f"{own} cannot be an instance's own ({self.origins[name]}): a daemon has one for all it serves.",
                hint=f"Set {own} outside [instances]." if first != INSTANCES else "Do not nest [instances].",
            )

    def nested(self) -> dict[str, Any]:
        """The values as nested mappings."""
        result: dict[str, Any] = {}
        for name, value in self.values.items():
            *parents, last = name.split(".")
            place = result
            for parent in parents:
                following = place.setdefault(parent, {})
                if not isinstance(following, dict):
                    break
                place = following
            place[last] = value
        return result


def read_given(
    file: Path | None, environment: Mapping[str, str], sections: Collection[str], files: Collection[str] = ()
) -> Given:
    """Everything given outside the command line; later sources lie over earlier ones. Raises SettingsError.

    Args:
        file: the TOML file; where None, ROWTIDE_CONFIG names it.
        environment: as os.environ.
        sections: first parts of the names that credentials may have.
        files: names of settings that end in _file themselves: their variables hold a path, not the path of a secret.
    """
    given = Given()
    named = environment.get(f"{PREFIX}CONFIG")
    path = file or (Path(named) if named else None)
    if path is not None:
        content = _read_file(path)
        for name, value in flat(content):
            given.put(name, value, f"{path}: {name}")
        _read_instances(given, path, content.get(INSTANCES, {}))
    for name, value, origin in [*_credentials(environment, {*sections, INSTANCES}), *_environment(environment, files)]:
        given.put(name, value, origin)
    return given


def _read_instances(given: Given, path: Path, tables: Any) -> None:
    """Note the tables, empty ones too, in the order of the file."""
    wrong = INSTANCES if not isinstance(tables, Mapping) else None
    if wrong is None:
        wrong = next((f"{INSTANCES}.{name}" for name in tables if not isinstance(tables[name], Mapping)), None)
    if wrong is not None:
        raise SettingsError(
            f"{wrong} is no table ({path}: {wrong}).", hint="Write [instances.NAME] with what differs for it below."
        )
    given.instances = {name: f"{path}: {INSTANCES}.{name}" for name in tables}


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"The settings file {path} does not exist.", hint="Check --config or ROWTIDE_CONFIG."
        ) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: {error}", hint="Correct the file; docs/configuration.md has an example."
        ) from None


def _environment(environment: Mapping[str, str], files: Collection[str]) -> Iterator[tuple[str, Any, str]]:
    special = {"CONFIG", "FAILPOINT", "SEED"}
    for variable in sorted(environment, key=lambda v: not v.endswith("_FILE")):
        if not variable.startswith(PREFIX) or variable.removeprefix(PREFIX) in special:
            continue
        name = variable.removeprefix(PREFIX).lower().replace("__", ".")
        if name.endswith("_file") and not name.endswith(tuple(files)):
            yield name.removesuffix("_file"), _secret_file(Path(environment[variable]), variable), variable
        else:
            yield name, environment[variable], variable


def _credentials(environment: Mapping[str, str], sections: Collection[str]) -> Iterator[tuple[str, Any, str]]:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder:
        for path in sorted(Path(folder).glob("*.*")):
            if path.name.partition(".")[0] in sections:
                yield path.name, _secret_file(path, path.name), f"credential {path.name}"


def _secret_file(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"{name} names the file {path}, which cannot be read: {reason}.",
            hint="Correct the path, or let this user read the file: chown, chmod 0400.",
        ) from None
