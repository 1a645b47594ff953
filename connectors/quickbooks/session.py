"""The way out: HTTP to the few hosts that may be talked to, with an end to every wait.

Beneath both libraries, so that neither can wait for ever, follow a redirect, or talk to anybody else. `Unsent` and `Unanswered`
keep apart what certainly did not leave from what may have been received. Knows nothing of customers or tokens.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager

from connectors.quickbooks.addresses import check_address

CONNECT_SECONDS = 10.0
MOST_BYTES = 64 * 1024 * 1024  # 1000 customers are some 3 MB
_TALKATIVE = ("urllib3", "requests", "requests_oauthlib", "oauthlib", "intuitlib", "quickbooks")


class UnsentError(Exception):
    """The request certainly did not leave. Carries no text of the cause, which may name what it should not."""


class UnansweredError(Exception):
    """The request may have been received; no whole answer came back in time."""


class Wire:
    """Sends requests; thread-safe.

    Args:
        timeout_seconds: how long the next piece of an answer is waited for; twice that for all of it.
        simulator: whether loopback is allowed.
        simulator_host: with `simulator`, the one other host that is allowed without TLS.
        adapter: what carries requests instead of sockets; for simulated time. What it raises may have left.
    """

    def __init__(
        self,
        timeout_seconds: float,
        *,
        simulator: bool,
        simulator_host: str | None = None,
        adapter: BaseAdapter | None = None,
    ) -> None:
        self.timeout = timeout_seconds
        self.deadline = 2 * timeout_seconds
        self.simulator = simulator
        self._simulator_host = simulator_host if simulator else None
        self._adapter = adapter
        self._local = threading.local()
        for name in _TALKATIVE:  # what they say at DEBUG has tokens and addresses with ids in it
            logging.getLogger(name).setLevel(logging.WARNING)

    def check(self, url: str) -> None:
        """Refuse what may not be talked to. Raises AddressRefusedError."""
        check_address(url, simulator=self.simulator, simulator_host=self._simulator_host)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
        data: bytes | None = None,
    ) -> requests.Response:
        """The whole answer, whatever its status. Raises UnsentError, UnansweredError or AddressRefusedError."""
        self.check(url)
        flight = _Flight(self.deadline)
        flight.left = self._adapter is not None
        _flying.flight = flight
        try:
            return self._sent(flight, method, url, headers, params, data)
        except (requests.RequestException, OSError, ValueError, _TooMuchError):
            # The texts of these name addresses and what was received; only what it means goes on.
            raise (UnansweredError() if flight.left else UnsentError()) from None
        finally:
            _flying.flight = None
            flight.land()

    def _sent(
        self,
        flight: _Flight,
        method: str,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, Any] | None,
        data: bytes | None,
    ) -> requests.Response:
        response = self._session.request(
            method,
            url,
            headers=dict(headers),
            params=params,
            data=data,
            timeout=(min(CONNECT_SECONDS, self.timeout), self.timeout),
            allow_redirects=False,
            stream=True,
            proxies={} if self.simulator else requests.utils.get_environ_proxies(url),
            verify=os.environ.get("REQUESTS_CA_BUNDLE") or True,
        )
        with response:
            pieces, size = [], 0
            for piece in response.iter_content(65536):
                pieces.append(piece)
                size += len(piece)
                if size > MOST_BYTES:
                    raise _TooMuchError
        if flight.over:
            raise _TooMuchError  # cut short by the deadline: what is there may look whole
        response._content = b"".join(pieces)  # noqa: SLF001 - the libraries read .text of a streamed answer
        return response

    @property
    def _session(self) -> requests.Session:
        """One for each thread: connections are kept, and no cookie, netrc or redirect plays in."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.mount("https://", self._adapter or _Adapter(max_retries=0))
            session.mount("http://", self._adapter or _Adapter(max_retries=0))
            session.cookies.set_policy(_NO_COOKIES)
            self._local.session = session
        return session


class _TooMuchError(Exception):
    """The answer has no end."""


class _Flight:
    """One request under way: whether it has left, and an end to it however slowly the answer trickles in."""

    def __init__(self, seconds: float) -> None:
        self.left = False
        self.over = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._landed = False
        self._until = time.monotonic() + seconds
        _watch.add(self)

    def uses(self, sock: socket.socket | None) -> None:
        """Know the socket, to be able to shut it."""
        with self._lock:
            self._socket = sock

    @property
    def until(self) -> float:
        """The end, by the machine's monotonic clock: sockets know no other time."""
        return self._until

    def cut(self) -> None:
        """Shut the socket: whoever waits on it is woken."""
        with self._lock:
            if self._landed:
                return
            self.over = True
            if self._socket is not None:
                with suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def land(self) -> None:
        """It is done: its socket may serve another request now."""
        with self._lock:
            self._landed = True
            self._socket = None
        _watch.remove(self)


class _Watch:
    """One thread that ends requests whose time is up; it lives while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._flights: set[_Flight] = set()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def add(self, flight: _Flight) -> None:
        if self._pid != os.getpid():  # a forked child has neither the thread nor the flights, nor a lock to trust
            self._changed, self._flights, self._thread, self._pid = threading.Condition(), set(), None, os.getpid()
        with self._changed:
            self._flights.add(flight)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="quickbooks-deadlines", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, flight: _Flight) -> None:
        with self._changed:
            self._flights.discard(flight)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for flight in [one for one in self._flights if one.until <= now]:
                    self._flights.discard(flight)
                    flight.cut()
                if not self._flights and not self._changed.wait(60):
                    self._thread = None
                    return
                if self._flights:
                    self._changed.wait(min(one.until for one in self._flights) - now)


class _Flying(threading.local):
    flight: _Flight | None = None


_flying = _Flying()
_watch = _Watch()


class _Noting:
    """Notes when the first byte leaves, and through which socket."""

    sock: Any

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        if (flight := _flying.flight) is not None:
            flight.uses(self.sock)
            flight.left = True
        super().send(data)  # type: ignore[misc]


class _Plain(_Noting, HTTPConnection):
    pass


class _Encrypted(_Noting, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(HTTPSConnectionPool):
    ConnectionCls = _Encrypted


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        _prepare(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        _prepare(manager)
        return manager


def _prepare(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}


class _NoCookies(requests.cookies.cookielib.DefaultCookiePolicy):  # type: ignore[name-defined,misc]
    def set_ok(self, *_: Any) -> bool:
        return False

    def return_ok(self, *_: Any) -> bool:
        return False


_NO_COOKIES = _NoCookies()
