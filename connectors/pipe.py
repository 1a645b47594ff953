"""Statements sent together: those that need not wait for each other's answers cost one round trip, however many.

The server runs them one after the other, in the order they were given, each seeing what those before it wrote.

psycopg's own pipeline has a cursor for each statement and turns to the server at each; a small transaction has twenty.
Hence this stands on the layer below, `psycopg.pq`: all statements leave in one piece.
"""

from __future__ import annotations

import select
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, pairwise
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus

Rows: TypeAlias = Sequence[tuple[Any, ...]]
_Result: TypeAlias = "psycopg.pq.abc.PGresult"
_Known: TypeAlias = tuple[str, tuple[int, ...]]  # a statement, by its text and the types of its parameters
_Adapted: TypeAlias = tuple[Sequence[Any] | None, tuple[int, ...], Sequence[int] | None]  # values, types, formats
_PREPARED = 500  # statements that a pipe keeps prepared; beyond it the longest unused one goes
_CANCELLING = 5.0  # seconds for the server to stop what is not wanted any more
_numbers = count()  # a prepared statement's name is its connection's, which may have several pipes


class _Statement(NamedTuple):
    sql: str
    parameters: Sequence[Any]
    then: Callable[[Rows], object] | None
    failed: Callable[[psycopg.Error], Exception] | None
    prepare: bool
    apart: bool


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
        apart: bool = False,
    ) -> None:
        """Send a statement with the next `flush`.

        Args:
            sql: one statement, with $1, $2, … for
            parameters: which go as text where they are text.
            then: takes its rows; may give more statements.
            failed: the error to raise in place of PostgreSQL's.
            prepare: whether the statement comes again.
            apart: take the answers to those before it while the server works on it; what takes them gives no more
                statements. It is run even where one before it failed.
        """
        self._waiting.append(_Statement(sql, parameters, then, failed, prepare, apart))

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

    def _send(self, statements: list[_Statement]) -> None:
        parts = _parts(statements)
        failure: Exception | None = None
        for part, results in zip(parts, self._answered(parts), strict=False):
            try:
                if failure is None:
                    self._take(part, results)
            except Exception as error:  # noqa: BLE001 - raised when all is answered
                failure = error
        if failure is not None:
            raise failure

    def _take(self, statements: Sequence[_Statement], results: Sequence[_Result]) -> None:
        for statement, result in zip(statements, results, strict=False):
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

    def _answered(self, parts: Sequence[Sequence[_Statement]]) -> Iterator[list[_Result]]:
        """Send all statements; the results of each part, up to the first that failed at least.

        Raises psycopg.DataError for a parameter that cannot be sent, psycopg.OperationalError where the connection is lost.
        """
        connection, pgconn = self._connection, self._connection.pgconn
        adapted = [[self._adapted(statement.parameters) for statement in part] for part in parts]
        fresh: dict[_Known, bytes] = {}
        with connection.lock:
            if connection.closed:
                raise psycopg.OperationalError("the connection is closed")
            try:
                asked, server = self._ask(pgconn, parts, adapted, fresh)
                for number, part in enumerate(asked, start=1):
                    results = self._results(part, _answers(pgconn, server, len(part) + 1), fresh)
                    if number == len(asked) or connection.closed:
                        break
                    yield results
                if not connection.closed:
                    pgconn.exit_pipeline_mode()
            except KeyboardInterrupt:
                connection.cancel_safe(timeout=_CANCELLING)  # else the server would work on, for nobody
                connection.close()
                raise
            except BaseException:
                connection.close()  # what is half said cannot be taken up again
                raise
        yield results

    def _ask(
        self,
        pgconn: psycopg.pq.abc.PGconn,
        parts: Sequence[Sequence[_Statement]],
        adapted: Sequence[Sequence[_Adapted]],
        fresh: dict[_Known, bytes],
    ) -> tuple[list[list[_Known | None]], select.poll]:
        """Send all statements. Returns what is asked for each part (see `_ask_part`), and what waits for answers."""
        try:
            pgconn.enter_pipeline_mode()
            asked = [self._ask_part(pgconn, *each, fresh) for each in zip(parts, adapted, strict=True)]
            return asked, _sent(pgconn)
        except psycopg.OperationalError as error:  # whose text tells in which state the client library is now
            raise psycopg.OperationalError("the connection is lost") from error

    def _ask_part(
        self,
        pgconn: psycopg.pq.abc.PGconn,
        statements: Sequence[_Statement],
        adapted: Sequence[_Adapted],
        fresh: dict[_Known, bytes],
    ) -> list[_Known | None]:
        """Put statements in the buffer. Returns what is asked, in order: to prepare one, or (None) to run one."""
        asked: list[_Known | None] = []
        for statement, (values, types, formats) in zip(statements, adapted, strict=True):
            sql = statement.sql
            if not statement.prepare:
                pgconn.send_query_params(sql.encode(), values, types, formats)
            else:
                known = sql, types
                name = self._prepared.get(known)
                if name is not None:
                    self._prepared.move_to_end(known)
                elif (name := fresh.get(known)) is None:
                    name = fresh[known] = b"rowtide_%d" % next(_numbers)
                    pgconn.send_prepare(name, sql.encode(), types)
                    asked.append(known)
                pgconn.send_query_prepared(name, values, formats)
            asked.append(None)
        pgconn.pipeline_sync()
        return asked

    def _results(
        self, asked: Sequence[_Known | None], answers: Sequence[_Result], fresh: Mapping[_Known, bytes]
    ) -> list[_Result]:
        """The answers to statements that were run; those that were prepared are known from now on."""
        results = []
        for known, result in zip(asked, answers, strict=False):
            if known is None or result.status != ExecStatus.COMMAND_OK:
                results.append(result)
            else:
                self._keep(known, fresh[known])
        return results

    def _adapted(self, parameters: Sequence[Any]) -> _Adapted:
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


def _parts(statements: list[_Statement]) -> list[list[_Statement]]:
    """The statements, cut before each that goes apart."""
    cuts = [number for number, statement in enumerate(statements) if statement.apart and number]
    return [statements[start:end] for start, end in pairwise([0, *cuts, len(statements)])] if cuts else [statements]


def _sent(pgconn: psycopg.pq.abc.PGconn) -> select.poll:
    """Send what is in the buffer. Returns what waits for answers."""
    server = select.poll()
    server.register(pgconn.socket, select.POLLIN | select.POLLOUT)
    while pgconn.flush():
        if server.poll()[0][1] & ~select.POLLOUT:
            pgconn.consume_input()  # a server whose answers nobody takes would take nothing more either
    server.modify(pgconn.socket, select.POLLIN)
    return server


def _answers(pgconn: psycopg.pq.abc.PGconn, server: select.poll, wanted: int) -> list[_Result]:
    """Wait until so many answers are there; each is one result.

    Fewer where the server tells why it ends the connection. Raises psycopg.OperationalError where it does not.
    """
    found: list[_Result] = []
    lost: psycopg.OperationalError | None = None
    try:
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
