"""A link that can be cut: a proxy on the loopback address between a client and a server."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path
from typing import Self


class Proxy:
    """Listens on a free TCP port and passes bytes to a server; a context manager.

    Args:
        target: the server: a (host, port), or the path of a Unix socket.
    """

    def __init__(self, target: tuple[str, int] | Path) -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and each new one until healed."""
        self._open.clear()
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    _shut(end)

    def heal(self) -> None:
        self._open.set()

    def freeze(self) -> None:
        """Pass nothing on until thawed: connections stay open and silent, as when a cable is pulled."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what was sent meanwhile, and all that comes."""
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        self._flowing.wait()
        if not self._open.is_set():
            client.close()
            return
        family = socket.AF_UNIX if isinstance(self._target, Path) else socket.AF_INET
        server = socket.socket(family)
        pair = (client, server)
        try:
            server.connect(str(self._target) if isinstance(self._target, Path) else self._target)
            with self._lock:
                self._pairs.add(pair)
            if not self._open.is_set():
                return
            while True:
                for end in select.select(pair, [], [])[0]:
                    data = end.recv(1 << 16)
                    self._flowing.wait()
                    if not data:
                        return
                    (server if end is client else client).sendall(data)
        except OSError:
            pass
        finally:
            with self._lock:
                self._pairs.discard(pair)
            for end in pair:
                _shut(end)
                end.close()

    def close(self) -> None:
        self.cut()
        self.thaw()
        _shut(self._listener)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
