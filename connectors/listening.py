"""The socket that a server of ours listens on."""

from __future__ import annotations

import socket


def listen(host: str, port: int) -> socket.socket:
    """Listen; who asks before the server has started waits for it. Port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off for sockets whose protocol is named: else each answer waits 40 ms for its rest.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock
