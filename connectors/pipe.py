"""Statements sent together: those that need not wait for each other's answers cost one round trip, however many.

The server runs them one after the other, in the order they were given, each seeing what those before it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import psycopg

Cursor: TypeAlias = "psycopg.RawCursor[tuple[Any, ...]]"
Rows = Sequence[tuple[Any, ...]]


class _Statement(NamedTuple):
    sql: str
    parameters: Sequence[Any]
    then: Callable[[Rows], object] | None
    failed: Callable[[psycopg.Error], Exception] | None
    prepare: bool


class Pipe:
    """Collects statements and sends them to one connection. Not thread-safe.

    Args:
        connection: whose transactions are somebody else's business.
    """

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._cursor: Cursor = psycopg.RawCursor(connection)
        self._waiting: list[_Statement] = []

    def later(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        then: Callable[[Rows], object] | None = None,
        *,
        failed: Callable[[psycopg.Error], Exception] | None = None,
        prepare: bool = True,
    ) -> None:
        """Send a statement with the next `flush`.

        Args:
            sql: with $1, $2, … for
            parameters: which go as text where they are text.
            then: takes its rows; may give more statements.
            failed: the error to raise in place of PostgreSQL's.
            prepare: whether the statement comes again.
        """
        self._waiting.append(_Statement(sql, parameters, then, failed, prepare))

    def now(self, sql: str, parameters: Sequence[Any] = (), *, prepare: bool = True) -> list[tuple[Any, ...]]:
        """The rows of a statement, run behind all that waits."""
        found: list[tuple[Any, ...]] = []
        self.later(sql, parameters, found.extend, prepare=prepare)
        self.flush()
        return found

    def flush(self) -> None:
        """Send what waits, and what comes of it, until nothing does. Raises psycopg.Error, or what `failed` made of it.

        Answers that came before a failure are taken before it is raised.
        """
        while self._waiting:
            statements, self._waiting = self._waiting, []
            self._send(statements)

    def forget(self) -> None:
        """Drop what waits: the transaction it was for has gone."""
        self._waiting.clear()

    def _send(self, statements: Sequence[_Statement]) -> None:
        if len(statements) == 1:
            cursors, failure = [self._cursor], self._alone(statements[0])
        else:
            cursors, failure = self._together(statements)
        for statement, cursor in zip(statements, cursors, strict=False):
            if failure is not None and cursor.pgresult is None:
                # Answers come in order: the first statement without one is the one that failed.
                if statement.failed is None:
                    raise failure
                raise statement.failed(failure) from failure
            if statement.then is not None:
                statement.then(cursor.fetchall())
        if failure is not None:
            raise failure

    def _alone(self, statement: _Statement) -> psycopg.Error | None:
        try:
            self._cursor.execute(statement.sql, statement.parameters, prepare=statement.prepare)
        except psycopg.Error as error:
            return error
        return None

    def _together(self, statements: Sequence[_Statement]) -> tuple[list[Cursor], psycopg.Error | None]:
        cursors: list[Cursor] = []
        failure: psycopg.Error | None = None
        try:
            with self._connection.pipeline():
                try:
                    for statement in statements:
                        cursor: Cursor = psycopg.RawCursor(self._connection)
                        cursors.append(cursor)
                        cursor.execute(statement.sql, statement.parameters, prepare=statement.prepare)
                except psycopg.Error as error:
                    failure = error
        except psycopg.Error as error:
            # Behind a failure, leaving the pipeline tells only that what followed was not done.
            failure = failure or error
        return cursors, failure
