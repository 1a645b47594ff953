"""Statements sent together: order, failures, lost connections, what is prepared; against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from connectors import pipe as pipes
from connectors.pipe import Pipe


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        opened.execute("CREATE TABLE item (id integer PRIMARY KEY, name text)")
        yield opened


def test_each_statement_sees_those_before_it(connection: psycopg.Connection[Any]) -> None:
    """One flush runs all in their order, those too that an answer gives; rows come as Python's types."""
    pipe, found = Pipe(connection), []

    def again(rows: pipes.Rows) -> None:
        found.extend(rows)
        pipe.later("SELECT count(*) FROM item WHERE id >= $1", [2], found.extend)

    pipe.later("INSERT INTO item VALUES ($1, $2)", [1, "one"])
    pipe.later("INSERT INTO item VALUES ($1, $2)", [2, None])
    pipe.later("SELECT id, name, id > 1, now() IS NULL FROM item ORDER BY id", (), again)
    assert found == []
    pipe.flush()
    assert found == [(1, "one", False, False), (2, None, True, False), (1,)]


def test_a_failure_ends_what_follows(connection: psycopg.Connection[Any]) -> None:
    """Answers before it are taken, nothing behind it is done, its error may be another's; the pipe goes on afterwards."""
    pipe, found = Pipe(connection), []
    for _ in range(2):
        pipe.later("SELECT 1", (), found.extend)
        pipe.later("SELECT 1 / $1::integer", [0], failed=lambda error: LookupError(error.sqlstate))
        pipe.later("SELECT 2", (), found.extend)
        with pytest.raises(LookupError, match="22012"):
            pipe.flush()
    assert found == [(1,), (1,)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        pipe.now("SELECT * FROM nowhere")
    assert pipe.now("SELECT 3") == [(3,)]


def test_answers_are_taken_while_what_goes_apart_is_worked_on(
    connection: psycopg.Connection[Any], database: str
) -> None:
    """Else nobody would let go of what it waits for. It is run where others failed, and their failure is told."""
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_advisory_xact_lock(7)")
        pipe, found = Pipe(connection), []
        for _ in range(2):
            pipe.later("SELECT 1", (), found.extend)
            pipe.later("SELECT 2", (), lambda _: other.rollback())
            pipe.later("SELECT 3 FROM pg_advisory_xact_lock(7)", (), found.extend, apart=True)
            pipe.flush()
        assert found == [(1,), (3,)] * 2
        pipe.later("SELECT 1 / $1::integer", [0])
        pipe.later("INSERT INTO item VALUES (4, 'four')", apart=True)
        with pytest.raises(psycopg.errors.DivisionByZero):
            pipe.flush()
        assert pipe.now("SELECT name FROM item") == [("four",)]
        pipe.later("SELECT 1", (), lambda _: 1 / 0)
        pipe.later("SELECT 2", (), found.extend, apart=True)
        with pytest.raises(ZeroDivisionError):
            pipe.flush()
        assert pipe.now("SELECT 5") == [(5,)]
    assert found == [(1,), (3,)] * 2


def test_what_cannot_be_sent_is_refused(connection: psycopg.Connection[Any]) -> None:
    """A value that PostgreSQL cannot hold is an error of its own; the connection stays."""
    pipe = Pipe(connection)
    pipe.later("INSERT INTO item VALUES (1, 'one')")
    pipe.later("INSERT INTO item VALUES (2, $1)", ["\0"])
    with pytest.raises(psycopg.DataError):
        pipe.flush()
    assert pipe.now("SELECT count(*) FROM item") == [(0,)]


def test_much_in_both_directions(connection: psycopg.Connection[Any]) -> None:
    """More than any buffer holds, sent while answers come: nobody waits for the other."""
    pipe, sizes, large = Pipe(connection), [], "x" * 4_000_000
    for _ in range(4):
        pipe.later("SELECT $1::text", [large], lambda rows: sizes.append(len(rows[0][0])))
    pipe.flush()
    assert sizes == [len(large)] * 4


def test_a_lost_connection(connection: psycopg.Connection[Any], database: str) -> None:
    """Told as such, whether the server says why or not, in the middle of a flush and before one."""
    pipe = Pipe(connection)
    pipe.later("SELECT 1")
    pipe.later("SELECT pg_terminate_backend(pg_backend_pid())")
    pipe.later("SELECT 2")
    with pytest.raises(psycopg.OperationalError) as told:
        pipe.flush()
    assert told.value.sqlstate in ("57P01", None)
    assert connection.closed
    with pytest.raises(psycopg.OperationalError):
        pipe.now("SELECT 1")
    with psycopg.connect(database, autocommit=True) as second, psycopg.connect(database, autocommit=True) as other:
        pipe = Pipe(second)
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [second.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            pipe.now("SELECT 1")


def test_prepared_statements_stay(connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared once; the longest unused goes where there are too many; psycopg's own, and rollbacks, change nothing."""
    for _ in range(7):
        connection.execute("SELECT %s::integer", [1])
    monkeypatch.setattr(pipes, "_PREPARED", 3)
    pipe, other = Pipe(connection), Pipe(connection)
    for _ in range(3):
        connection.execute("BEGIN")
        connection.execute("ROLLBACK")
        for number in range(5):
            assert pipe.now(f"SELECT {number}, $1::text", ["a"]) == [(number, "a")]
            assert other.now("SELECT $1::integer", [number]) == [(number,)]
    names = [row[0] for row in pipe.now("SELECT statement FROM pg_prepared_statements", prepare=False)]
    assert sorted(names) == ["SELECT $1::integer", *(f"SELECT {n}, $1::text" for n in (2, 3, 4))]
