"""What stands before the API: tokens, the size of bodies, clients that leave, mistakes of our own."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterable
from contextlib import redirect_stderr
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from connectors.state import connect, migrate
from daemon import logging
from daemon.api.guard import LARGEST, Guard
from daemon.api.tokens import Keys, TokenError, made, make, revoke

CANARY = "canary.person@school.example"


class Time:
    """Seconds that rise when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Echo:
    """Answers with the size of the body, and notes that it was asked."""

    def __init__(self, error: Exception | None = None, *, late: bool = False) -> None:
        self.asked: list[bytes] = []
        self.error = error
        self.late = late

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.asked.append(message["body"])
        if self.error is not None and not self.late:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.body", "body": b"%d" % len(message["body"])})


@pytest.fixture
def dsn(database: str) -> str:
    migrate(database)
    return database


def ask(
    guard: Guard, headers: Iterable[tuple[bytes, bytes]], messages: list[Message] | None = None, path: str = "/x"
) -> list[Message]:
    """The messages that are answered; asking for more than was given is an error."""
    given = iter([{"type": "http.request", "body": b""}] if messages is None else messages)
    answered: list[Message] = []

    async def receive() -> Message:
        try:
            return next(given)
        except StopIteration:
            raise AssertionError("read on without need") from None

    async def send(message: Message) -> None:
        answered.append(message)

    scope: dict[str, Any] = {"type": "http", "path": path, "method": "POST", "headers": list(headers)}
    asyncio.run(guard(scope, receive, send))
    return answered


def status_of(answered: list[Message]) -> int | None:
    return answered[0]["status"] if answered else None


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


def test_a_token_is_kept_as_a_hash(dsn: str) -> None:
    """The state database holds nothing that a token could be made from, and lists names alone."""
    with connect(dsn) as connection:
        token = make(connection, "office")
        row = connection.execute("SELECT t::text, hash FROM rowtide.api_token AS t").fetchone()
        assert row is not None
        assert token not in row[0]
        assert token.encode() not in bytes(row[1])
        assert [entry["name"] for entry in made(connection)] == ["office"]
        assert token not in json.dumps(made(connection), default=str)
    keys = Keys(dsn, None)
    assert keys.opens(token.encode())
    assert not keys.opens(token[:-1].encode())
    assert not keys.opens(b"")
    assert not keys.opens("ключ".encode())
    assert not keys.opens(b"\xff\xfe")


def test_a_token_ends_within_a_second(dsn: str) -> None:
    """Taken away or made anew, a token opens nothing a second later; the others still do."""
    time = Time()
    keys = Keys(dsn, None, time)
    with connect(dsn) as connection:
        first, other = make(connection, "office"), make(connection, "other")
        assert keys.opens(first.encode())
        second = make(connection, "office")
        time.now = 1.0
        assert [keys.opens(token.encode()) for token in (first, second, other)] == [False, True, True]
        revoke(connection, "office")
        time.now = 2.0
        assert [keys.opens(token.encode()) for token in (first, second, other)] == [False, False, True]
        with pytest.raises(TokenError, match="no token “office”"):
            revoke(connection, "office")
        with pytest.raises(TokenError, match="cannot name"):
            make(connection, "two words")


def test_the_settings_token_opens_without_the_database() -> None:
    """The token of the settings is told apart without asking the state database."""
    keys = Keys("host=127.0.0.1 port=1 dbname=nowhere", SecretStr("a-token-of-the-settings-file"))
    assert keys.opens(b"a-token-of-the-settings-file")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", b"Basic TOKEN")],
        [(b"authorization", b"TOKEN")],
        [(b"authorization", b"Bearer TOKEN"), (b"authorization", b"Bearer TOKEN")],
        [(b"authorization", b"Bearer \xff\xfe")],
    ],
)
def test_without_a_token_nothing_is_looked_at(dsn: str, headers: list[tuple[bytes, bytes]]) -> None:
    """401 with a challenge, before the body is read or the application asked."""
    with connect(dsn) as connection:
        token = make(connection, "office").encode()
    echo = Echo()
    given = [(name, value.replace(b"TOKEN", token)) for name, value in headers]
    answered = ask(Guard(echo, Keys(dsn, None)), given, [])
    assert status_of(answered) == 401
    assert dict(answered[0]["headers"])[b"www-authenticate"] == b'Bearer realm="rowtide"'
    body = json.loads(answered[1]["body"])
    assert (body["success"], body["error"]) == (False, "unauthorized")
    assert echo.asked == []


