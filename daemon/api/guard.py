"""What stands before the API: who may come in, how much may be sent, and what is told of a mistake of ours.

Nothing of a request is looked at before its token was: not its path, its parameters or its body.
"""

from __future__ import annotations

import traceback
from typing import Any

import anyio.to_thread
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.errors import RowtideError
from daemon.api.envelope import Code, failure, internal
from daemon.api.tokens import Keys

log = structlog.get_logger()
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="rowtide"'}
LARGEST = 16 * 1024  # bytes of a body; the largest that makes sense has under a hundred


class Guard:
    """An ASGI application around another.

    Args:
        app: answers those let in.
        keys: tell whether a token opens.
        openly: paths below the application's own that need no token.
    """

    def __init__(self, app: ASGIApp, keys: Keys, openly: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._keys = keys
        self._openly = openly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or answer at once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store"  # what is told is about people
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self._serve(scope, receive, answer)
        except ClientDisconnect:
            log.info("api.left")
        except Exception as error:  # noqa: BLE001 - whatever it is, neither client nor log is told its text
            log.error("api.failed", kind=type(error).__name__, at=_place(error))  # noqa: TRY400 - a trace has values
            if not begun:
                await internal()(scope, receive, answer)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if _path(scope) not in self._openly:
            try:
                let_in = await self._may_enter(scope)
            except RowtideError as error:
                response = failure(503, Code.UNAVAILABLE, error.message, hint=error.hint)
                await response(scope, receive, send)
                return
            if not let_in:
                response = failure(
                    401,
                    Code.UNAUTHORIZED,
                    "A valid token is needed.",
                    hint="Send it as `Authorization: Bearer TOKEN`; `rowtide api token` makes one.",
                    headers=CHALLENGE,
                )
                await response(scope, receive, send)
                return
        length = headers.get("content-length", "0")
        body = None if length.isdecimal() and int(length) > LARGEST else await _read(receive)
        if body is None:
            response = failure(413, Code.TOO_LARGE, f"The body is larger than {LARGEST} bytes.")
            await response(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)

    async def _may_enter(self, scope: Scope) -> bool:
        token = presented(scope)
        return token is not None and await anyio.to_thread.run_sync(self._keys.opens, token)


def presented(scope: Scope) -> bytes | None:
    """The token of a request's only Authorization header; None where there is none, or nothing of the kind."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, token = given[0].partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" and token.strip() else None


def _path(scope: Scope) -> str:
    """The path below where the application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None where it is too large. Raises ClientDisconnect: half a body asks for nothing."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > LARGEST:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, and then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _place(error: BaseException) -> str:
    """Where an error came from: module and line, without what stood in them."""
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
