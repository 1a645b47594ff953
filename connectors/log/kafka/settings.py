"""How clients reach the cluster: the operator's settings, checked; what they may not change, and what we choose."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, TypeAlias

from connectors.errors import RowtideError
from connectors.log import LogRefusedError

Setting: TypeAlias = str | int | float | bool

# The promises rest on these; each has a place of its own or is not to be chosen.
_OURS = {
    "auto.offset.reset": "it is always error, so that nothing is skipped in silence",
    "bootstrap.servers": "name the servers with log.servers",
    "enable.auto.commit": "positions are stored with what they lead to",
    "enable.auto.offset.store": "positions are stored with what they lead to",
    "enable.idempotence": "appending is always idempotent",
    "enable.partition.eof": "the end of a partition must be known",
    "group.id": "name the group with log.group",
    "group.instance.id": "partitions are assigned, groups have no members",
    "isolation.level": "it is always read_committed",
    "metadata.broker.list": "name the servers with log.servers",
    "partition.assignment.strategy": "partitions are assigned, groups have no members",
    "transactional.id": "it names the topic that is appended to",
}

_LARGEST = 32 * 1024 * 1024  # bytes of a message: a row with a large text, before and after

# A broker that comes back is found within a second; a refused request is tried again soon, then less often.
_CHOSEN: dict[str, Setting] = {
    "client.id": "rowtide",
    "log_level": 0,  # errors are told by our own log and exceptions
    "message.max.bytes": _LARGEST,
    "receive.message.max.bytes": 4 * _LARGEST,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
    "retry.backoff.ms": 5,
    "retry.backoff.max.ms": 500,
    "socket.keepalive.enable": True,
    "topic.metadata.refresh.interval.ms": 30_000,
}


def client_settings(servers: str, settings: Mapping[str, Setting], *, allow_plaintext: bool) -> dict[str, Any]:
    """The settings all clients share. Raises LogRefusedError for what may not be."""
    if not servers.strip():
        raise LogRefusedError("No Kafka servers are named.", hint='Set log.servers = "HOST:PORT,HOST:PORT".')
    for name, reason in _OURS.items():
        if name in settings:
            raise LogRefusedError(f"The setting log.client.{name} cannot be chosen: {reason}.", hint="Remove it.")
    check_transport(hosts(servers), settings, allow_plaintext=allow_plaintext)
    values = {"bootstrap.servers": servers} | _CHOSEN | dict(settings)
    return {name: _text(value) for name, value in values.items()}


def check_transport(names: list[str], settings: Mapping[str, Setting], *, allow_plaintext: bool) -> None:
    """Refuse rows and passwords in clear to hosts other than this one."""
    protocol = str(settings.get("security.protocol", "plaintext")).lower()
    if allow_plaintext or protocol not in {"plaintext", "sasl_plaintext"}:
        return
    for host in names:
        if not _loopback(host):
            raise LogRefusedError(
                f"The Kafka server {host} would be reached without encryption ({protocol}).",
                hint='Set log.client."security.protocol" to "SSL" or "SASL_SSL"; in a network that only you can read, '
                "set log.allow_plaintext = true.",
            )


def hosts(servers: str) -> list[str]:
    """The host names of a list of servers, each `[PROTOCOL://]HOST[:PORT]`."""
    found = []
    for entry in servers.split(","):
        address = entry.strip().rpartition("://")[2]
        if address.startswith("["):
            found.append(address[1:].partition("]")[0])
        elif address:
            found.append(address.partition(":")[0] if address.count(":") == 1 else address)
    return found


def misnamed(settings: Mapping[str, Setting], reason: str) -> RowtideError:
    """The error for settings that the client library does not take; it tells names, never values."""
    names = [name for name in settings if f'"{name}"' in reason] or sorted(settings)
    return LogRefusedError(
        f"The Kafka client does not take these settings as they are: {', '.join(f'log.client.{n}' for n in names)}.",
        hint="Names and values are librdkafka's: see its CONFIGURATION.md.",
    )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(value: Setting) -> Setting:
    return str(value).lower() if isinstance(value, bool) else value
