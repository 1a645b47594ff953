"""The simulator behind HTTP, on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from connectors.errors import RowtideError
from connectors.listening import listen
from connectors.quickbooks.simulator.simulator import Simulator
from connectors.quickbooks.simulator.web import BREAK, create_app

_START = 10.0  # seconds
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SimulatorPortError(RowtideError):
    """The simulator cannot listen where it was told to."""


class _Breaking(H11Protocol):
    """HTTP whose connections the application can break, as networks do."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        inner = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[BREAK] = self.transport.abort
            await inner(scope, receive, send)
            # The loop learns of the break before the server wonders where the answer is.
            await asyncio.sleep(0)

        self.app = app


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@contextmanager
def serve(simulator: Simulator, *, host: str = "127.0.0.1", port: int = 0, allow_remote: bool = False) -> Iterator[str]:
    """Serve it in a thread; yields its address. Port 0 takes a free one.

    Raises:
        SimulatorPortError: it cannot listen there.
    """
    if host not in _LOOPBACK and not allow_remote:
        raise SimulatorPortError(
            f"The simulator listens on loopback only, not on {host}: whoever reaches it can do anything in it.",
            hint="Use --host 127.0.0.1, or say --allow-remote inside a network of its own.",
        )
    try:
        sock = listen(host, port)
    except OSError as error:
        raise SimulatorPortError(
            f"The simulator cannot listen on {host}:{port}: {error.strerror}.", hint="Name a free port with --port."
        ) from None
    config = uvicorn.Config(
        create_app(simulator),
        http=_Breaking,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )
    server = _Server(config)
    stopping = simulator.stopping
    stopping.clear()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="quickbooks-simulator", daemon=True)
    thread.start()
    server.listens.wait(_START)
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(timeout=5)
        sock.close()
