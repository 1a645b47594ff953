"""The customers of an instance in the state database: which are to be pushed, who works on which, what came of it.

A record is worked on by whoever holds its advisory lock, which ends with the session: nothing stays claimed by the
dead. Should a session be lost while its work goes on, the version of each row fences: what it records then is refused,
and whoever took the record up sent the same request with the same requestid.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

from connectors.quickbooks import naming
from connectors.quickbooks.customer import Wished
from connectors.quickbooks.decide import Held, Request
from connectors.quickbooks.workload import ClaimLostError, Item, Pack, Recorded
from connectors.state import connect
from consumers.customer_telling import PAGE as TOLD
from consumers.customer_telling import Told, tell_again, untold
from consumers.engine.sqltext import quote
from consumers.push import CUSTOMER, CustomerPush

Connection = psycopg.Connection[tuple[Any, ...]]
PAGE = 300  # records looked at in one statement
_SPACE = 0x72776375  # of the records' locks
_TELLING = 0x72777463  # one process at a time tells of an instance
_IDLE = 600_000  # ms of silence after which the server ends a session that may hold claims

_MOMENTS = frozenset({"doubt_since", "due_at", "pushed_at"})
_JSON = frozenset({"sent", "fields_sent", "fields_refused", "left_out", "names_refused"})
_HELD = tuple(entry.name for entry in fields(Held) if entry.name != "seed")
_REQUEST_MOMENTS = frozenset({"stored_at", "since", "sent_at"})
# A body is kept as it was written, to the order of its attributes: it is sent again as the same text.
_REQUEST_JSON = {"body": Json, "attributes": Jsonb, "defined": Jsonb}
_REQUEST = tuple(entry.name for entry in fields(Request) if entry.name != "doubtful")


@dataclass
class CustomerStore:
    """One session on an instance's customers. Safe to use from several threads; each call is one transaction.

    Args:
        dsn: of the state database.
        instance: whose models are read.
        push: the models.
        realm_id: the company.
        now: seconds since 1970.
    """

    dsn: str
    instance: str
    push: CustomerPush
    realm_id: str
    now: Callable[[], float]
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The session. Claims live as long as it does."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self.dsn)
            self._connection.execute(f"SET idle_session_timeout = {_IDLE}")
        return self._connection

    def close(self) -> None:
        """End the session, and with it every claim."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._lock, self.connection.transaction():
            yield self.connection

    # --- which ---

    def other_company(self) -> str | None:
        """Another company that customers went to, as the log tells; None: there is none."""
        table = f"{quote(self.instance + '_source')}.{quote(self.push.pushed.name)}"
        with self._transaction() as connection:
            row = connection.execute(
                f"SELECT realm_id FROM {table} WHERE realm_id <> %s AND quickbooks_id IS NOT NULL LIMIT 1",
                [self.realm_id],
            ).fetchone()
        return row[0] if row else None

    def import_map(self) -> int:
        """Take into the map what only the input `pushed` knows: the state database was built anew. Returns how many."""
        table = f"{quote(self.instance + '_source')}.{quote(self.push.pushed.name)}"
        with self._transaction() as connection:
            rows = connection.execute(
                "INSERT INTO rowtide.customer AS c (realm_id, instance, record, quickbooks_id, sync_token, display_name, "
                "fingerprint, tried, state, pushed_at, pushed_by, updated_at) "
                "SELECT p.realm_id, %s, p.record, p.quickbooks_id, p.sync_token, p.display_name, p.fingerprint, "
                "p.fingerprint, CASE WHEN p.fingerprint IS NULL THEN 'available' ELSE 'synced' END, p.pushed_at, "
                f"p.pushed_by, to_timestamp(%s) FROM {table} AS p WHERE p.realm_id = %s AND p.quickbooks_id IS NOT NULL "
                "AND NOT EXISTS (SELECT FROM rowtide.customer AS h WHERE h.realm_id = p.realm_id AND h.instance = %s "
                "AND h.record = p.record) ON CONFLICT DO NOTHING RETURNING c.record, c.display_name",
                [self.instance, self.now(), self.realm_id, self.instance],
            ).fetchall()
            self._reserve(connection, [(record, naming.key(name)) for record, name in rows if name])
        return len(rows)

    def due(self, after: str, kinds: Sequence[str] | None = None, *, limit: int = PAGE) -> list[str]:
        """The next records behind one that are to be pushed now, in their order; empty: there are no more."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT p.record FROM {self._models} WHERE p.record > %s AND {_DUE} "
                "AND (%s::text[] IS NULL OR m.kind = ANY(%s)) ORDER BY p.record LIMIT %s",
                [self.realm_id, self.instance, after, self.now(), kinds and list(kinds), kinds and list(kinds), limit],
            ).fetchall()
        return [row[0] for row in rows]

    @property
    def _models(self) -> str:
        return (
            f"{quote(self.instance)}.{quote(self.push.pending)} AS p "
            f"JOIN {quote(self.instance)}.{quote(self.push.model)} AS m ON m.record = p.record "
            "LEFT JOIN rowtide.customer AS c ON c.realm_id = %s AND c.instance = %s AND c.record = p.record"
        )

    def unsettled(self) -> list[list[str]]:
        """Records whose request has no recorded outcome and is due, those of one batch together."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT array_agg(r.record ORDER BY r.position, r.record) FROM rowtide.quickbooks_request AS r "
                "JOIN rowtide.customer AS c USING (realm_id, instance, record) WHERE r.realm_id = %s AND r.instance = %s "
                "AND r.state <> 'settled' GROUP BY coalesce(r.batch_id, r.requestid) "
                "HAVING coalesce(max(c.due_at), '-infinity') <= to_timestamp(%s) ORDER BY min(r.stored_at)",
                [self.realm_id, self.instance, self.now()],
            ).fetchall()
        return [row[0] for row in rows]

    def pending(self, kind: str | None, limit: int, offset: int) -> list[str]:
        """Pending records, whatever became of them, for a person who looks: the only place that counts rows off."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT p.record FROM {self._models} WHERE %s::text IS NULL OR m.kind = %s "
                "ORDER BY p.record LIMIT %s OFFSET %s",
                [self.realm_id, self.instance, kind, kind, limit, offset],
            ).fetchall()
        return [row[0] for row in rows]

    def next_due(self) -> float | None:
        """Seconds until something waits no longer; None where nothing does."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT extract(epoch FROM min(due_at))::float8 FROM rowtide.customer WHERE realm_id = %s "
                "AND instance = %s AND state IN ('running', 'retryable', 'failed')",
                [self.realm_id, self.instance],
            ).fetchone()
        return None if row is None or row[0] is None else max(0.0, float(row[0]) - self.now())

    def retry(self, records: Sequence[str]) -> list[str]:
        """Have customers tried at once, what QuickBooks refused before included. Returns those that wait or failed."""
        with self._transaction() as connection:
            rows = connection.execute(
                "UPDATE rowtide.customer SET state = 'available', attempts = 0, due_at = NULL, reason = NULL, "
                "names_refused = '{}', left_out = '{}', fields_refused = '{}', version = version + 1, "
                "updated_at = to_timestamp(%s) WHERE realm_id = %s AND instance = %s AND record = ANY(%s) "
                "AND state IN ('retryable', 'failed', 'parked') RETURNING record",
                [self.now(), self.realm_id, self.instance, list(records)],
            ).fetchall()
        return sorted(row[0] for row in rows)

    def requests(self, record: str, limit: int = 20) -> list[dict[str, Any]]:
        """The last requests about a record, the newest first, without what they sent."""
        with self._lock, self.connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                "SELECT requestid, operation, batch_id, stored_at, sends, state, outcome, settled_at "
                "FROM rowtide.quickbooks_request WHERE realm_id = %s AND instance = %s AND record = %s "
                "ORDER BY stored_at DESC, requestid LIMIT %s",
                [self.realm_id, self.instance, record, limit],
            )
            return [dict(row) for row in cursor.fetchall()]

    # --- claiming ---

    def claim(self, records: Sequence[str], *, together: bool = False, due_only: bool = True) -> list[Item]:
        """Take up those of the records that nobody else works on and that still have something to do.

        Args:
            records: to take up.
            together: all or none.
            due_only: whether what is not due stays out; an unsettled request that is due always counts.
        """
        with self._lock:
            rows = self.connection.execute(
                "SELECT r FROM unnest(%s::text[]) AS r WHERE pg_try_advisory_lock(%s, hashtext(%s || r))",
                [list(records), _SPACE, self._claims],
            ).fetchall()
            locked = [row[0] for row in rows]
            try:
                whole = not together or len(locked) == len(records)
                items = self._load(locked, due_only=due_only) if whole else []
            except BaseException:
                self.release(locked)
                raise
            taken = {item.held.record for item in items}
            self.release([record for record in locked if record not in taken])
            return items

    @property
    def _claims(self) -> str:
        return f"{self.realm_id}/{self.instance}/"

    def release(self, records: Sequence[str]) -> None:
        """Give claims back."""
        with self._lock:
            if records and self._connection is not None and not self._connection.closed:
                self._connection.execute(
                    "SELECT pg_advisory_unlock(%s, hashtext(%s || r)) FROM unnest(%s::text[]) AS r",
                    [_SPACE, self._claims, list(records)],
                )

    def _load(self, records: Sequence[str], *, due_only: bool) -> list[Item]:
        if not records:
            return []
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO rowtide.customer (realm_id, instance, record, state, updated_at) "
                f"SELECT %s, %s, m.record, 'available', to_timestamp(%s) FROM {quote(self.instance)}."
                f"{quote(self.push.model)} AS m WHERE m.record = ANY(%s) ON CONFLICT DO NOTHING",
                [self.realm_id, self.instance, self.now(), list(records)],
            )
            due = connection.execute(
                f"SELECT p.record FROM {self._models} WHERE p.record = ANY(%s) AND {_DUE}",
                [self.realm_id, self.instance, list(records), self.now()],
            ).fetchall()
            requests = self._requests(connection, records)
            helds = self._helds(connection, records)
            wishes = self.wishes(records)
        wanted = {row[0] for row in due}
        items = []
        for record in records:
            held, request = helds.get(record), requests.get(record)
            if held is None:
                continue
            is_due = held.due_at is None or held.due_at <= self.now()
            if (request is not None and is_due) or record in wanted or (not due_only and record in wishes):
                items.append(Item(held, wishes.get(record), request))
        return items

    def wishes(self, records: Sequence[str] | None = None) -> dict[str, Wished]:
        """Customers as the models say they should be; all of them without `records`."""
        columns = ", ".join(f"m.{quote(name)}" for name in CUSTOMER)
        where, values = ("WHERE m.record = ANY(%s)", [list(records)]) if records is not None else ("", [])
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT {columns} FROM {quote(self.instance)}.{quote(self.push.model)} AS m {where} ORDER BY m.record",
                values,
            ).fetchall()
        return {row[0]: _wished(dict(zip(CUSTOMER, row, strict=True))) for row in rows}

    def helds(self, records: Sequence[str] | None = None) -> dict[str, Held]:
        """What is known of customers; of all of them without `records`."""
        with self._transaction() as connection:
            return self._helds(connection, records)

    def _helds(self, connection: Connection, records: Sequence[str] | None) -> dict[str, Held]:
        columns = ", ".join(_as_seconds("c", name, name in _MOMENTS) for name in ("seed", *_HELD))
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                f"SELECT {columns} FROM rowtide.customer AS c WHERE c.realm_id = %s AND c.instance = %s "
                "AND (%s::text[] IS NULL OR c.record = ANY(%s)) ORDER BY c.record",
                [self.realm_id, self.instance, *[None if records is None else list(records)] * 2],
            )
            return {row["record"]: Held(**row) for row in cursor.fetchall()}

    def _requests(self, connection: Connection, records: Sequence[str]) -> dict[str, Request]:
        columns = ", ".join(_as_seconds("r", name, name in _REQUEST_MOMENTS) for name in _REQUEST)
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                f"SELECT {columns} FROM rowtide.quickbooks_request AS r WHERE r.realm_id = %s AND r.instance = %s "
                "AND r.record = ANY(%s) AND r.state <> 'settled'",
                [self.realm_id, self.instance, list(records)],
            )
            return {row["record"]: Request(**row, doubtful=True) for row in cursor.fetchall()}

    # --- recording ---

    def begin(
        self, items: Sequence[tuple[Held, Request]], pack: Pack
    ) -> tuple[dict[str, tuple[Held, Request]], dict[str, str]]:
        """Store requests before they are sent, with their display names reserved, in one transaction.

        Args:
            items: customers and their requests.
            pack: puts those that go into batches; keeps their order.

        Returns what was stored by record, and those left out because another record has the name: key by record.
        """
        with self._transaction() as connection:
            wanted = [(request.record, naming.key(request.name)) for _, request in items if request.name]
            owners = self._reserve(connection, wanted)
            keys = dict(wanted)
            refused = {record: key for record, key in keys.items() if owners.get(key) != (self.instance, record)}
            going = [(held, request) for held, request in items if held.record not in refused]
            stored = self._save(connection, [replace(held, sequence=held.sequence + 1) for held, _ in going])
            packed = pack([request for _, request in going])
            self._insert_requests(connection, packed)
        return {held.record: (held, request) for held, request in zip(stored, packed, strict=True)}, refused

    def again(self, requests: Sequence[Request]) -> None:
        """Note that requests are sent once more."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE rowtide.quickbooks_request SET sent_at = to_timestamp(%s) WHERE requestid = ANY(%s)",
                [self.now(), [request.requestid for request in requests]],
            )

    def record(self, outcomes: Sequence[Recorded]) -> dict[str, Held]:
        """Record what came of requests, and what is known since, in one transaction. Returns the customers as stored.

        Raises ClaimLostError where another has taken a record over, and psycopg's UniqueViolation where a customer
        belongs to another record.
        """
        with self._transaction() as connection:
            stored = self._save(connection, [outcome.held for outcome in outcomes])
            for outcome in outcomes:
                if outcome.request is not None:
                    self._record_request(connection, outcome)
            ended = [o.held for o in outcomes if o.request is not None and o.settled]
            self._forget_names(connection, ended)
        return {held.record: held for held in stored}

    def _save(self, connection: Connection, helds: Sequence[Held]) -> list[Held]:
        names = [name for name in _HELD if name not in ("record", "version")]
        sets = ", ".join(f"{name} = {'to_timestamp(%s)' if name in _MOMENTS else '%s'}" for name in names)
        with connection.cursor() as cursor:
            for held in helds:
                values = [
                    Jsonb(value) if name in _JSON and value is not None else value
                    for name in names
                    for value in [getattr(held, name)]
                ]
                cursor.execute(
                    f"UPDATE rowtide.customer SET {sets}, version = version + 1, updated_at = to_timestamp(%s) "
                    "WHERE realm_id = %s AND instance = %s AND record = %s AND version = %s",
                    [*values, self.now(), self.realm_id, self.instance, held.record, held.version],
                )
                if cursor.rowcount != 1:
                    raise ClaimLostError
        return [replace(held, version=held.version + 1) for held in helds]

    def _insert_requests(self, connection: Connection, requests: Sequence[Request]) -> None:
        names = ", ".join(("realm_id", "instance", "state", *_REQUEST))
        places = ", ".join("to_timestamp(%s)" if name in _REQUEST_MOMENTS else "%s" for name in _REQUEST)
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO rowtide.quickbooks_request ({names}) VALUES (%s, %s, 'open', {places})",
                [
                    [
                        self.realm_id,
                        self.instance,
                        *(
                            _REQUEST_JSON[name](getattr(request, name))
                            if name in _REQUEST_JSON
                            else getattr(request, name)
                            for name in _REQUEST
                        ),
                    ]
                    for request in requests
                ],
            )

    def _record_request(self, connection: Connection, outcome: Recorded) -> None:
        assert outcome.request is not None  # noqa: S101 - for mypy; the caller looked
        request = outcome.request
        state = "settled" if outcome.settled else "unknown"
        updated = connection.execute(
            "UPDATE rowtide.quickbooks_request SET state = %s, outcome = %s, sends = %s, refusals = %s, batch_id = %s, "
            "position = %s, settled_at = CASE WHEN %s THEN to_timestamp(%s) END "
            "WHERE requestid = %s AND state <> 'settled'",
            [
                state,
                outcome.outcome,
                request.sends,
                request.refusals,
                request.batch_id,
                request.position,
                outcome.settled,
                self.now(),
                request.requestid,
            ],
        )
        if updated.rowcount != 1:
            raise ClaimLostError

    def _reserve(self, connection: Connection, wanted: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
        """Reserve names for records where they are free. Returns who has each: (instance, record) by name."""
        if not wanted:
            return {}
        ordered = sorted(wanted, key=lambda pair: pair[1])  # everybody in one order: nobody waits in a circle
        records, keys = [record for record, _ in ordered], [key for _, key in ordered]
        connection.execute(
            "INSERT INTO rowtide.customer_name (realm_id, name, instance, record) "
            "SELECT %s, name, %s, record FROM unnest(%s::text[], %s::text[]) AS u(record, name) ON CONFLICT DO NOTHING",
            [self.realm_id, self.instance, records, keys],
        )
        rows = connection.execute(
            "SELECT name, instance, record FROM rowtide.customer_name WHERE realm_id = %s AND name = ANY(%s)",
            [self.realm_id, keys],
        ).fetchall()
        return {name: (instance, record) for name, instance, record in rows}

    def _forget_names(self, connection: Connection, helds: Sequence[Held]) -> None:
        """Let the names of records go that are not the display name they have."""
        if helds:
            connection.execute(
                "DELETE FROM rowtide.customer_name AS n USING unnest(%s::text[], %s::text[]) AS u(record, name) "
                "WHERE n.realm_id = %s AND n.instance = %s AND n.record = u.record AND n.name <> u.name",
                [
                    [held.record for held in helds],
                    [naming.key(held.display_name or "") for held in helds],
                    self.realm_id,
                    self.instance,
                ],
            )

    def owners(self, ids: Sequence[str]) -> dict[str, str]:
        """Who has customers in the map: record, with its instance where that is another one, by QuickBooks id."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT quickbooks_id, CASE WHEN instance = %s THEN record ELSE instance || '/' || record END "
                "FROM rowtide.customer WHERE realm_id = %s AND quickbooks_id = ANY(%s)",
                [self.instance, self.realm_id, list(ids)],
            ).fetchall()
        return dict(rows)

    def adopt(self, helds: Sequence[Held]) -> int:
        """Take customers that are in QuickBooks into the map, in one transaction. Returns how many.

        Raises psycopg's UniqueViolation where a customer belongs to another record.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO rowtide.customer (realm_id, instance, record, state, updated_at) SELECT %s, %s, r, "
                "'available', to_timestamp(%s) FROM unnest(%s::text[]) AS r ON CONFLICT DO NOTHING",
                [self.realm_id, self.instance, self.now(), [held.record for held in helds]],
            )
            present = self._helds(connection, [held.record for held in helds])
            # The number of the last request stays: no requestid may come a second time.
            wanted = [
                replace(held, version=known.version, sequence=known.sequence)
                for held in helds
                for known in [present[held.record]]
            ]
            self._save(connection, wanted)
            self._reserve(connection, [(h.record, naming.key(h.display_name)) for h in helds if h.display_name])
        return len(wanted)

    def last_sweep(self) -> float | None:
        """When the company was last compared with the map, in seconds since 1970."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT extract(epoch FROM swept_at)::float8 FROM rowtide.customer_sweep "
                "WHERE realm_id = %s AND instance = %s",
                [self.realm_id, self.instance],
            ).fetchone()
        return None if row is None else float(row[0])

    def swept(self, at: float) -> None:
        """Note that the company was compared with the map."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO rowtide.customer_sweep VALUES (%s, %s, to_timestamp(%s)) "
                "ON CONFLICT (realm_id, instance) DO UPDATE SET swept_at = excluded.swept_at",
                [self.realm_id, self.instance, at],
            )

    # --- telling ---

    def tell(self, append: Callable[[Sequence[Told]], None], told: Callable[[], None] = lambda: None) -> int:
        """Have what is untold appended to the log, page by page, and note that it was. Returns how many.

        One process at a time tells of an instance: an older result must not be appended behind a newer one.

        Args:
            append: appends results to the log.
            told: called between appending and noting it.
        """
        count = 0
        with self._lock:
            connection = self.connection
            row = connection.execute(
                "SELECT pg_try_advisory_lock(%s, hashtext(%s))", [_TELLING, self.instance]
            ).fetchone()
            if row != (True,):
                return 0
            try:
                tell_again(connection, self)
                while page := untold(connection, self):
                    append(page)
                    told()
                    connection.execute(
                        "UPDATE rowtide.customer AS c SET told = true FROM unnest(%s::text[], %s::bigint[]) "
                        "AS u(record, version) WHERE c.realm_id = %s AND c.instance = %s AND c.record = u.record "
                        "AND c.version = u.version",
                        [
                            [one.record for one in page],
                            [one.version for one in page],
                            self.realm_id,
                            self.instance,
                        ],
                    )
                    count += len(page)
                    if len(page) < TOLD:
                        break
            finally:
                if not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [_TELLING, self.instance])
        return count


# A pending row is to be pushed where nothing is known of it, where it changed since it was last tried, and where it
# waits no longer. What has an unsettled request, or was done and only has to be told, is not taken up here.
_DUE = (
    "(c.record IS NULL OR CASE WHEN c.state = 'synced' THEN c.fingerprint IS DISTINCT FROM m.fingerprint "
    "WHEN c.state IN ('failed', 'parked') AND c.tried IS DISTINCT FROM m.fingerprint THEN true "
    "WHEN c.state = 'parked' THEN false "
    "ELSE c.due_at IS NULL OR c.due_at <= to_timestamp(%s) END) "
    "AND NOT EXISTS (SELECT FROM rowtide.quickbooks_request AS r WHERE r.realm_id = c.realm_id "
    "AND r.instance = c.instance AND r.record = c.record AND r.state <> 'settled')"
)


def _wished(row: Mapping[str, Any]) -> Wished:
    texts = {name: None if row[name] is None else str(row[name]) for name in CUSTOMER if name != "fields"}
    given = row["fields"] if isinstance(row["fields"], Mapping) else {}
    fields_ = {str(name): "" if value is None else str(value) for name, value in given.items()}
    real = texts.pop("real_name") or texts["record"] or ""
    required = {name: texts.pop(name) or "" for name in ("record", "kind", "record_id", "fingerprint")}
    return Wished(**required, real_name=real, fields=fields_, **texts)  # type: ignore[arg-type] # the rest may be None


def _as_seconds(alias: str, name: str, is_moment: bool) -> str:
    return f"extract(epoch FROM {alias}.{name})::float8 AS {name}" if is_moment else f"{alias}.{name}"
