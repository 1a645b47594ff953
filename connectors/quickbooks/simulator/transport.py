"""The simulator behind a `requests` session without a socket, so that simulated time can pass while an answer is awaited.

Broken connections and time-outs are the exceptions that sockets would have made of them, at the moment of the
simulator's clock at which they would have come.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import ReadTimeout
from urllib3.response import HTTPResponse

from connectors.quickbooks.simulator.replies import Call, Lost, Reply
from connectors.quickbooks.simulator.simulator import Simulator


class InProcess(BaseAdapter):
    """A transport adapter: `session.mount("http://", InProcess(simulator))`.

    Args:
        simulator: who answers, whatever host is asked.
    """

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self._simulator = simulator

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Answer as the simulator does. Raises what `requests` raises for sockets."""
        del verify, cert, proxies
        patience = timeout[1] if isinstance(timeout, tuple) else timeout
        outcome = self._simulator.handle(call_of(request))
        try:
            if patience is not None and outcome.delay > patience:
                self._simulator.clock.sleep(patience)
                raise ReadTimeout("Read timed out.", request=request)
            self._simulator.clock.sleep(outcome.delay)
            if isinstance(outcome, Lost):
                raise RequestsConnectionError("Remote end closed connection without response", request=request)
            raw = _Raw(outcome, self._simulator, patience)
            answer = self._response(request, outcome, raw)
            if not stream:
                _ = answer.content
            return answer
        finally:
            self._simulator.done()

    def close(self) -> None:
        """Nothing is open."""

    def _response(self, request: requests.PreparedRequest, reply: Reply, raw: io.RawIOBase) -> requests.Response:
        answer = requests.Response()
        answer.status_code = reply.status
        headers = {**reply.headers, "content-type": reply.content_type, "content-length": str(len(reply.body))}
        answer.headers = requests.structures.CaseInsensitiveDict(headers)
        answer.raw = HTTPResponse(raw, headers=headers, status=reply.status, preload_content=False)
        answer.url = str(request.url)
        answer.request = request
        answer.encoding = requests.utils.get_encoding_from_headers(answer.headers)
        return answer


class _Raw(io.RawIOBase):
    """The answer's bytes; a slow one gives a byte after each pause, and never a time-out unless a pause is one."""

    def __init__(self, reply: Reply, simulator: Simulator, patience: float | None) -> None:
        self._body = io.BytesIO(reply.body)
        self._trickle = reply.trickle
        self._clock = simulator.clock
        self._patience = patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._trickle:
            return self._body.readinto(buffer)
        if self._patience is not None and self._trickle > self._patience:
            self._clock.sleep(self._patience)
            raise TimeoutError("timed out")
        self._clock.sleep(self._trickle)
        given = self._body.read(1)
        buffer[: len(given)] = given
        return len(given)


def call_of(request: requests.PreparedRequest) -> Call:
    """A prepared request as the simulator takes it."""
    parts = urlsplit(str(request.url))
    body = request.body or b""
    if not isinstance(body, str | bytes):
        body = b"".join(body)
    return Call(
        str(request.method),
        parts.path,
        dict(parse_qsl(parts.query, keep_blank_values=True)),
        {name.lower(): str(value) for name, value in request.headers.items()},
        body.encode() if isinstance(body, str) else body,
        f"{parts.scheme}://{parts.netloc}",
    )
