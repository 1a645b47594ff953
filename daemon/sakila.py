"""Loads the Sakila data set, whose files are in MySQL's dialect, into a PostgreSQL: types and rows as they are.

TINYINT, SMALLINT and MEDIUMINT UNSIGNED become the integer type that holds them, DECIMAL numeric, DATETIME and
TIMESTAMP timestamp, YEAR smallint, ENUM text with a CHECK, SET text[], BLOB and GEOMETRY bytea. Views, triggers and
procedures stay behind.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from connectors.errors import RowtideError

_TYPES = {
    "TINYINT": "smallint",
    "SMALLINT": "integer",
    "MEDIUMINT": "integer",
    "INT": "integer",
    "DATETIME": "timestamp",
    "TIMESTAMP": "timestamp",
    "YEAR": "smallint",
    "BLOB": "bytea",
    "GEOMETRY": "bytea",
    "BOOLEAN": "boolean",
    "TEXT": "text",
}
_COLUMN = re.compile(r"`?(\w+)`?\s+([A-Z]+)\s*(\([^)]*\))?(.*)", re.DOTALL)
_TOKEN = re.compile(
    r"""'((?:[^'\\]|\\.|'')*)'|(0x[0-9A-Fa-f]+)|(NULL)|(-?\d+(?:\.\d+)?)|(_binary|/\*!\d+|\*/)|([(),;])|(\s+)""",
    re.DOTALL | re.IGNORECASE,
)
_ESCAPES = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a"}


def load_sakila(
    folder: Path, dsn: str, *, schema: str = "public", on_progress: Callable[[str, int], None] | None = None
) -> dict[str, int]:
    """Create the tables and copy the rows. Returns rows per table. Raises RowtideError where files are missing."""
    definition, data = folder / "sakila-schema.sql", folder / "sakila-data.sql.gz"
    for path in (definition, data):
        if not path.is_file():
            raise RowtideError(
                f"There is no {path}.", hint="--data names the folder with sakila-schema.sql and sakila-data.sql.gz."
            )
    tables = read_tables(definition.read_text(encoding="utf-8"))
    counts: dict[str, int] = {}
    with psycopg.connect(dsn) as connection:
        connection.execute(f'SET search_path = "{schema}"')
        for name, (columns, key) in tables.items():
            body = ", ".join(f'"{column}" {type_}' for column, (type_, _) in columns.items())
            connection.execute(f'CREATE TABLE "{name}" ({body}, PRIMARY KEY ({", ".join(key)}))')
        for name, rows in _statements(data):
            columns = tables[name][0]
            kinds = [kind for _, kind in columns.values()]
            with connection.cursor().copy(f'COPY "{name}" FROM STDIN') as copy:
                for row in rows:
                    copy.write_row([_value(value, kind) for value, kind in zip(row, kinds, strict=True)])
                    counts[name] = counts.get(name, 0) + 1
            if on_progress is not None:
                on_progress(name, counts.get(name, 0))
        # In MySQL triggers fill it from film.
        filled = connection.execute(
            "INSERT INTO film_text SELECT film_id, title, description FROM film ON CONFLICT DO NOTHING"
        )
        counts["film_text"] = counts.get("film_text", 0) + filled.rowcount
    return counts


def read_tables(text: str) -> dict[str, tuple[dict[str, tuple[str, str]], list[str]]]:
    """The CREATE TABLE statements: name -> (column -> (PostgreSQL type with constraints, MySQL type), key)."""
    text = re.sub(r"/\*!\d+\s?(.*?)\*/", r"\1", text, flags=re.DOTALL)
    tables = {}
    for match in re.finditer(r"CREATE TABLE (\w+) \((.*?)\n\)\s*ENGINE", text, re.DOTALL):
        columns: dict[str, tuple[str, str]] = {}
        key: list[str] = []
        for item in _split(match[2]):
            head = item.split(None, 1)[0].upper()
            if head == "PRIMARY":
                key = re.findall(r"\w+", item[item.index("(") :])
            elif head not in ("KEY", "UNIQUE", "CONSTRAINT", "FULLTEXT", "SPATIAL"):
                column = _COLUMN.match(item)
                if column is not None:
                    columns[column[1]] = (_type(*column.groups()), column[2].upper())
        tables[match[1]] = (columns, key)
    return tables


def _split(body: str) -> list[str]:
    """The parts between top-level commas."""
    parts, depth, start, quoted = [], 0, 0, False
    for position, character in enumerate(body):
        if character == "'":
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
        elif not quoted and character == "," and depth == 0:
            parts.append(body[start:position].strip())
            start = position + 1
    parts.append(body[start:].strip())
    return [part for part in parts if part]


def _type(name: str, kind: str, size: str | None, rest: str) -> str:
    required = " NOT NULL" if "NOT NULL" in rest.upper() else ""
    if kind == "ENUM":
        return f"text{required} CHECK ({name} IN {size})"
    if kind == "SET":
        return f"text[]{required}"
    if kind in ("VARCHAR", "CHAR"):
        return f"varchar{size}{required}"
    if kind == "DECIMAL":
        return f"numeric{size}{required}"
    return _TYPES[kind] + required


def _statements(path: Path) -> Iterator[tuple[str, Iterator[list[Any]]]]:
    """Each INSERT of the data file: its table and its rows."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        statement: list[str] = []
        for line in lines:
            if not statement and not line.startswith("INSERT INTO"):
                continue
            statement.append(line)
            if line.rstrip().endswith(";"):
                text = "".join(statement)
                statement = []
                match = re.match(r"INSERT INTO `?(\w+)`?\s+VALUES\s*", text)
                if match is not None:
                    yield match[1], _rows(text, match.end())


def _rows(text: str, position: int) -> Iterator[list[Any]]:
    row: list[Any] = []
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise RowtideError(f"The Sakila data cannot be read near “{text[position : position + 30]}”.")
        position = token.end()
        if token[1] is not None:
            row.append(re.sub(r"\\(.)|''", _unescape, token[1], flags=re.DOTALL))
        elif token[2]:
            row.append(bytes.fromhex(token[2][2:]))
        elif token[3]:
            row.append(None)
        elif token[4]:
            row.append(token[4])
        elif token[6] == "(":
            row = []
        elif token[6] == ")":
            yield row


def _unescape(match: re.Match[str]) -> str:
    return "'" if match[1] is None else _ESCAPES.get(match[1], match[1])


def _value(value: Any, kind: str) -> Any:
    if value is None or isinstance(value, bytes):
        return value
    if kind == "SET":
        return value.split(",") if value else []
    if kind in ("BLOB", "GEOMETRY"):
        return value.encode("latin-1", "replace")
    if kind == "BOOLEAN":
        return value not in ("0", "")
    return value
