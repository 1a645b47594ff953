"""Statements sent together: those that need not wait for each other's answers cost one round trip, however many.

The server runs them one after the other, in the order they were given, each seeing what those before it wrote.

psycopg's own pipeline has a cursor for each statement and turns to the server at each; a small transaction has twenty.
Hence this stands on the layer below, `psycopg.pq`: all statements leave in one piece.
"""

from __future__ import annotations

import select
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus

Rows: TypeAlias = Sequence[tuple[Any, ...]]
_Result: TypeAlias = "psycopg.pq.abc.PGresult"
_Known: TypeAlias = tuple[str, tuple[int, ...]]  # a statement, by its text and the types of its parameters
_PREPARED = 500  # statements that a pipe keeps prepared; beyond it the longest unused one goes
_CANCELLING = 5.0  # seconds for the server to stop what is not wanted any more
_numbers = count()  # a prepared statement's name is its connection's, which may have several pipes


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

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        # Where psycopg has prepared something itself, it drops all that is prepared at the sight of a rollback.
        connection.prepare_threshold = None
        with connection.transaction(force_rollback=True):
            pass
        self._connection = connection
        self._adapt = Transformer(connection)
        self._prepared: OrderedDict[_Known, bytes] = OrderedDict()
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
            sql: one statement, with $1, $2, … for
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
        for statement, result in zip(statements, self._results(statements), strict=False):
            if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
                # Answers come in order: whatever stands behind the first failure was not done.
                error = self._error(result)
                if statement.failed is None:
                    raise error
                raise statement.failed(error) from error
            if statement.then is not None:
                self._adapt.set_pgresult(result)
                statement.then(self._adapt.load_rows(0, result.ntuples, tuple))

    def _error(self, result: _Result) -> psycopg.Error:
        connection = self._connection
        error = psycopg.errors.error_from_result(result, encoding=connection.info.encoding)
        # Where the client library alone speaks, of a lost connection, there is no code.
        return psycopg.OperationalError(str(error)) if connection.closed and error.sqlstate is None else error

    def _results(self, statements: Sequence[_Statement]) -> list[_Result]:
        """Send the statements; the result of each, up to the first that failed at least.

        Raises psycopg.DataError for a parameter that cannot be sent, psycopg.OperationalError where the connection is lost.
        """
        connection, pgconn = self._connection, self._connection.pgconn
        adapted = [self._adapted(statement.parameters) for statement in statements]
        # What is asked of the server, in order: to prepare a statement, or (None) to run one.
        asked: list[_Known | None] = []
        fresh: dict[_Known, bytes] = {}
        with connection.lock:
            if connection.closed:
                raise psycopg.OperationalError("the connection is closed")
            try:
                pgconn.enter_pipeline_mode()
                for (sql, *_, prepare), (values, types, formats) in zip(statements, adapted, strict=True):
                    known = sql, types
                    if not prepare:
                        pgconn.send_query_params(sql.encode(), values, types, formats)
                    else:
                        if known in self._prepared:
                            self._prepared.move_to_end(known)
                        elif known not in fresh:
                            fresh[known] = b"rowtide_%d" % next(_numbers)
                            pgconn.send_prepare(fresh[known], sql.encode(), types)
                            asked.append(known)
                        pgconn.send_query_prepared(self._prepared.get(known) or fresh[known], values, formats)
                    asked.append(None)
                pgconn.pipeline_sync()
                answers = _answers(pgconn, len(asked) + 1)
                if not connection.closed:
                    pgconn.exit_pipeline_mode()
            except KeyboardInterrupt:
                connection.cancel_safe(timeout=_CANCELLING)  # else the server would work on, for nobody
                connection.close()
                raise
            except BaseException:
                connection.close()  # what is half said cannot be taken up again
                raise
        results = []
        for known_or_none, result in zip(asked, answers, strict=False):
            if known_or_none is None or result.status != ExecStatus.COMMAND_OK:
                results.append(result)
            else:
                self._keep(known_or_none, fresh[known_or_none])
        return results

    def _adapted(self, parameters: Sequence[Any]) -> tuple[Sequence[Any] | None, tuple[int, ...], Sequence[int] | None]:
        """Values, types and formats of parameters, as the server takes them."""
        if not parameters:
            return None, (), None
        values = self._adapt.dump_sequence(parameters, [PyFormat.AUTO] * len(parameters))
        return values, self._adapt.types or (), self._adapt.formats

    def _keep(self, known: _Known, name: bytes) -> None:
        self._prepared[known] = name
        if len(self._prepared) > _PREPARED:
            _, unused = self._prepared.popitem(last=False)
            self.later(f"DEALLOCATE {unused.decode()}", prepare=False)


def _answers(pgconn: psycopg.pq.abc.PGconn, wanted: int) -> list[_Result]:
    """Talk to the server until so many answers are there; each is one result.

    Fewer where the server tells why it ends the connection. Raises psycopg.OperationalError where it does not.
    """
    found: list[_Result] = []
    lost: psycopg.OperationalError | None = None
    try:
        server = select.poll()
        server.register(pgconn.socket, select.POLLIN | select.POLLOUT)
        while pgconn.flush():
            if server.poll()[0][1] & ~select.POLLOUT:
                pgconn.consume_input()  # a server whose answers nobody takes would take nothing more either
        server.modify(pgconn.socket, select.POLLIN)
        while len(found) < wanted and (result := _answer(pgconn, server)) is not None:
            found.append(result)
    except psycopg.OperationalError as error:
        lost = error
    if len(found) < wanted and not any(result.status == ExecStatus.FATAL_ERROR for result in found):
        raise lost or psycopg.OperationalError("the connection is lost")
    return found


def _answer(pgconn: psycopg.pq.abc.PGconn, server: select.poll) -> _Result | None:
    """The next answer; None where there is none any more. Raises psycopg.OperationalError where the connection is lost.

    psycopg's own waiting does more for each turn to the server than many a statement takes.
    """
    for _ in range(2):  # one statement's results end with None, and each has one
        while pgconn.is_busy():
            server.poll()
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is not None:
            return result
    return None
