"""Positions: GTIDs of both families as sets, places in files, the connection string."""

from __future__ import annotations

import struct
import uuid

import pytest

from connectors.capture.mysql.connection import read_dsn
from connectors.capture.mysql.position import MariadbGtids, MysqlGtids, Place, Position
from connectors.errors import RowtideError

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"


def test_mariadb_keeps_the_last_of_each_domain() -> None:
    """A later transaction of a domain takes the place of the former, whichever server it began at."""
    gtids = MariadbGtids("0-1-5, 7-2-3")
    gtids.add("0-9-6")
    assert str(gtids) == "0-9-6,7-2-3"
    assert "0-1-6" in gtids
    assert "0-1-7" not in gtids
    assert "1-1-1" not in gtids
    assert gtids.covers("0-1-6,7-2-1")
    assert not gtids.covers("0-1-6,8-2-1")
    assert MariadbGtids("").covers("")


def test_mysql_keeps_intervals_and_merges_them() -> None:
    """In any order, with gaps, with the newlines that the server prints."""
    gtids = MysqlGtids(f"{A}:1-3:7,\n{B}:5")
    gtids.add(f"{A}:4")
    gtids.add(f"{A}:6")
    assert str(gtids) == f"{A}:1-4:6-7,{B}:5"
    gtids.add(f"{A}:5")
    assert str(gtids) == f"{A}:1-7,{B}:5"
    assert gtids.covers(f"{A}:2-6")
    assert gtids.covers("")
    assert not gtids.covers(f"{B}:4-5")
    assert f"{B}:5" in gtids
    assert f"{B}:6" not in gtids


def test_mysql_gtids_are_encoded_as_the_protocol_has_them() -> None:
    """Number of servers; each its 16 bytes, number of intervals, and half-open intervals."""
    expected = struct.pack("<Q", 1) + uuid.UUID(A).bytes + struct.pack("<QQQQQ", 2, 1, 4, 7, 8)
    assert MysqlGtids(f"{A}:1-3:7").encoded() == expected
    assert MysqlGtids("").encoded() == struct.pack("<Q", 0)


def test_files_sort_by_their_number() -> None:
    """Not by their letters: binlog.999999 comes before binlog.1000000."""
    assert Place("binlog.1000000", 4).order > Place("binlog.999999", 9).order > Place("binlog.999999", 8).order


def test_a_position_is_stored_whole() -> None:
    """What is encoded decodes to the same."""
    position = Position("snapshot", "0-1-5", "b.1", 4, tables=("a", "b"), last=("1", "x"), columns={"a": {"id": "int"}})
    assert Position.decode(position.encode()) == position


def test_a_connection_string_is_read_whole() -> None:
    """User, password and database may hold any character, written with %; the password never shows."""
    dsn = read_dsn("mysql://o%27hara:p%40ss%2F@db.example:3307/sh%20op?connect-timeout=3")
    assert (dsn.user, dsn.password, dsn.host, dsn.port, dsn.database) == (
        "o'hara",
        "p@ss/",
        "db.example",
        3307,
        "sh op",
    )
    assert dsn.options == {"connect-timeout": "3"}
    assert "p@ss" not in repr(dsn)


def test_a_password_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the servers' own tools take it."""
    monkeypatch.setenv("MYSQL_PWD", "from outside")
    assert read_dsn("mariadb://u@localhost/d").password == "from outside"
    assert read_dsn("mariadb://u:own@localhost/d").password == "own"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://u:geheim@h/d", "mysql://"),
        ("mysql://u:geheim@h", "database"),
        ("mysql://h/d", "user"),
        ("mysql://u:geheim@h:port/d", "malformed"),
        ("mysql://u:geheim@h/d?sslmode=on", "sslmode"),
        ("mysql://u:geheim@h/d?ssl-mode=on", "ssl-mode"),
        ("mysql://u:geheim@h/d?ssl-ca=/nowhere/ca.pem", "ssl-ca"),
        ("mysql://u:geheim@h/d?connect-timeout=soon", "connect-timeout"),
    ],
)
def test_a_wrong_connection_string_is_named_without_its_secret(text: str, told: str) -> None:
    """The part that is wrong is told, the password never."""
    with pytest.raises(RowtideError, match=told) as raised:
        read_dsn(text)
    assert "geheim" not in str(raised.value)
    assert raised.value.hint
