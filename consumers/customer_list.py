"""The customers of an instance as they are asked for: which are due, pending or unsettled, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.rows import dict_row

from connectors.quickbooks.customer import Wished
from connectors.quickbooks.decide import Held
from consumers.customer_rows import helds_of, wishes_of
from consumers.customer_session import CustomerSession
from consumers.engine.sqltext import quote

PAGE = 300  # records looked at in one statement
# A pending row is to be pushed where nothing is known of it, where it changed since it was last tried, and where it
# waits no longer. What has an unsettled request, or was done and only has to be told, is not taken up here.
DUE = (
    "(c.record IS NULL OR CASE WHEN c.state = 'synced' THEN c.fingerprint IS DISTINCT FROM m.fingerprint "
    "WHEN c.state IN ('failed', 'parked') AND c.tried IS DISTINCT FROM m.fingerprint THEN true "
    "WHEN c.state = 'parked' THEN false "
    "ELSE c.due_at IS NULL OR c.due_at <= to_timestamp(%s) END) "
    "AND NOT EXISTS (SELECT FROM rowtide.quickbooks_request AS r WHERE r.realm_id = c.realm_id "
    "AND r.instance = c.instance AND r.record = c.record AND r.state <> 'settled')"
)


class CustomerList(CustomerSession):
    """What is asked about customers; nothing is changed by it."""

    def other_company(self) -> str | None:
        """Another company that customers went to, as the log tells; None: there is none."""
        table = f"{quote(self.instance + '_source')}.{quote(self.push.pushed.name)}"
        with self._transaction() as connection:
            row = connection.execute(
                f"SELECT realm_id FROM {table} WHERE realm_id <> %s AND quickbooks_id IS NOT NULL LIMIT 1",
                [self.realm_id],
            ).fetchone()
        return row[0] if row else None

    def due(self, after: str, kinds: Sequence[str] | None = None, *, limit: int = PAGE) -> list[str]:
        """The next records behind one that are to be pushed now, in their order; empty: there are no more."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT p.record FROM {self._models} WHERE p.record > %s AND {DUE} "
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

    def anything_waits(self) -> bool:
        """Whether something is to be pushed, tried again or settled, be it later."""
        return self.next_due() is not None or bool(self.due("", limit=1)) or bool(self.unsettled())

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

    def wishes(self, records: Sequence[str] | None = None) -> dict[str, Wished]:
        """Customers as the models say they should be; all of them without `records`."""
        with self._transaction() as connection:
            return wishes_of(connection, self, records)

    def helds(self, records: Sequence[str] | None = None) -> dict[str, Held]:
        """What is known of customers; of all of them without `records`."""
        with self._transaction() as connection:
            return helds_of(connection, self, records)

    def owners(self, ids: Sequence[str]) -> dict[str, str]:
        """Who has customers in the map: record, with its instance where that is another one, by QuickBooks id."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT quickbooks_id, CASE WHEN instance = %s THEN record ELSE instance || '/' || record END "
                "FROM rowtide.customer WHERE realm_id = %s AND quickbooks_id = ANY(%s)",
                [self.instance, self.realm_id, list(ids)],
            ).fetchall()
        return dict(rows)

    def last_sweep(self) -> float | None:
        """When the company was last compared with the map, in seconds since 1970."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT extract(epoch FROM swept_at)::float8 FROM rowtide.customer_sweep "
                "WHERE realm_id = %s AND instance = %s",
                [self.realm_id, self.instance],
            ).fetchone()
        return None if row is None else float(row[0])
