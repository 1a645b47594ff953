"""A source whose foreign keys do much without telling, and a mirror that is to follow: for the tests of cascades."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from connectors.event import Change, ForeignKey, Truncate
from connectors.log import Record
from connectors.pipe import Pipe
from connectors.table import Column, Table
from consumers.engine.cascades import Cascades
from consumers.engine.mirror import Mirror
from consumers.engine.relations import describe
from consumers.engine.statements import Input
from consumers.engine.units import Unit


def table(name: str, columns: str, key: str) -> Table:
    """A table from `name type, …`; the key's columns are NOT NULL."""
    keys = tuple(key.split())
    parts = [part.strip().partition(" ") for part in columns.split(",")]
    return Table(name, tuple(Column(n, t, nullable=n not in keys) for n, _, t in parts), keys)


# Four levels, a tree in one table, a reference to a unique column, composite keys, a key that is itself a reference,
# a cycle of two tables, and one that forbids.
TABLES = {
    t.name: t
    for t in (
        table("g", "id integer, code text, up integer, v integer", "id"),
        table("p", "a integer, b text, g_id integer, g_code text, chief integer", "a b"),
        table("c", "id integer, a integer, b text, note text", "id"),
        table("k", "b text, n integer, a integer, v text", "a b n"),
        table("l", "id integer, ka integer, kb text, kn integer, w text", "id"),
        table("r", "id integer, c_id integer", "id"),
    )
}
KEYS = [
    ForeignKey("up", "g", ("up",), "g", ("id",), "CASCADE", "RESTRICT"),
    ForeignKey("g_id", "p", ("g_id",), "g", ("id",), "SET NULL", "CASCADE"),
    ForeignKey("g_code", "p", ("g_code",), "g", ("code",), "CASCADE", "SET NULL"),
    ForeignKey("chief", "p", ("chief",), "c", ("id",), "SET NULL", "SET NULL"),
    ForeignKey("p_of_c", "c", ("a", "b"), "p", ("a", "b"), "CASCADE", "CASCADE"),
    ForeignKey("p_of_k", "k", ("a", "b"), "p", ("a", "b"), "CASCADE", "CASCADE"),
    ForeignKey("k_of_l", "l", ("ka", "kb", "kn"), "k", ("a", "b", "n"), "SET NULL", "CASCADE"),
    ForeignKey("c_of_r", "r", ("c_id",), "c", ("id",), "RESTRICT", "CASCADE"),
]


def create(
    tables: Mapping[str, Table], prefix: str = "", types: Mapping[str, str] | None = None, *, mirror: bool = False
) -> list[str]:
    """CREATE TABLE statements, without foreign keys; `types` are the source's names for PostgreSQL's types."""
    statements = []
    for found in tables.values():
        columns = [
            f"{c.name} {(types or {}).get(c.type, c.type)}{'' if c.nullable else ' NOT NULL'}" for c in found.columns
        ]
        unique = ", UNIQUE (code)" if found.name == "g" and not mirror else ""
        statements.append(
            f"CREATE TABLE {prefix}{found.name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(found.key)}){unique})"
        )
    return statements


def constrain(keys: Sequence[ForeignKey], prefix: str = "") -> list[str]:
    """ALTER TABLE statements that add the foreign keys."""
    return [
        f"ALTER TABLE {prefix}{k.table} ADD CONSTRAINT {k.name} FOREIGN KEY ({', '.join(k.columns)}) "
        f"REFERENCES {prefix}{k.parent} ({', '.join(k.parent_columns)}) "
        f"ON DELETE {k.on_delete} ON UPDATE {k.on_update}"
        for k in keys
    ]


