"""What the source's information_schema says about the captured tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from connectors.capture.mysql.connection import Connection, quoted, rows
from connectors.capture.mysql.types import Shape, named_shape
from connectors.event import ForeignKey
from connectors.table import Table

log = structlog.get_logger()


class SourceColumn(NamedTuple):
    """A column of the source.

    Args:
        definition: what its values depend on beside rows: type, expression of a generated column.
        empty: whether rows that were there before the column have NULL in it.
    """

    name: str
    shape: Shape
    definition: str
    empty: bool


class SourceTable(NamedTuple):
    """A table of the source.

    Args:
        name: as the source spells it.
        columns: by the name in lower case.
        key: the primary key's columns in order, in lower case.
        transactional: whether a snapshot holds for it.
        estimate: the source's guess of its rows.
    """

    name: str
    columns: Mapping[str, SourceColumn]
    key: tuple[str, ...]
    transactional: bool
    estimate: int

    def plain_bytes(self) -> dict[str, str]:
        """The columns that the binlog shows as plain bytes although they are more."""
        return {name: c.shape.kind for name, c in self.columns.items() if c.shape.kind in ("uuid", "inet")}

    def definitions(self, table: Table) -> dict[str, str]:
        """The definitions of the declared columns that the source has."""
        lower = [name.lower() for name in table.names]
        return {name: self.columns[name].definition for name in lower if name in self.columns}


def read_tables(
    connection: Connection, database: str, tables: Sequence[Table], *, folds_names: bool
) -> dict[str, SourceTable]:
    """The source's tables that are declared and visible to us, by declared name."""
    found = rows(
        connection,
        "SELECT TABLE_NAME, ENGINE, TABLE_ROWS FROM information_schema.TABLES "
        "WHERE TABLE_SCHEMA = %s AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')",
        [database],
    )
    columns: dict[str, dict[str, SourceColumn]] = {}
    for table, name, data_type, column_type, nullable, default, extra, expression in rows(
        connection,
        "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, "
        "GENERATION_EXPRESSION FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s",
        [database],
    ):
        type_ = (column_type or "").lower() if data_type not in ("enum", "set") else column_type or ""
        generated = "GENERATED" in (extra or "") and bool(expression)
        columns.setdefault(table or "", {})[(name or "").lower()] = SourceColumn(
            name or "",
            named_shape((data_type or "").lower(), type_),
            f"{type_} {expression}" if generated else type_,
            nullable == "YES" and default in (None, "NULL") and not generated,
        )
    keys: dict[str, list[str]] = {}
    for table, name in rows(
        connection,
        "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS "
        "WHERE TABLE_SCHEMA = %s AND INDEX_NAME = 'PRIMARY' ORDER BY TABLE_NAME, SEQ_IN_INDEX",
        [database],
    ):
        keys.setdefault(table or "", []).append((name or "").lower())
    described = {
        name or "": SourceTable(
            name or "",
            columns.get(name or "", {}),
            tuple(keys.get(name or "", ())),
            engine == "InnoDB",
            int(count or 0),
        )
        for name, engine, count in found
    }
    folded = {name.lower(): table for name, table in described.items()} if folds_names else {}
    chosen = {table.name: described.get(table.name) or folded.get(table.name.lower()) for table in tables}
    return {name: table for name, table in chosen.items() if table is not None}


_NAME = r"`((?:[^`]|``)+)`"
_NAMES = r"\(((?:`(?:[^`]|``)+`(?:, ?)?)+)\)"
_ACTION = r"(CASCADE|SET NULL|SET DEFAULT|RESTRICT|NO ACTION)"
_FOREIGN_KEY = re.compile(
    rf"^  CONSTRAINT {_NAME} FOREIGN KEY (?:{_NAME} )?{_NAMES} REFERENCES (?:{_NAME}\.)?{_NAME} {_NAMES}"
    rf"(?: ON DELETE {_ACTION})?(?: ON UPDATE {_ACTION})?,?$",
    re.MULTILINE,
)


def foreign_keys(
    connection: Connection, database: str, tables: Sequence[Table], found: Mapping[str, SourceTable]
) -> list[ForeignKey]:
    """The foreign keys between declared tables, as declared names spell them.

    One that leads to a table which is not declared changes rows by CASCADE or SET NULL without any trace in what is
    captured: that is logged as a warning. They are read from SHOW CREATE TABLE: information_schema shows them only
    to users who may do more than read.

    Args:
        connection: of the capturing user.
        database: the source's.
        tables: those declared.
        found: the same as the source has them.
    """
    spelled = {table.name.lower(): table for table in tables}
    keys = []
    for table in tables:
        if table.name not in found:
            continue
        text = rows(connection, f"SHOW CREATE TABLE {quoted(database)}.{quoted(found[table.name].name)}")[0][1] or ""
        for match in _FOREIGN_KEY.finditer(text):
            name, _, columns, schema, parent, parent_columns, on_delete, on_update = match.groups()
            on_delete, on_update = on_delete or "RESTRICT", on_update or "RESTRICT"
            above = spelled.get(_plain(parent).lower()) if not schema or _plain(schema) == database else None
            if above is None:
                if not {on_delete, on_update} <= {"RESTRICT", "NO ACTION"}:
                    log.warning(
                        "capture.cascade_unseen", table=table.name, parent=_plain(parent), constraint=_plain(name)
                    )
                continue
            keys.append(
                ForeignKey(
                    _plain(name),
                    table.name,
                    tuple(_spelled(table, column) for column in re.findall(_NAME, columns)),
                    above.name,
                    tuple(_spelled(above, column) for column in re.findall(_NAME, parent_columns)),
                    on_delete,
                    on_update,
                )
            )
    return keys


def _plain(name: str) -> str:
    return name.replace("``", "`")


def _spelled(table: Table, column: str) -> str:
    """A column's name as the declaration spells it, or as the source does where it is not declared."""
    lower = {name.lower(): name for name in table.names}
    return lower.get(_plain(column).lower(), _plain(column))