def test_a_token_opens_and_answers_are_not_kept(dsn: str) -> None:
    """With a token the application answers; nobody between may keep what is told of people."""
    with connect(dsn) as connection:
        token = make(connection, "office")
    answered = ask(Guard(Echo(), Keys(dsn, None)), bearer(token), [{"type": "http.request", "body": b"12345"}])
    assert (status_of(answered), answered[1]["body"]) == (200, b"5")
    assert dict(answered[0]["headers"])[b"cache-control"] == b"no-store"


def test_a_body_is_bounded(dsn: str) -> None:
    """A body of the largest size passes; one byte more is 413, whether its length was told or not."""
    with connect(dsn) as connection:
        token = make(connection, "office")
    guard = Guard(Echo(), Keys(dsn, None))
    parts: list[Message] = [
        {"type": "http.request", "body": b"x" * (LARGEST - 1), "more_body": True},
        {"type": "http.request", "body": b"x", "more_body": False},
    ]
    assert status_of(ask(guard, bearer(token), parts)) == 200
    parts[1] = {"type": "http.request", "body": b"xx", "more_body": True}
    assert status_of(ask(guard, bearer(token), parts)) == 413
    told = [*bearer(token), (b"content-length", b"%d" % (LARGEST + 1))]
    assert status_of(ask(guard, told, [])) == 413


def test_half_a_body_asks_for_nothing(dsn: str) -> None:
    """A client that leaves while it sends has asked for nothing: the application is not called."""
    with connect(dsn) as connection:
        token = make(connection, "office")
    echo = Echo()
    parts: list[Message] = [
        {"type": "http.request", "body": b'{"batch_size": 5', "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert ask(Guard(echo, Keys(dsn, None)), bearer(token), parts) == []
    assert echo.asked == []


@pytest.mark.parametrize("late", [False, True])
def test_a_mistake_of_ours_is_told_without_its_text(dsn: str, late: bool) -> None:
    """500 and a log line with the error's kind and place; its text, which may hold a person's values, is in neither."""
    with connect(dsn) as connection:
        token = make(connection, "office")
    lines = io.StringIO()
    with redirect_stderr(lines):
        logging.configure("debug", "json")
        answered = ask(Guard(Echo(ValueError(CANARY), late=late), Keys(dsn, None)), bearer(token))
    assert status_of(answered) == (200 if late else 500)
    assert CANARY not in str(answered) + lines.getvalue()
    line = json.loads(lines.getvalue())
    assert (line["event"], line["kind"]) == ("api.failed", "ValueError")
    assert line["at"].startswith("test_api_guard.py:")
    assert token not in lines.getvalue()


def test_a_database_that_is_away_is_no_refusal() -> None:
    """Where the tokens cannot be read, the answer is 503 and not 401: the token may be right."""
    keys = Keys("host=127.0.0.1 port=1 dbname=nowhere connect_timeout=1", None)
    answered = ask(Guard(Echo(), keys), bearer("rowtide_x"))
    assert status_of(answered) == 503
    assert json.loads(answered[1]["body"])["error"] == "unavailable"


def test_what_is_open_is_open(dsn: str) -> None:
    """A path told to be open needs no token; another does."""
    guard = Guard(Echo(), Keys(dsn, None), frozenset({"/openapi.json"}))
    assert status_of(ask(guard, [], path="/openapi.json")) == 200
    assert status_of(ask(guard, [], path="/openapi.json/")) == 401
