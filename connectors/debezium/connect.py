"""The REST interface of Kafka Connect: what registering a connector and looking after it needs of it."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from connectors.errors import RowtideError

_TIMEOUT = 60.0  # seconds: Connect tries the source itself before it answers
_BUSY = 409  # a rebalance is under way
_PATIENCE = 60.0


class ConnectError(RowtideError):
    """Kafka Connect does not answer, refuses, or runs a connector that has failed."""


class ConnectorState(NamedTuple):
    """What Connect tells of a connector.

    Args:
        state: RUNNING, FAILED, PAUSED, STOPPED, RESTARTING or UNASSIGNED: the worst of connector and tasks.
        reason: the first line of the trace where it failed; empty otherwise.
    """

    state: str
    reason: str = ""


class Connect:
    """A Connect cluster behind one of its workers.

    Args:
        url: where the worker listens, as `http://localhost:8083`.
        patience: how long a rebalance is waited for, in seconds.
        wait: how time passes between two attempts, in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = _TIMEOUT,
        patience: float = _PATIENCE,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConnectError(
                "The address of Kafka Connect cannot be read.", hint="Write it as --connect http://HOST:8083."
            )
        if parts.username is not None:
            raise ConnectError(
                "The address of Kafka Connect holds a login.",
                hint="Leave it out: a proxy before Connect should not take passwords from addresses.",
            )
        self._url = url.rstrip("/")
        self._shown = f"{parts.scheme}://{parts.netloc}"
        self._timeout = timeout
        self._patience = patience
        self._wait = wait

    def classes(self) -> set[str]:
        """The connectors that are installed, by their Java classes."""
        return {str(plugin.get("class")) for plugin in self._call("GET", "/connector-plugins")}

    def require(self, class_: str) -> None:
        """Raise ConnectError where a connector is not installed."""
        if class_ not in self.classes():
            raise ConnectError(
                f"Kafka Connect at {self._shown} does not have the connector {class_}.",
                hint="Install Debezium's plugin for this database (3.1 or newer) in its plugin.path and restart it.",
            )

    def validate(self, name: str, config: Mapping[str, str]) -> list[str]:
        """What Connect finds wrong with a configuration; it tries to log in to the source. Empty: nothing."""
        path = f"/connector-plugins/{urllib.parse.quote(config['connector.class'])}/config/validate"
        found = self._call("PUT", path, dict(config) | {"name": name})
        problems = []
        for entry in found.get("configs", []):
            value = entry.get("value") or {}
            problems += [f"{value.get('name')}: {in_a_line(str(error))}" for error in value.get("errors", [])]
        return problems

    def names(self) -> list[str]:
        """The connectors that are registered."""
        return sorted(str(name) for name in self._call("GET", "/connectors"))

    def put(self, name: str, config: Mapping[str, str]) -> bool:
        """Register a connector, or give it another configuration. Returns whether it is new."""
        fresh = name not in self.names()
        self._call("PUT", f"/connectors/{urllib.parse.quote(name, safe='')}/config", dict(config) | {"name": name})
        return fresh

    def delete(self, name: str) -> None:
        """Remove a connector; nothing happens where there is none. What it has read it keeps in Connect's topics."""
        if name in self.names():
            self._call("DELETE", f"/connectors/{urllib.parse.quote(name, safe='')}")

    def start_again(self, name: str) -> None:
        """Start a connector that has failed.

        Where it failed before its snapshot had begun, Debezium has stored a place without a position, at which it
        would fail for ever: that is forgotten first. Raises ConnectError.
        """
        path = f"/connectors/{urllib.parse.quote(name, safe='')}"
        self._call("PUT", f"{path}/stop")
        deadline = time.monotonic() + self._patience
        while (state := self.state(name).state) != "STOPPED":
            if time.monotonic() > deadline:
                raise ConnectError(
                    f"The connector {name} does not stop: it is {state}.", hint="See the log of Kafka Connect's worker."
                )
            self._wait(0.1)
        stored = self._call("GET", f"{path}/offsets").get("offsets") or []
        if stored and not any(entry.get("offset") for entry in stored):
            self._call("DELETE", f"{path}/offsets")
        self._call("PUT", f"{path}/resume")

    def state(self, name: str) -> ConnectorState:
        """How a connector is; UNASSIGNED where Connect does not know of it yet."""
        try:
            found = self._call("GET", f"/connectors/{urllib.parse.quote(name, safe='')}/status")
        except _AbsentError:
            return ConnectorState("UNASSIGNED")
        parts = [found.get("connector") or {}, *(found.get("tasks") or [])]
        for part in parts:
            if part.get("state") == "FAILED":
                return ConnectorState("FAILED", failure(str(part.get("trace") or "")))
        states = [str(part.get("state")) for part in parts]
        if states == ["STOPPED"]:
            return ConnectorState("STOPPED")
        if len(parts) < 2:
            return ConnectorState("UNASSIGNED")
        return ConnectorState(next((state for state in states if state != "RUNNING"), "RUNNING"))

    def _call(self, method: str, path: str, body: object = None) -> Any:
        """One call; while a rebalance is under way it is made again."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self._attempt(method, path, body)
            except _BusyError:
                if time.monotonic() > deadline:
                    raise ConnectError(
                        f"Kafka Connect at {self._shown} is still busy with a rebalance after {self._patience:.0f} s.",
                        hint="See the logs of its workers, then try again.",
                    ) from None
                self._wait(0.2)

    def _attempt(self, method: str, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=headers)  # noqa: S310 - http(s), checked
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise ConnectError(
                f"Kafka Connect at {self._shown} does not answer: {in_a_line(str(reason)) or type(error).__name__}.",
                hint="See whether it runs, and name it: --connect http://HOST:8083.",
            ) from None
        except ValueError:
            raise ConnectError(
                f"What answers at {self._shown} is not Kafka Connect.", hint="Name it: --connect http://HOST:8083."
            ) from None

    def _refused(self, error: urllib.error.HTTPError) -> ConnectError:
        if error.code == _BUSY:
            return _BusyError("")
        try:
            message = str(json.loads(error.read()).get("message") or error.reason)
        except (ValueError, AttributeError, OSError):
            message = str(error.reason)
        kind = _AbsentError if error.code == 404 else ConnectError
        return kind(
            f"Kafka Connect at {self._shown} refuses ({error.code}): {in_a_line(message)}.", hint=advice(message)
        )


class _BusyError(ConnectError):
    """A rebalance is under way: to be asked again."""


class _AbsentError(ConnectError):
    """There is no such connector."""


def in_a_line(text: str) -> str:
    """The lines of a message in one, without the address that Connect adds."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("You can also find the above list")]
    return " ".join(kept)[:400].rstrip(".")


def failure(trace: str) -> str:
    """The first line of a trace with the cause behind it, without Java's names of the exceptions."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    told: list[str] = []
    for line in [*lines[:1], *causes[-1:]]:
        kind, colon, message = line.partition(": ")
        text = message if colon and "." in kind and " " not in kind else line
        if text and text not in told:
            told.append(text)
    return " — ".join(told)[:400].rstrip(".")


# What the source's own messages contain → what mends it.
_ADVICE: tuple[tuple[str, str], ...] = (
    ("access denied", "Run what `rowtide debezium config --grants` prints in the source; check user and password."),
    ("password authentication failed", "Check the user and the password that Connect's placeholder leads to."),
    ("privilege", "Run what `rowtide debezium config --grants` prints in the source, then register it again."),
    ("permission denied", "Run what `rowtide debezium config --grants` prints in the source."),
    ("must be superuser", "Run what `rowtide debezium config --grants` prints in the source."),
    ("publication", "Run what `rowtide debezium config --grants` prints in the source, as its owner."),
    (
        "communications link failure",
        "Check the host and port, as Kafka Connect reaches them: --set database.hostname=…",
    ),
    ("connection refused", "Check the host and port, as Kafka Connect reaches them: --set database.hostname=…"),
    ("unknown host", "Check the host, as Kafka Connect reaches it: --set database.hostname=…"),
    ("could not be parsed", "The source has a type that this Debezium does not know: leave that table's database out."),
    ("no longer available on the server", "The binlog was purged: delete the connector and register it anew."),
    ("table definition has changed", "A table was altered or truncated during the snapshot: register it again."),
    ("could not resolve", "Give Connect the variable or file that the placeholder names, and restart it."),
    ("replication slots are in use", "Raise max_replication_slots in the source, or drop slots nobody reads."),
)


def advice(message: str) -> str:
    """What to do about a message of Connect, of Debezium or of the source: only a hint is chosen by it."""
    lower = message.lower()
    return next((hint for words, hint in _ADVICE if words in lower), "See the log of Kafka Connect's worker.")
