"""Statements in the binlog: what a statement does to which tables, as far as capture has to know.

This reads words, not grammar: enough to tell statements that change rows without logging rows from all others.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple


class Does(Enum):
    """What a statement does."""

    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    ROLLBACK_TO = "rollback to"
    XA = "xa"
    TRUNCATE = "truncate"
    DROP = "drop"  # the tables, or their rows, go or are exchanged
    ALTER = "alter"
    CREATE = "create"
    DROP_DATABASE = "drop database"
    WRITE = "write"  # changes rows as a statement
    CALL = "call"  # runs a routine as a statement
    OTHER = "other"


class Statement(NamedTuple):
    """A statement: what it does to which tables, as (database or empty, name). `name` is a savepoint's or database's."""

    does: Does
    tables: tuple[tuple[str, str], ...] = ()
    name: str = ""


_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | --(?=\s|$)[^\n]* | /\*(?![!M]).*?\*/ | /\*M?!\d* | \*/
    | (?P<quoted>`(?:[^`]|``)*`) | (?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    | (?P<word>[\w$\u0080-\uffff]+) | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_LONGEST = 20_000  # of a statement that is not read whole: its head tells what it does


class _Words:
    """A statement's words; quoted names keep their quote's meaning, texts are left out."""

    def __init__(self, text: str) -> None:
        self.items: list[tuple[str, bool]] = []  # (word, whether it was quoted)
        for match in _TOKEN.finditer(text):
            if match["quoted"] is not None:
                self.items.append((match["quoted"][1:-1].replace("``", "`"), True))
            elif match["word"] is not None:
                self.items.append((match["word"], False))
            elif match["text"] is not None:
                self.items.append((match["text"][1:-1], True) if match["text"][0] == '"' else ("''", True))
            elif match["mark"] is not None:
                self.items.append((match["mark"], False))
        self.at = 0

    def keyword(self, *wanted: str) -> bool:
        """Take one of the words, if it comes next."""
        if self.at < len(self.items):
            word, quoted = self.items[self.at]
            if not quoted and word.upper() in wanted:
                self.at += 1
                return True
        return False

    def skip(self, *unwanted: str) -> None:
        """Pass over as many of these words as come."""
        while self.keyword(*unwanted):
            pass

    def name(self) -> tuple[str, str]:
        """A table's name, with its database where given."""
        first = self._next()
        if self.keyword("."):
            return first, self._next()
        return "", first

    def names(self) -> tuple[tuple[str, str], ...]:
        """Names with commas between."""
        found = [self.name()]
        while self.keyword(","):
            found.append(self.name())
        return tuple(found)

    def _next(self) -> str:
        word = self.items[self.at][0] if self.at < len(self.items) else ""
        self.at += 1
        return word

    def upper(self) -> list[str]:
        """All words that are not quoted, from here on."""
        return ["" if quoted else word.upper() for word, quoted in self.items[self.at :]]


def read_statement(text: str) -> Statement:
    """What a statement of the binlog does."""
    words = _Words(text if len(text) < _LONGEST else text[:_LONGEST])
    head = _head(words)
    if head is not None:
        return head
    start = words.at
    if words.keyword("INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "WITH", "MERGE"):
        mentioned = tuple(("", word) for word, _ in _Words(text).items)
        return Statement(Does.WRITE, mentioned)
    if words.keyword("SELECT", "CALL", "DO"):
        return Statement(Does.CALL)
    words.at = start
    return Statement(Does.OTHER)


def _head(words: _Words) -> Statement | None:
    if words.keyword("BEGIN") or (words.keyword("START") and words.keyword("TRANSACTION")):
        return Statement(Does.BEGIN)
    if words.keyword("COMMIT"):
        return Statement(Does.COMMIT)
    if words.keyword("SAVEPOINT"):
        return Statement(Does.SAVEPOINT, name=words.name()[1])
    if words.keyword("ROLLBACK"):
        words.skip("WORK")
        if words.keyword("TO"):
            words.skip("SAVEPOINT")
            return Statement(Does.ROLLBACK_TO, name=words.name()[1])
        return Statement(Does.ROLLBACK)
    if words.keyword("XA"):
        return Statement(Does.XA, name=" ".join(words.upper()[:1]))
    if words.keyword("TRUNCATE"):
        words.skip("TABLE")
        return Statement(Does.TRUNCATE, (words.name(),))
    if words.keyword("DROP"):
        return _drop(words)
    if words.keyword("RENAME"):
        return _rename(words)
    if words.keyword("CREATE"):
        return _create(words)
    if words.keyword("ALTER"):
        return _alter(words)
    return None


def _drop(words: _Words) -> Statement:
    if words.keyword("TEMPORARY"):
        return Statement(Does.OTHER)
    if words.keyword("DATABASE", "SCHEMA"):
        words.skip("IF", "EXISTS")
        return Statement(Does.DROP_DATABASE, name=words.name()[1])
    if words.keyword("TABLE", "TABLES"):
        words.skip("IF", "EXISTS")
        return Statement(Does.DROP, words.names())
    return Statement(Does.CREATE)  # an index, a trigger, a routine: a change of the schema


def _rename(words: _Words) -> Statement:
    if not words.keyword("TABLE", "TABLES"):
        return Statement(Does.OTHER)
    words.skip("IF", "EXISTS")
    found = [words.name()]
    while words.at < len(words.items):
        if words.keyword("TO", ","):
            found.append(words.name())
        else:
            words.at += 1  # WAIT n, NOWAIT
    return Statement(Does.DROP, tuple(found))


def _create(words: _Words) -> Statement:
    replaces = words.keyword("OR") and words.keyword("REPLACE")
    if words.keyword("TEMPORARY") or not words.keyword("TABLE"):
        return Statement(Does.CREATE)
    words.skip("IF", "NOT", "EXISTS")
    return Statement(Does.DROP if replaces else Does.CREATE, (words.name(),))


def _alter(words: _Words) -> Statement:
    words.skip("ONLINE", "OFFLINE", "IGNORE")
    if not words.keyword("TABLE"):
        return Statement(Does.CREATE)
    words.skip("IF", "EXISTS")
    table = words.name()
    tables, does = [table], Does.ALTER
    depth = 0
    begin = True  # of one of the changes that commas divide
    while words.at < len(words.items):
        if words.keyword("("):
            depth += 1
        elif words.keyword(")"):
            depth -= 1
        elif depth == 0 and words.keyword(","):
            begin = True
            continue
        elif begin and depth == 0 and words.keyword("RENAME"):
            if not words.keyword("COLUMN", "INDEX", "KEY"):
                words.skip("TO", "AS", "=")
                tables.append(words.name())
                does = Does.DROP
        elif begin and depth == 0 and words.keyword("DROP", "TRUNCATE", "EXCHANGE", "DISCARD", "IMPORT"):
            if words.keyword("PARTITION", "TABLESPACE"):
                does = Does.DROP
        elif begin and depth == 0 and words.keyword("CONVERT"):
            if words.keyword("PARTITION", "TABLE"):
                does = Does.DROP
        else:
            words.at += 1
        begin = False
    return Statement(does, tuple(tables))
