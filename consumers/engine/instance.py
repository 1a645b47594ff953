"""A domain instance in the state database: made, found again, taken over, swapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from connectors.errors import RowtideError
from consumers.engine import schema
from consumers.engine.analysis import Analysis

Connection = psycopg.Connection[tuple[Any, ...]]
NEXT = "_next"  # the suffix of the instance that a rebuild fills


class InstanceError(RowtideError):
    """The instance is not there, or not as the domain's files say."""


@dataclass(frozen=True)
class Instance:
    """The row of an instance: its epoch, the fingerprint of the files it was made from, its state."""

    name: str
    epoch: int
    fingerprint: str
    state: str
    reason: str | None


def find(connection: Connection, name: str) -> Instance | None:
    """The instance, if it was made."""
    row = connection.execute(
        "SELECT name, epoch, fingerprint, state, state_reason FROM rowtide.instance WHERE name = %s", [name]
    ).fetchone()
    return None if row is None else Instance(*row)


def create(connection: Connection, name: str, analysis: Analysis) -> None:
    """Make an instance, empty, in one transaction."""
    with connection.transaction():
        schema.create(connection, name, analysis)
        connection.execute(
            "INSERT INTO rowtide.instance (name, domain, epoch, fingerprint) VALUES (%s, %s, 0, %s)",
            [name, analysis.domain.kind, analysis.domain.fingerprint],
        )
    connection.execute("RESET search_path")


def require(connection: Connection, name: str, analysis: Analysis) -> Instance:
    """The instance as the files say. Raises InstanceError with the command to type."""
    found = find(connection, name)
    if found is None or not schema.exists(connection, name):
        raise InstanceError(f"{name} has not been set up in this state database.", hint="Run `rowtide init` first.")
    if found.fingerprint != analysis.domain.fingerprint:
        raise InstanceError(
            f"The files of {name} have changed since its tables were built.",
            hint="Run `rowtide rebuild`: it builds new tables beside the live ones and swaps them.",
        )
    return found


def take_over(connection: Connection, name: str) -> int:
    """Become the instance's writer: the epoch rises, and whoever wrote before is fenced off. Returns the epoch."""
    with connection.transaction():
        row = connection.execute(
            "UPDATE rowtide.instance SET epoch = epoch + 1, state = 'running', state_reason = NULL "
            "WHERE name = %s RETURNING epoch",
            [name],
        ).fetchone()
    if row is None:
        raise InstanceError(f"{name} has not been set up in this state database.", hint="Run `rowtide init` first.")
    return int(row[0])


def stop(connection: Connection, name: str, reason: str) -> None:
    """Record why the instance does not run on; a person has to act."""
    with connection.transaction():
        connection.execute(
            "UPDATE rowtide.instance SET state = 'stopped', state_reason = %s WHERE name = %s", [reason, name]
        )


def remove(connection: Connection, name: str) -> None:
    """Remove an instance with everything it holds."""
    with connection.transaction():
        schema.drop(connection, name)
        for table in ("position", "parked_event", "foreign_key", "delivery"):
            connection.execute(f"DELETE FROM rowtide.{table} WHERE instance = %s", [name])
        connection.execute("DELETE FROM rowtide.instance WHERE name = %s", [name])


def swap(connection: Connection, name: str) -> None:
    """Put the rebuilt instance in the live one's place, in one transaction; the live writer is fenced off by it."""
    fresh = name + NEXT
    with connection.transaction():
        old = connection.execute("SELECT epoch FROM rowtide.instance WHERE name = %s FOR UPDATE", [name]).fetchone()
        schema.swap(connection, name, fresh)
        connection.execute(
            "UPDATE rowtide.instance AS live SET epoch = live.epoch + 1, fingerprint = fresh.fingerprint, "
            "clock = fresh.clock, state = 'running', state_reason = NULL "
            "FROM rowtide.instance AS fresh WHERE live.name = %s AND fresh.name = %s",
            [name, fresh],
        )
        for table in ("position", "parked_event", "foreign_key"):
            connection.execute(f"DELETE FROM rowtide.{table} WHERE instance = %s", [name])
            connection.execute(f"UPDATE rowtide.{table} SET instance = %s WHERE instance = %s", [name, fresh])
        connection.execute("DELETE FROM rowtide.instance WHERE name = %s", [fresh])
        if old is None:
            raise InstanceError(f"{name} has not been set up in this state database.", hint="Run `rowtide init` first.")
