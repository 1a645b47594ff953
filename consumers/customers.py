"""The customers of an instance in the state database: which are to be pushed, who works on which, what came of it.

A record is worked on by whoever holds its advisory lock, which ends with the session: nothing stays claimed by the
dead. Should a session be lost while its work goes on, the version of each row fences: what it records then is refused,
and whoever took the record up sent the same request with the same requestid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from connectors.quickbooks import naming
from connectors.quickbooks.decide import Held, Request
from connectors.quickbooks.workload import Item, Pack, Recorded
from consumers import customer_names, customer_rows, customer_telling
from consumers.customer_list import DUE, CustomerList
from consumers.customer_telling import Told
from consumers.engine.sqltext import quote


class CustomerStore(CustomerList):
    """What is worked on, and what came of it. Safe to use from several threads; each call is one transaction."""

    # --- claiming ---

    def claim(self, records: Sequence[str], *, together: bool = False, due_only: bool = True) -> list[Item]:
        """Take up those of the records that nobody else works on and that still have something to do.

        Args:
            records: to take up.
            together: all or none.
            due_only: whether what is not due stays out; an unsettled request that is due always counts.
        """
        with self._lock:
            locked = self._take(records)
            try:
                whole = not together or len(locked) == len(records)
                items = self._load(locked, due_only=due_only) if whole else []
            except BaseException:
                self.release(locked)
                raise
            taken = {item.held.record for item in items}
            self.release([record for record in locked if record not in taken])
            return items

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
                f"SELECT p.record FROM {self._models} WHERE p.record = ANY(%s) AND {DUE}",
                [self.realm_id, self.instance, list(records), self.now()],
            ).fetchall()
            requests = customer_rows.unsettled_requests(connection, self, records)
            helds = customer_rows.helds_of(connection, self, records)
            wishes = customer_rows.wishes_of(connection, self, records)
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
            owners = customer_names.reserve(connection, self, wanted)
            keys = dict(wanted)
            refused = {record: key for record, key in keys.items() if owners.get(key) != (self.instance, record)}
            going = [(held, request) for held, request in items if held.record not in refused]
            stored = customer_rows.save(
                connection, self, [replace(held, sequence=held.sequence + 1) for held, _ in going]
            )
            packed = pack([request for _, request in going])
            customer_rows.insert_requests(connection, self, packed)
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
            stored = customer_rows.save(connection, self, [outcome.held for outcome in outcomes])
            customer_rows.record_requests(connection, self, outcomes)
            ended = [o.held for o in outcomes if o.request is not None and o.settled]
            customer_names.forget(connection, self, ended)
        return {held.record: held for held in stored}

    # --- the map ---

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
            customer_names.reserve(connection, self, [(record, naming.key(name)) for record, name in rows if name])
        return len(rows)

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
            present = customer_rows.helds_of(connection, self, [held.record for held in helds])
            # The number of the last request stays: no requestid may come a second time.
            wanted = [
                replace(held, version=known.version, sequence=known.sequence)
                for held in helds
                for known in [present[held.record]]
            ]
            customer_rows.save(connection, self, wanted)
            customer_names.reserve(
                connection, self, [(h.record, naming.key(h.display_name)) for h in helds if h.display_name]
            )
        return len(wanted)

    def swept(self, at: float) -> None:
        """Note that the company was compared with the map."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO rowtide.customer_sweep VALUES (%s, %s, to_timestamp(%s)) "
                "ON CONFLICT (realm_id, instance) DO UPDATE SET swept_at = excluded.swept_at",
                [self.realm_id, self.instance, at],
            )

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

    def hasten(self, since: float) -> int:
        """Have customers that were tried since a moment, and wait, tried at once. Returns how many waited.

        What others work on keeps their word: the version stays, and they record when it is due.
        """
        with self._transaction() as connection:
            return connection.execute(
                "UPDATE rowtide.customer SET due_at = NULL WHERE realm_id = %s AND instance = %s "
                "AND state IN ('retryable', 'failed') AND due_at > to_timestamp(%s) AND updated_at >= to_timestamp(%s)",
                [self.realm_id, self.instance, self.now(), since],
            ).rowcount

    # --- telling ---

    def tell(self, append: Callable[[Sequence[Told]], None], told: Callable[[], None] = lambda: None) -> int:
        """Have what is untold appended to the log, page by page, and note that it was. Returns how many.

        One process at a time tells of an instance: an older result must not be appended behind a newer one.

        Args:
            append: appends results to the log.
            told: called between appending and noting it.
        """
        with self._lock:
            return customer_telling.tell(self.connection, self, append, told)
