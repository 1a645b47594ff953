"""A domain: a folder of SQL. Reads and checks the folder; what its models mean is the engine's business."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from connectors.errors import RowtideError
from connectors.table import Column, Table
from consumers.engine.modelfile import ModelFile, read_header, read_model
from consumers.push import CustomerPush, read_push
from consumers.writeback import WriteBack, read_write_backs

BUILT_IN = Path(__file__).parent
PARAMETERS_KEY = "_one"  # the key of the one-row table `params`; models do not see it
RESERVED = frozenset({"clock", "params"})

_TYPES = {
    "int": "integer",
    "int4": "integer",
    "int2": "smallint",
    "int8": "bigint",
    "serial": "integer",
    "bigserial": "bigint",
    "smallserial": "smallint",
    "float": "double precision",
    "float4": "real",
    "float8": "double precision",
    "double": "double precision",
    "decimal": "numeric",
    "bool": "boolean",
    "varchar": "character varying",
    "char": "character",
    "bpchar": "character",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
    "varbit": "bit varying",
}


class DomainError(RowtideError):
    """The folder of a domain cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Parameter:
    """A value that models read from the one-row table `params`."""

    name: str
    type: str
    default: str | None
    help: str = ""


@dataclass(frozen=True)
class SqlFile:
    """A view, check, query or report: its name, header entries and text."""

    name: str
    path: Path
    header: Mapping[str, str]
    sql: str

    @property
    def title(self) -> str:
        """The `-- title:` line, or the name."""
        return self.header.get("title") or self.name.replace("_", " ").replace("-", " ")


@dataclass(frozen=True)
class Domain:
    """Everything a folder declares.

    Args:
        name: the folder's name, or that of one of several instances; also the name of the schema.
        tables: the source tables.
        inputs: tables of ours, changed by commands through the log.
        parameters: the columns of `params`.
        topics: where the source's events come from.
        models, views, checks, queries, reports: by name.
        write_back: what is written to the source, by name.
        push: the customers that are pushed to QuickBooks, if any.
    """

    name: str
    folder: Path
    title: str
    description: str
    tables: Mapping[str, Table]
    inputs: Mapping[str, Table]
    parameters: tuple[Parameter, ...]
    topics: tuple[str, ...]
    models: Mapping[str, ModelFile]
    views: Mapping[str, SqlFile] = field(default_factory=dict)
    checks: Mapping[str, SqlFile] = field(default_factory=dict)
    queries: Mapping[str, SqlFile] = field(default_factory=dict)
    reports: Mapping[str, SqlFile] = field(default_factory=dict)
    write_back: Mapping[str, WriteBack] = field(default_factory=dict)
    push: CustomerPush | None = None

    @property
    def kind(self) -> str:
        """What its instances have in common: the folder's name."""
        return _plain(self.folder)

    @property
    def own_topic(self) -> str:
        """The topic of what does not come from the source: parameters, inputs by command, the passing of time."""
        return f"rowtide.{self.name}"

    @property
    def params_table(self) -> Table:
        """The one-row table of parameters."""
        columns = [Column(PARAMETERS_KEY, "integer", nullable=False)]
        return Table("params", (*columns, *(Column(p.name, p.type) for p in self.parameters)), (PARAMETERS_KEY,))

    @property
    def mirror_tables(self) -> dict[str, Table]:
        """All tables that events can change."""
        return {**self.tables, **self.inputs, "params": self.params_table}

    @property
    def fingerprint(self) -> str:
        """Changes when the tables, models or views change: then what is stored no longer fits."""
        digest = hashlib.sha256()
        for table in [*self.tables.values(), *self.inputs.values(), self.params_table]:
            digest.update(repr(table).encode())
        for model in self.models.values():
            parts = (model.name, model.sql, model.key, model.changes_at, model.history, model.keep)
            digest.update(repr((*parts, sorted((k, v.sql()) for k, v in (model.affects or {}).items()))).encode())
        for view in self.views.values():
            digest.update(repr((view.name, view.sql)).encode())
        return digest.hexdigest()


def _plain(folder: Path) -> str:
    return re.sub(r"[^a-z0-9_]", "_", folder.name.lower())


