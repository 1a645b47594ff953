"""Settings: one TOML file, the environment, `*_FILE` variables and systemd credentials, read once and frozen.

Precedence, highest first: command line, environment (`ROWTIDE_STATE__DSN`), `ROWTIDE_STATE__DSN_FILE`, systemd
credentials (a file `state.dsn` in $CREDENTIALS_DIRECTORY), the TOML file, defaults.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from daemon.given import Given, SettingsError, flat, read_given
from daemon.settings_quickbooks import QuickBooksSettings

__all__ = ["Loaded", "Settings", "SettingsError", "load_instances", "load_settings", "names", "shown", "source_kind"]

_DURATION = re.compile(r"(\d+)\s*(s|m|h|d)")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SECRET = re.compile(r"password|secret|token|jaas|key\.pem|oauthbearer\.config")
_TOKEN_LENGTH = 24
_SIZE = re.compile(r"(\d+)\s*(kB|MB|GB|TB|B)?", re.IGNORECASE)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "rowtide"


class State(_Section):
    """Where the state database is."""

    folder: Path = Field(default_factory=_state_home, description="Folder of the embedded PostgreSQL.")
    dsn: SecretStr | None = Field(None, description="A PostgreSQL 15 or newer to use instead of the embedded one.")


class SourceSettings(_Section):
    """The database to capture from."""

    kind: Literal["none", "postgres", "mysql"] = Field(
        "none", description="none: the log is filled by others; where absent the dsn's scheme tells it."
    )
    dsn: SecretStr | None = Field(None, description="Connection string of the source database.")
    db_schema: str = Field("public", alias="schema", description="The source's schema (PostgreSQL).")
    heartbeat_seconds: float = Field(10, gt=0, le=3600, description="How often an idle source is acknowledged.")
    write_back: bool = Field(default=False, description="Whether the domain's flags are written to the source.")
    write_back_dsn: SecretStr | None = Field(None, description="Another login for that; where absent source.dsn.")

    @model_validator(mode="before")
    @classmethod
    def _kind_of_dsn(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("dsn") and "kind" not in data:
            given = data["dsn"]
            return {**data, "kind": source_kind(given.get_secret_value() if isinstance(given, SecretStr) else given)}
        return data

    @model_validator(mode="after")
    def _fits(self) -> SourceSettings:
        if self.kind == "none":
            return self
        if self.dsn is None:
            raise ValueError(f'kind = "{self.kind}" needs source.dsn')
        told = source_kind(self.dsn.get_secret_value())
        if told != self.kind:
            raise ValueError(f'kind = "{self.kind}" does not fit source.dsn, which names a {told} database')
        return self

    @model_validator(mode="after")
    def _writes(self) -> SourceSettings:
        if self.write_back and self.dsn is None and self.write_back_dsn is None:
            raise ValueError("write_back = true needs source.dsn or source.write_back_dsn")
        if self.write_back_dsn is not None:
            source_kind(self.write_back_dsn.get_secret_value(), "source.write_back_dsn")
        return self


def source_kind(dsn: str, setting: str = "source.dsn") -> str:
    """The family of databases that a connection string names: mysql (MariaDB too) or postgres."""
    scheme = dsn.partition("://")[0].lower() if "://" in dsn else "postgresql"
    if scheme in ("mysql", "mariadb"):
        return "mysql"
    if scheme in ("postgres", "postgresql"):
        return "postgres"
    raise ValueError(f"{setting} begins with neither postgresql:// nor mysql:// nor mariadb://")


class LogSettings(_Section):
    """Where the log is and what it keeps."""

    kind: Literal["embedded", "kafka"] = Field("embedded", description="embedded: in the state database.")
    servers: str | None = Field(None, description="Kafka's servers: HOST:PORT,HOST:PORT.")
    topics: tuple[str, ...] = Field((), description="Topics of the source to read, where not those of the domain.")
    group: str | None = Field(None, description="The group that tells Kafka's tools how far we are; rowtide-DOMAIN.")
    replication: int = Field(1, ge=1, le=100, description="Copies of each topic that is created in Kafka.")
    allow_plaintext: bool = Field(default=False, description="Allow other hosts without encryption.")
    client: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="More settings of Kafka's client, by librdkafka's dotted names."
    )
    retention_age: timedelta | None = Field(None, description="Older events go: 30d, 12h; none: all stay.")
    retention_size: int | None = Field(
        None, description="A larger topic loses its oldest events: 10GB; none: all stay."
    )

    @field_validator("topics", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("client", mode="before")
    @classmethod
    def _dotted(cls, value: object) -> object:
        return dict(flat(value)) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _has_servers(self) -> LogSettings:
        if self.kind == "kafka" and not self.servers:
            raise ValueError('kind = "kafka" needs log.servers, as in localhost:9092')
        if self.kind == "embedded" and (self.servers or self.client):
            raise ValueError('log.servers and log.client are for kind = "kafka"')
        return self

    @field_validator("retention_age", mode="before")
    @classmethod
    def _age(cls, value: object) -> object:
        if isinstance(value, str):
            match = _DURATION.fullmatch(value.strip())
            if match is None:
                raise ValueError("write a number with s, m, h or d, as in 30d")
            return timedelta(seconds=int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])
        return value

    @field_validator("retention_size", mode="before")
    @classmethod
    def _size(cls, value: object) -> object:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value.strip())
            if match is None:
                raise ValueError("write a number with kB, MB, GB or TB, as in 10GB")
            return int(match[1]) * 1000 ** ["b", "kb", "mb", "gb", "tb"].index((match[2] or "B").lower())
        return value


class Web(_Section):
    """The daemon's page."""

    enabled: bool = Field(default=True, description="Whether `rowtide run` serves the page.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8470, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    allow_remote: bool = Field(default=False, description="Allow a host that other machines reach; there is no login.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the host."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    @model_validator(mode="after")
    def _loopback(self) -> Web:
        if not self.is_local and not self.allow_remote:
            raise ValueError(
                f"host {self.host} is reachable from other machines; set allow_remote = true if that is meant"
            )
        return self


class Api(_Section):
    """The HTTP API of domains that push to QuickBooks, beside the page."""

    enabled: bool = Field(default=True, description="Whether the API is served; nothing is told without a token.")
    token: SecretStr | None = Field(None, description="A token that opens it, besides those of `rowtide api token`.")
    tls_cert: Path | None = Field(None, description="Certificate (PEM) for API and page, with those above it.")
    tls_key: Path | None = Field(None, description="The certificate's key (PEM).")
    allow_plaintext: bool = Field(default=False, description="Allow a host that other machines reach without TLS.")

    @field_validator("token")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else None
        if text is not None and (len(text) < _TOKEN_LENGTH or not text.isascii() or not text.isprintable()):
            raise ValueError(
                f"a token has {_TOKEN_LENGTH} letters, digits and signs or more: `rowtide api token` makes one"
            )
        return value

    @model_validator(mode="after")
    def _has_both(self) -> Api:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key are set together")
        return self


class WorkerSettings(_Section):
    """How much is done at once."""

    batch_events: int = Field(5000, ge=1, le=100_000, description="Events of one batch at most.")
    batch_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Bytes of one batch at most.")


class Settings(_Section):
    """All settings, frozen. `origins` tells where each that was given came from."""

    domain: str = Field("rental", description="Name of a built-in domain or path of a folder.")
    instance: str | None = Field(None, description="Name of one of several instances of the domain.")
    state: State = Field(default_factory=State)
    source: SourceSettings = Field(default_factory=SourceSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    web: Web = Field(default_factory=Web)
    api: Api = Field(default_factory=Api)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    quickbooks: QuickBooksSettings = Field(default_factory=QuickBooksSettings)
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON.")
    parameters: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="Values for the domain's parameters."
    )

    @field_validator("instance")
    @classmethod
    def _names_schemas(cls, value: str | None) -> str | None:
        if value is not None and (reason := _unfit_name(value)):
            raise ValueError(reason)
        return value


def _unfit_name(name: str) -> str | None:
    """Why a name cannot be an instance's, which names schemas, a topic and a replication slot; None where it can."""
    if not _NAME.fullmatch(name):
        return f"“{name}” cannot name an instance: write up to 40 lower-case letters, digits and _, a letter first"
    if name.startswith("pg_") or name in ("public", "rowtide", "information_schema"):
        return f"“{name}” is a name of PostgreSQL's or of Rowtide's own"
    if name.endswith(("_next", "_source")):
        return f"“{name}” ends as schemas do that belong to another instance; leave _next and _source out"
    return None


@dataclass(frozen=True)
class Loaded:
    """The settings and where each given one came from, by dotted name."""

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read all sources for one instance. Raises SettingsError naming setting and place.

    Args:
        file: the TOML file; where None, ROWTIDE_CONFIG names it.
        environment: os.environ unless given.
        overrides: dotted name -> value from the command line.
    """
    given = _read(file, environment)
    wanted = (overrides or {}).get("instance") or given.values.get("instance")
    if wanted is None and len(given.instances) > 1:
        raise SettingsError(
            f"The settings tell of several instances ({', '.join(given.instances)}), and none is named.",
            hint=f"Name one: `rowtide --instance {next(iter(given.instances))} …`. Only `run` serves them all.",
        )
    return _loaded(given, str(wanted) if wanted is not None else next(iter(given.instances), None), overrides)


def load_instances(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    chosen: Sequence[str] = (),
) -> list[Loaded]:
    """Read all sources for the instances that a daemon serves: those chosen, else all that there are.

    Raises SettingsError naming setting and place, for one twice too.
    """
    given = _read(file, environment)
    alone = given.values.get("instance")
    names: list[str | None] = [*(chosen or ([str(alone)] if alone is not None else given.instances))] or [None]
    found = [_loaded(given, name, overrides) for name in names]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SettingsError(f"The instance {twice} is named twice.", hint="Name each once.")
    groups = [loaded.settings.log.group for loaded in found if loaded.settings.log.group]
    if twice := next((group for group in groups if groups.count(group) > 1), None):
        raise SettingsError(
            f"Several instances have the Kafka group {twice} (log.group).",
            hint="Leave log.group out (each has rowtide-INSTANCE then), or set it for each in [instances.NAME].",
        )
    return found


def _read(file: Path | None, environment: Mapping[str, str] | None) -> Given:
    files = [name for name, _ in names() if name.endswith("_file")]
    return read_given(file, os.environ if environment is None else environment, Settings.model_fields, files)


def _loaded(given: Given, instance: str | None, overrides: Mapping[str, Any] | None) -> Loaded:
    if instance is not None and given.instances and instance not in given.instances:
        raise SettingsError(
            f"The settings have no instance “{instance}”.",
            hint=f"They have: {', '.join(given.instances)}. Write [instances.{instance}] for another.",
        )
    own = given.of(instance)
    for name, value in (overrides or {}).items():
        if value is not None:
            own.put(name, value, "command line")
    try:
        return Loaded(Settings.model_validate(own.nested()), own.origins)
    except ValidationError as error:
        raise _explained(error, own.origins) from None


def names(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by dotted name, with its field."""
    for name, entry in model.model_fields.items():
        shown = entry.alias or name
        if isinstance(entry.annotation, type) and issubclass(entry.annotation, BaseModel):
            yield from names(entry.annotation, f"{prefix}{shown}.")
        else:
            yield f"{prefix}{shown}", entry


def _explained(error: ValidationError, origins: Mapping[str, str]) -> SettingsError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    place = next(
        (o for n, o in origins.items() if n == name or n.startswith(f"{name}.") or name.startswith(f"{n}.")),
        name,
    )
    known = [known for known, _ in names()]
    if first["type"] == "extra_forbidden":
        name = next((given for given in origins if given.startswith(f"{name}.")), name)
        close = difflib.get_close_matches(name, known, 1)
        return SettingsError(
            f"Unknown setting “{name}” ({place}).",
            hint=f"Did you mean “{close[0]}”?" if close else f"Known: {', '.join(known)}.",
        )
    reason = str(first["msg"]).removeprefix("Value error, ")
    return SettingsError(
        f"The setting {name} is wrong ({place}): {reason}.",
        hint="See `rowtide config show` and docs/configuration.md.",
    )


def _masked(value: Any) -> Any:
    """Settings of Kafka's client with what may be secret left out."""
    if isinstance(value, Mapping):
        return {name: "***" if _SECRET.search(name) else entry for name, entry in value.items()}
    return value


def shown(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Every setting as (name, value, origin); secrets are masked."""
    rows = []
    for name, _ in names():
        value: Any = loaded.settings
        for part in name.split("."):
            value = getattr(value, "db_schema" if part == "schema" else part)
        text = "***" if isinstance(value, SecretStr) else ("" if value is None else str(_masked(value)))
        origin = next((o for n, o in loaded.origins.items() if n == name or n.startswith(f"{name}.")), "default")
        rows.append((name, text, origin))
    return rows