class Following:
    """A mirror of TABLES, written by units through the cascades.

    Args:
        connection: to the state database, where the schema `mirror` is made.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], tables: Mapping[str, Table], keys: Sequence[ForeignKey]
    ) -> None:
        self.connection = connection
        self.tables = tables
        connection.execute("CREATE SCHEMA mirror")
        connection.execute("SET search_path = mirror")
        for statement in create(tables, mirror=True):
            connection.execute(statement)
        inputs = {name: Input(describe(connection, "mirror", name, found.key)) for name, found in tables.items()}
        self.mirror = Mirror(tables, inputs)
        self.cascades = Cascades(tables, keys)
        self.pipe = Pipe(connection)

    def apply(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Apply units as one batch. Returns them as expanded."""
        expanded = self.cascades.expand(self.pipe, units)
        self.mirror.apply(self.pipe, [placed.event for unit in expanded for placed in unit.changes])
        self.connection.commit()
        return expanded

    def rows(self) -> dict[str, list[tuple[str | None, ...]]]:
        """Every table's rows as text, sorted."""
        return {name: rows(self.connection, found, "mirror.") for name, found in self.tables.items()}


def rows(connection: psycopg.Connection[Any], found: Table, prefix: str = "") -> list[tuple[str | None, ...]]:
    items = ", ".join(f'"{name}"::text' for name in found.names)
    listed = connection.execute(f"SELECT {items} FROM {prefix}{found.name}").fetchall()
    return sorted(listed, key=repr)


def unit(changes: Sequence[Change | Truncate], offset: int) -> Unit:
    """One source transaction."""
    made = Unit()
    for number, change in enumerate(changes):
        made.add(Record("t", 0, offset + number, 0, None, b""), change)
    return made


def random_statement(rng: random.Random) -> tuple[str, str, str | None]:
    """A random statement on TABLES: the table, its condition, and what it does (None: DELETE; `INSERT…`; else SET…).

    The condition names rows by ranges of small numbers, so that one statement often changes several.
    """
    n = lambda high=6: rng.randint(1, high)  # noqa: E731 - used a dozen times in one expression each
    word = lambda: rng.choice(["'x'", "'y'"])  # noqa: E731
    null = lambda text: "NULL" if rng.random() < 0.25 else text  # noqa: E731
    code = lambda: f"'code{n(4)}'"  # noqa: E731
    name = rng.choice(["g", "g", "p", "p", "c", "k", "l", "r"])
    inserts = {
        "g": lambda: f"({n(5)}, {null(code())}, {null(str(n(5)))}, {n()})",
        "p": lambda: f"({n(2)}, {word()}, {null(str(n(5)))}, {null(code())}, {null(str(n(6)))})",
        "c": lambda: f"({n(6)}, {null(str(n(2)))}, {word()}, 'n{n()}')",
        "k": lambda: f"({word()}, {n(3)}, {n(2)}, 'v{n()}')",
        "l": lambda: f"({n(6)}, {null(str(n(2)))}, {word()}, {n(3)}, 'w{n()}')",
        "r": lambda: f"({n(6)}, {null(str(n(6)))})",
    }
    if rng.random() < 0.65:
        return name, "", f"INSERT INTO {{}}{name} VALUES {inserts[name]()}"
    single = {"p": "a", "k": "n"}.get(name, "id")
    condition = rng.choice([f"{single} = {n(6)}", f"{single} = {n(6)}", f"{single} BETWEEN {n(3)} AND {n(6)}"])
    if rng.random() < 0.4:
        return name, condition, None
    sets = {
        "g": [f"id = id + {n(6)}", f"id = {n(6)}", f"code = {null(code())}", f"up = {null(str(n(5)))}", f"v = {n()}"],
        "p": [f"a = {n(2)}", f"b = {word()}", f"g_id = {null(str(n(5)))}", f"g_code = {code()}", f"chief = {n(6)}"],
        "c": [f"id = {n(6)}", f"a = {n(2)}, b = {word()}", f"note = 'm{n()}'"],
        "k": [f"n = {n(3)}", f"a = {n(2)}", f"v = 'u{n()}'"],
        "l": [f"ka = {null(str(n(2)))}", f"w = 'q{n()}'"],
        "r": [f"c_id = {null(str(n(6)))}", f"id = {n(6)}"],
    }
    return name, condition, rng.choice(sets[name])