def find_domain(reference: str) -> Path:
    """The folder of a domain given by the name of a built-in one or by a path."""
    built_in = BUILT_IN / reference
    if re.fullmatch(r"[a-z_]+", reference) and (built_in / "source.sql").exists():
        return built_in
    folder = Path(reference).expanduser()
    if (folder / "source.sql").exists():
        return folder.resolve()
    names = sorted(path.parent.name for path in BUILT_IN.glob("*/source.sql"))
    if folder.is_dir():
        raise DomainError(
            f"The folder {folder} is not a domain: it has no source.sql.",
            hint="Write source.sql with a CREATE TABLE for each table to read, and models/NAME.sql.",
        )
    raise DomainError(
        f"There is no domain “{reference}”.",
        hint=f"Name a built-in domain ({', '.join(names)}) or the path of a folder with a source.sql.",
    )


def load_domain(reference: str) -> Domain:
    """Read a domain's folder. Raises DomainError or ModelRefusedError with file, line and way out."""
    folder = find_domain(reference)
    name = _plain(folder)
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or name.startswith("pg_") or name in {"public", "rowtide"}:
        raise DomainError(
            f"The folder's name “{folder.name}” cannot name a schema.",
            hint="Rename it: lower-case letters, digits, _.",
        )
    settings = _read_toml(folder / "domain.toml")
    source = settings.get("source", {})
    tables = _read_tables(folder / "source.sql")
    for table, columns in source.get("optional", {}).items():
        if table not in tables:
            raise DomainError(
                f"{folder / 'domain.toml'}: [source.optional] names “{table}”, which source.sql does not declare.",
                hint=f"Declared: {', '.join(sorted(tables))}.",
            )
        tables[table] = replace(
            tables[table],
            columns=tuple(replace(c, optional=c.optional or c.name in columns) for c in tables[table].columns),
        )
    inputs = _read_tables(folder / "inputs.sql") if (folder / "inputs.sql").exists() else {}
    _refuse_twice([*tables, *inputs, *RESERVED], folder, "table")
    paths = _sql_files(folder / "models")
    _refuse_twice([path.stem for path in paths], folder, "model")
    models = {path.stem: read_model(path) for path in paths}
    if not models:
        raise DomainError(
            f"{folder} has no models.", hint="Write models/NAME.sql with a `-- key:` line and one SELECT."
        )
    domain = Domain(
        name=name,
        folder=folder,
        title=str(settings.get("title", name)),
        description=str(settings.get("description", "")),
        tables=tables,
        inputs=inputs,
        parameters=_parameters(folder / "domain.toml", settings.get("parameters", {})),
        topics=tuple(source.get("topics", [name])),
        models=models,
        write_back=read_write_backs(
            folder / "domain.toml", settings.get("write_back", {}), tables, {n: m.key for n, m in models.items()}
        ),
        push=read_push(folder / "domain.toml", settings.get("push", {}), models, inputs),
        **{kind: {p.stem: _read_sql(p) for p in _sql_files(folder / kind)}
           for kind in ("views", "checks", "queries", "reports")},
    )  # fmt: skip
    histories = [m.history.name for m in models.values() if m.history]
    kept = [m.keep for m in models.values() if m.keep]
    _refuse_twice(
        [*tables, *inputs, *RESERVED, *models, *histories, *kept, *domain.views],
        folder,
        "table, model or view",
    )
    return domain


def _refuse_twice(names: list[str], folder: Path, kind: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DomainError(
                f"{folder}: “{name}” names more than one {kind}.",
                hint="Rename one of them; `clock` and `params` are taken, and so are the tables of history and keep.",
            )
        seen.add(name)


def _sql_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.sql")) if folder.is_dir() else []


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DomainError(f"{path}: not UTF-8 at byte {error.start}.", hint="Save the file as UTF-8.") from None


def _read_sql(path: Path) -> SqlFile:
    text = _read_text(path)
    header, _, _ = read_header(text)
    return SqlFile(path.stem, path, header, text)


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DomainError(f"{path}: {error}", hint="Correct the file; see the example in docs/domains.md.") from None
    known = {"title", "description", "source", "parameters", "write_back", "push"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise DomainError(f"{path}: unknown entry “{unknown[0]}”.", hint=f"Known: {', '.join(sorted(known))}.")
    return settings


def _parameters(path: Path, entries: Mapping[str, Any]) -> tuple[Parameter, ...]:
    parameters = []
    for name, entry in entries.items():
        if not isinstance(entry, Mapping) or "type" not in entry:
            raise DomainError(
                f"{path}: [parameters.{name}] needs a type.",
                hint='For example: type = "numeric(10,2)", default = "1.50".',
            )
        default = entry.get("default")
        text = None if default is None else (str(default).lower() if isinstance(default, bool) else str(default))
        parameters.append(Parameter(name, canonical_type(str(entry["type"])), text, str(entry.get("help", ""))))
    return tuple(parameters)


def canonical_type(text: str) -> str:
    """A PostgreSQL type as `format_type` prints it."""
    match = re.fullmatch(
        r"\s*([a-z_][a-z0-9_ ]*?)\s*(\(\s*\d+\s*(?:,\s*-?\d+\s*)?\))?\s*((?: with| without) time zone)?\s*((?:\[\])*)\s*",
        text.lower(),
    )
    if match is None:
        return text.strip().lower()
    base, size, zone, array = match.groups()
    base = _TYPES.get(" ".join(base.split()), " ".join(base.split()))
    size = re.sub(r"\s", "", size or "")
    if base in {
        "timestamp without time zone",
        "timestamp with time zone",
        "time without time zone",
        "time with time zone",
    }:
        first, _, rest = base.partition(" ")
        rest = (zone or f" {rest}").strip()
        return f"{first}{size} {rest}{array}"
    if base == "character" and not size:
        size = "(1)"
    return f"{base}{size}{array}"


def _read_tables(path: Path) -> dict[str, Table]:
    """The CREATE TABLE statements of a file. Raises DomainError naming the line."""
    text = _read_text(path)
    try:
        statements = [s for s in sqlglot.parse(text, dialect="postgres") if s is not None]
    except SqlglotError as error:
        first = str(error).split("\n", 1)[0].replace("\x1b[4m", "").replace("\x1b[0m", "")
        raise DomainError(
            f"{path}: {first}", hint="Write plain CREATE TABLE statements with PostgreSQL types."
        ) from None
    tables: dict[str, Table] = {}
    for statement in statements:
        if (
            not isinstance(statement, exp.Create)
            or statement.kind != "TABLE"
            or not isinstance(statement.this, exp.Schema)
        ):
            raise DomainError(
                f"{path}: only CREATE TABLE statements belong here, not “{statement.sql()[:40]}…”.",
                hint="Put queries into models/, views/, checks/ or queries/.",
            )
        table = _table(path, statement)
        if table.name in tables:
            raise DomainError(f"{path}: the table “{table.name}” is declared twice.", hint="Remove one declaration.")
        tables[table.name] = table
    if not tables:
        raise DomainError(f"{path} declares no table.", hint="Write a CREATE TABLE for each table to read.")
    return tables


def _table(path: Path, statement: exp.Create) -> Table:
    schema = statement.this
    name = schema.this.name
    columns: list[Column] = []
    key: list[str] = []
    for item in schema.expressions:
        if isinstance(item, exp.ColumnDef):
            constraints = [c.kind for c in item.args.get("constraints") or []]
            primary = any(isinstance(kind, exp.PrimaryKeyColumnConstraint) for kind in constraints)
            required = any(
                isinstance(k, exp.NotNullColumnConstraint) and not k.args.get("allow_null") for k in constraints
            )
            if item.kind is None:
                raise DomainError(f"{path}: {name}.{item.name} has no type.", hint="Give it a PostgreSQL type.")
            columns.append(
                Column(item.name, canonical_type(item.kind.sql("postgres")), nullable=not (primary or required))
            )
            key += [item.name] if primary else []
        elif isinstance(item, exp.PrimaryKey):
            key = [part.name for part in item.expressions]
        elif isinstance(item, exp.Constraint):
            for part in item.expressions:
                if isinstance(part, exp.PrimaryKey):
                    key = [column.name for column in part.expressions]
    if not key:
        raise DomainError(
            f"{path}: the table “{name}” has no PRIMARY KEY.",
            hint="A table without a key cannot be mirrored row by row: declare one, or leave the table out.",
        )
    missing = [part for part in key if part not in {column.name for column in columns}]
    if missing:
        raise DomainError(
            f"{path}: the key of “{name}” names “{missing[0]}”, which it does not declare.", hint="Add it."
        )
    return Table(name, tuple(replace(c, nullable=c.nullable and c.name not in key) for c in columns), tuple(key))
