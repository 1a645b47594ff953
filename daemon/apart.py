"""Keeps the instances of a state database apart: no two write one topic, use one slot or hold one lock.

Each instance notes what it reads and writes beside its row; the next one is held against that before it begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from connectors.errors import RowtideError
from connectors.state import connect

if TYPE_CHECKING:
    from daemon.app import App

_LOCK = 0x72777470
_OWN = "rowtide."  # what the topics begin with that only their instance writes


class InstancesCollideError(RowtideError):
    """Two instances would share what only one of them may have."""


class _Other(NamedTuple):
    name: str
    domain: str
    captures: str | None
    same_hash: bool


def _check(connection: psycopg.Connection[Any], app: App) -> None:
    """Raises InstancesCollideError where another instance of the state database has what this one needs."""
    domain = app.domain
    if foreign := next((t for t in domain.topics if t.startswith(_OWN)), None):
        raise InstancesCollideError(
            f"{app.name} is to read {foreign}, a topic that belongs to one instance alone.",
            hint="Name the source's topics in log.topics; parameters and decisions of an instance are its own.",
        )
    for other in _others(connection, app.name):
        if other.name == app.name:
            if other.domain != domain.kind:
                raise InstancesCollideError(
                    f"The instance {app.name} of this state database is of the domain {other.domain}, "
                    f"not of {domain.kind}.",
                    hint=f"Give the other one a name: `rowtide --domain {domain.kind} --instance NAME …`.",
                )
            continue
        _refuse_names(app.name, other, binlog=app.settings.source.kind == "mysql")
        if other.captures is not None and other.captures == _captured(app):
            raise InstancesCollideError(
                f"{app.name} and {other.name} would both capture into the topic {other.captures}.",
                hint=f'Give {app.name} a topic of its own: log.topics = ["{app.name}"].',
            )


@contextmanager
def setting_up(app: App) -> Iterator[psycopg.Connection[Any]]:
    """Set the instance up inside, while no other process sets one up. Raises InstancesCollideError, as `_check`."""
    with connect(app.dsn) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        _check(connection, app)
        yield connection
        connection.execute(
            "UPDATE rowtide.instance SET definition = coalesce(definition, '{}') || jsonb_build_object('captures', "
            "%s::jsonb) WHERE name = %s AND definition -> 'captures' IS DISTINCT FROM %s::jsonb",
            [json.dumps(_captured(app)), app.name, json.dumps(_captured(app))],
        )


def _captured(app: App) -> str | None:
    return None if app.settings.source.kind == "none" else app.domain.topics[0]


def _others(connection: psycopg.Connection[Any], name: str) -> list[_Other]:
    rows = connection.execute(
        "SELECT name, domain, definition ->> 'captures', hashtext(name) = hashtext(%s) FROM rowtide.instance", [name]
    ).fetchall()
    return [_Other(*row) for row in rows]


def _refuse_names(name: str, other: _Other, *, binlog: bool) -> None:
    """The schemas of an instance are NAME and NAME_source, those of its rebuild NAME_next and NAME_next_source."""
    if other.name == f"{name}_next":
        return  # what a rebuild of ours fills
    first, second = sorted((name, other.name), key=len)
    if second in (f"{first}_source", f"{first}_next", f"{first}_next_source"):
        raise InstancesCollideError(
            f"{second} cannot stand beside {first}: the schema of that name belongs to {first}.",
            hint="Name one of them otherwise: --instance NAME.",
        )
    if other.same_hash or (binlog and _server_number(name) == _server_number(other.name)):
        raise InstancesCollideError(
            f"{name} and {other.name} happen to get the same lock or the same number among a source's replicas.",
            hint=f"Name {name} otherwise, if only by a letter.",
        )


def _server_number(name: str) -> int:
    from connectors.capture.mysql.preflight import server_number  # noqa: PLC0415 - brings the driver with it

    return server_number(name)
