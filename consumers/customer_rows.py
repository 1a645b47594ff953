"""Rows of customers, of requests about them and of the models, as the values that pushing works with, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

from connectors.quickbooks.customer import Wished
from connectors.quickbooks.decide import Held, Request
from connectors.quickbooks.workload import ClaimLostError, Recorded
from consumers.customer_session import Connection, CustomerSession
from consumers.engine.sqltext import quote
from consumers.push import CUSTOMER

_MOMENTS = frozenset({"doubt_since", "due_at", "pushed_at"})
_JSON = frozenset({"sent", "fields_sent", "fields_refused", "left_out", "names_refused"})
_HELD = tuple(entry.name for entry in fields(Held) if entry.name != "seed")
_REQUEST_MOMENTS = frozenset({"stored_at", "since", "sent_at"})
# A body is kept as it was written, to the order of its attributes: it is sent again as the same text.
_REQUEST_JSON = {"body": Json, "attributes": Jsonb, "defined": Jsonb}
_REQUEST = tuple(entry.name for entry in fields(Request) if entry.name != "doubtful")


def wishes_of(connection: Connection, whose: CustomerSession, records: Sequence[str] | None) -> dict[str, Wished]:
    """Customers as the models say they should be; all of them without `records`."""
    columns = ", ".join(f"m.{quote(name)}" for name in CUSTOMER)
    where, values = ("WHERE m.record = ANY(%s)", [list(records)]) if records is not None else ("", [])
    rows = connection.execute(
        f"SELECT {columns} FROM {quote(whose.instance)}.{quote(whose.push.model)} AS m {where} ORDER BY m.record",
        values,
    ).fetchall()
    return {row[0]: _wished(dict(zip(CUSTOMER, row, strict=True))) for row in rows}


def helds_of(connection: Connection, whose: CustomerSession, records: Sequence[str] | None) -> dict[str, Held]:
    """What is known of customers; of all of them without `records`."""
    columns = ", ".join(_as_seconds("c", name, name in _MOMENTS) for name in ("seed", *_HELD))
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"SELECT {columns} FROM rowtide.customer AS c WHERE c.realm_id = %s AND c.instance = %s "
            "AND (%s::text[] IS NULL OR c.record = ANY(%s)) ORDER BY c.record",
            [whose.realm_id, whose.instance, *[None if records is None else list(records)] * 2],
        )
        return {row["record"]: Held(**row) for row in cursor.fetchall()}


def unsettled_requests(connection: Connection, whose: CustomerSession, records: Sequence[str]) -> dict[str, Request]:
    """The requests about records that have no recorded outcome, by record."""
    columns = ", ".join(_as_seconds("r", name, name in _REQUEST_MOMENTS) for name in _REQUEST)
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"SELECT {columns} FROM rowtide.quickbooks_request AS r WHERE r.realm_id = %s AND r.instance = %s "
            "AND r.record = ANY(%s) AND r.state <> 'settled'",
            [whose.realm_id, whose.instance, list(records)],
        )
        return {row["record"]: Request(**row, doubtful=True) for row in cursor.fetchall()}


def save(connection: Connection, whose: CustomerSession, helds: Sequence[Held]) -> list[Held]:
    """Store what is known of customers. Returns it as stored; raises ClaimLostError where another has taken one over."""
    names = [name for name in _HELD if name not in ("record", "version")]
    sets = ", ".join(f"{name} = {'to_timestamp(%s)' if name in _MOMENTS else '%s'}" for name in names)
    given = [
        [
            *(
                Jsonb(value) if name in _JSON and value is not None else value
                for name in names
                for value in [getattr(held, name)]
            ),
            *(whose.now(), whose.realm_id, whose.instance, held.record, held.version),
        ]
        for held in helds
    ]
    _update_each(
        connection,
        f"UPDATE rowtide.customer SET {sets}, version = version + 1, updated_at = to_timestamp(%s) "
        "WHERE realm_id = %s AND instance = %s AND record = %s AND version = %s",
        given,
    )
    return [replace(held, version=held.version + 1) for held in helds]


def insert_requests(connection: Connection, whose: CustomerSession, requests: Sequence[Request]) -> None:
    """Store requests that have not been sent."""
    names = ", ".join(("realm_id", "instance", "state", *_REQUEST))
    places = ", ".join("to_timestamp(%s)" if name in _REQUEST_MOMENTS else "%s" for name in _REQUEST)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO rowtide.quickbooks_request ({names}) VALUES (%s, %s, 'open', {places})",
            [
                [
                    whose.realm_id,
                    whose.instance,
                    *(
                        _REQUEST_JSON[name](getattr(request, name)) if name in _REQUEST_JSON else getattr(request, name)
                        for name in _REQUEST
                    ),
                ]
                for request in requests
            ],
        )


def record_requests(connection: Connection, whose: CustomerSession, outcomes: Sequence[Recorded]) -> None:
    """Store what came of requests. Raises ClaimLostError where one is settled already."""
    _update_each(
        connection,
        "UPDATE rowtide.quickbooks_request SET state = %s, outcome = %s, sends = %s, refusals = %s, batch_id = %s, "
        "position = %s, settled_at = CASE WHEN %s THEN to_timestamp(%s) END "
        "WHERE requestid = %s AND state <> 'settled'",
        [
            [
                "settled" if outcome.settled else "unknown",
                outcome.outcome,
                request.sends,
                request.refusals,
                request.batch_id,
                request.position,
                outcome.settled,
                whose.now(),
                request.requestid,
            ]
            for outcome in outcomes
            if (request := outcome.request) is not None
        ],
    )


def _update_each(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Update one row for each of the values, without waiting for one before the next is sent."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)
        if cursor.rowcount != len(rows):
            raise ClaimLostError


def _wished(row: Mapping[str, Any]) -> Wished:
    texts = {name: None if row[name] is None else str(row[name]) for name in CUSTOMER if name != "fields"}
    given = row["fields"] if isinstance(row["fields"], Mapping) else {}
    fields_ = {str(name): "" if value is None else str(value) for name, value in given.items()}
    real = texts.pop("real_name") or texts["record"] or ""
    required = {name: texts.pop(name) or "" for name in ("record", "kind", "record_id", "fingerprint")}
    return Wished(**required, real_name=real, fields=fields_, **texts)  # type: ignore[arg-type] # the rest may be None


def _as_seconds(alias: str, name: str, is_moment: bool) -> str:
    return f"extract(epoch FROM {alias}.{name})::float8 AS {name}" if is_moment else f"{alias}.{name}"
