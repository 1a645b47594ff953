"""The way out: an end to every wait, no strange host, no redirect, and it is known whether a request left."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from connectors.quickbooks.addresses import check_address
from connectors.quickbooks.errors import AddressRefusedError
from connectors.quickbooks.session import UnansweredError, UnsentError, Wire

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def whole(connection: socket.socket) -> bytes:
    """A request to its end: what is closed with something unread is reset, and the answer may be lost with it."""
    text = b""
    while piece := connection.recv(65536):
        text += piece
        head, ended, body = text.partition(b"\r\n\r\n")
        told = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        if ended and len(body) >= int(told[1] if told else 0):
            break
    return text


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that does to each connection what it is told; yields its address and what it received."""
    listener, received, ending = socket.create_server(("127.0.0.1", 0)), [], threading.Event()

    def serve() -> None:
        while not ending.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                received.append(whole(connection))
                talk(connection)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v3/x", received
    finally:
        ending.set()
        listener.close()


def get(url: str, seconds: float = 0.4) -> object:
    return Wire(seconds, simulator=True).send("GET", url, headers={})


def trickling(begin: bytes) -> Callable[[socket.socket], None]:
    """Bytes so often that no single wait is long."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(b"x")
            threading.Event().wait(0.05)

    return talk


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n{",
    ],
    ids=["status", "header", "body", "body without length"],
)
def test_an_answer_that_trickles_in_has_an_end(begin: bytes) -> None:
    """A slow loris holds nobody longer than twice the time-out, wherever in the answer it dawdles."""
    with talking(trickling(begin)) as (url, _):
        begun = time.monotonic()
        with pytest.raises(UnansweredError):
            get(url)
        assert 0.7 < time.monotonic() - begun < 3


def test_an_answer_that_never_comes_has_an_end() -> None:
    """Silence is waited for as long as the settings say."""
    ending = threading.Event()
    with talking(lambda _: ending.wait(10)) as (url, _):
        begun = time.monotonic()
        with pytest.raises(UnansweredError):
            get(url)
        assert time.monotonic() - begun < 3
        ending.set()


def test_what_was_cut_off_is_unanswered() -> None:
    """Neither a reset nor half a body is an answer."""
    for talk in (
        lambda connection: None,
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{}"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
        lambda connection: connection.sendall(b"rubbish\r\n\r\n"),
    ):
        with talking(talk) as (url, received), pytest.raises(UnansweredError):
            get(url)
        assert len(received) == 1  # nothing is sent again by itself


def test_what_never_reached_anybody_is_unsent() -> None:
    """Nobody listens there: the request certainly was not applied."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnsentError):
        get(f"http://127.0.0.1:{port}/v3/x")


def test_redirects_are_answers_and_cookies_are_not_kept() -> None:
    """A redirect would carry the token elsewhere."""
    with talking(lambda c: c.sendall(ANSWER)) as (elsewhere, strangers):
        told = f"HTTP/1.1 307 Go\r\nConnection: close\r\nLocation: {elsewhere}\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n".encode()
        with talking(lambda c: c.sendall(told)) as (url, received):
            wire = Wire(2, simulator=True)
            assert wire.send("POST", url, headers={}, data=b"{}").status_code == 307
            wire.send("GET", url, headers={})
            assert b"cookie" not in received[1].lower()
        assert strangers == []


def test_netrc_does_not_replace_the_token(tmp_path, monkeypatch) -> None:
    """The library would let a .netrc overwrite the header."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with talking(lambda c: c.sendall(ANSWER)) as (url, received):
        Wire(2, simulator=True).send("GET", url, headers={"Authorization": "Bearer ours"})
    assert b"Bearer ours" in received[0]


@pytest.mark.parametrize(
    ("url", "simulator"),
    [
        ("http://quickbooks.api.intuit.com/v3", False),
        ("https://quickbooks.api.intuit.com.evil.example/v3", False),
        ("https://evil.example/v3", True),
        ("https://quickbooks.api.intuit.com:8443/v3", False),
        ("https://a@quickbooks.api.intuit.com/v3", False),
        ("http://127.0.0.1:8473/v3", False),
        ("http://10.0.0.1/v3", True),
        ("http://127.0.0.1.evil.example/", True),
        ("ftp://localhost/", True),
        ("http://[::1", True),
        ("", True),
    ],
)
def test_strange_hosts_are_refused(url: str, simulator: bool) -> None:
    """Intuit's by https; loopback for the simulator alone."""
    with pytest.raises(AddressRefusedError):
        check_address(url, simulator=simulator)


def test_one_host_more_is_allowed_for_a_simulator_alone() -> None:
    """The host that the settings name, with any port; no other, none below it, and none for Intuit's environments."""
    for url in ("http://quickbooks:8473/v3", "https://QuickBooks/v3", "http://127.0.0.1:1/"):
        check_address(url, simulator=True, simulator_host="quickbooks")
    for url in ("http://a.quickbooks/", "http://quickbooks.evil.example/", "ftp://quickbooks/", "http://u@quickbooks/"):
        with pytest.raises(AddressRefusedError):
            check_address(url, simulator=True, simulator_host="quickbooks")
    with pytest.raises(AddressRefusedError):
        check_address("http://quickbooks:8473/v3", simulator=False, simulator_host="quickbooks")
    with pytest.raises(AddressRefusedError):
        Wire(2, simulator=False, simulator_host="quickbooks").send("GET", "http://quickbooks:8473/", headers={})


def test_known_hosts_are_allowed() -> None:
    """What the documentation names, and loopback for the simulator."""
    for host in (
        "quickbooks.api",
        "sandbox-quickbooks.api",
        "oauth.platform",
        "developer.api",
        "developer",
        "appcenter",
    ):
        check_address(f"https://{host}.intuit.com/x", simulator=False)
    for url in ("http://127.0.0.1:1/", "http://localhost:8473", "http://[::1]:1/v3"):
        check_address(url, simulator=True)


def test_the_libraries_are_silent_at_debug(caplog) -> None:
    """Their DEBUG lines have tokens and addresses in them."""
    caplog.set_level(logging.DEBUG)
    with talking(lambda c: c.sendall(ANSWER)) as (url, _):
        Wire(2, simulator=True).send("GET", url, headers={"Authorization": "Bearer canary"})
    assert caplog.text == ""
