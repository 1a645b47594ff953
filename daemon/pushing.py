"""Pushing customers around an app: which company, whether it may be written to, several records at once.

The lane and the commands work through the same `Work`; records are shared out by their claims, and the pace by the
client, so that any number of them may run beside each other.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from connectors.errors import RowtideError
from connectors.failpoints import failpoint
from connectors.quickbooks import realm, resolve
from connectors.quickbooks.clock import Clock
from connectors.quickbooks.customer import Company, read_places
from connectors.quickbooks.errors import NotConnectedError, OtherCompanyError, QuickBooksRefusedError
from connectors.quickbooks.pusher import Pusher
from connectors.quickbooks.realm import Realm
from connectors.quickbooks.status import SILENT
from connectors.quickbooks.workload import ClaimLostError, Counts, Item
from connectors.state import connect
from consumers.customer_telling import Told
from consumers.customers import CustomerStore
from consumers.push import CustomerPush
from daemon.recognising import recognise
from daemon.settings import Settings

if TYPE_CHECKING:
    from connectors.quickbooks.client import QuickBooksClient
    from daemon.app import App

log = structlog.get_logger()
THREADS = 6
BATCH = 30  # records of a group that goes in batches; fewer pending ones go one by one, which is sooner
_BY = "System Auto Push"
_TYPES_KNOWN = 3600.0  # seconds for which the company's customer types are not asked for again
_PROBE = 86400.0  # seconds after which custom fields are tried again where the company did not take them
_GRACE = 1.0  # seconds that requests under way get when the process is to end
_LOOK = 0.1
_ALONG = 1.0  # seconds between what is done along with a long push, and it takes a tenth of the time at most

Along = Callable[[], object]
Task = Callable[[], list[Item]]
Connection = psycopg.Connection[tuple[Any, ...]]


class NoCustomersError(RowtideError):
    """The domain pushes no customers."""


class NotAdoptedError(RowtideError):
    """The company has customers that nobody has looked through: pushing might make doubles of them."""

    def __init__(self) -> None:
        super().__init__(
            "The company in QuickBooks has customers already; pushing might make doubles of them.",
            hint="Look with `rowtide quickbooks adopt`, then adopt with --yes: by known ids, --mapping FILE.csv, "
            "--by-name; --none says that none of them is ours.",
        )


def push_of(app: App) -> CustomerPush:
    """What the domain pushes. Raises NoCustomersError."""
    if app.domain.push is None:
        raise NoCustomersError(
            f"The domain {app.name} pushes no customers.", hint="A domain declares them in [push.quickbooks]."
        )
    return app.domain.push


def company_of(settings: Settings, current: Realm | None, now: float) -> Company:
    """What bodies depend on besides the customer, as far as it is known without asking."""
    known = current.capabilities if current else {}
    types = known.get("customer_types")
    lacking = known.get("lacks_custom_fields_since")
    return Company(
        read_places(settings.quickbooks.fields),
        types if isinstance(types, Mapping) else {},
        not isinstance(lacking, int | float) or now - lacking > _PROBE,
    )


class Work:
    """A client of the company and some members who work on records at once, each in a session of its own.

    Args:
        app: whose customers.
        current: the company.
        client: of that company.
        by: who pushes, as recorded.
        stop: set: nothing new is begun.
        threads: how many members.
    """

    def __init__(
        self, app: App, current: Realm, client: QuickBooksClient, *, by: str | None, stop: threading.Event, threads: int
    ) -> None:
        self.app = app
        self.realm = current
        self.client = client
        self.stop = stop
        self.clock: Clock = app.outside
        self.counts = Counts()
        self.blocked: str | None = None
        self.unanswered = 0  # requests in a row that got no answer, among all members
        self._by = by or str(app.own.parameters().get("pushed_by") or _BY)
        self.store = self._session()
        self._threads = threads
        self._members: queue.SimpleQueue[CustomerStore] = queue.SimpleQueue()
        self._sessions = [self._session() for _ in range(threads)]
        for session in self._sessions:
            self._members.put(session)
        self._lock = threading.Lock()
        self._company = company_of(app.settings, current, self.clock.now())

    def _session(self) -> CustomerStore:
        return CustomerStore(self.app.dsn, self.app.name, push_of(self.app), self.realm.realm_id, self.clock.now)

    def close(self) -> None:
        """End all sessions, and with them every claim. What is under way in QuickBooks is not waited for."""
        self.client.close()
        for session in [self.store, *self._sessions]:
            session.close()

    @property
    def silent(self) -> bool:
        """Whether QuickBooks answers no more: nothing is begun until `outage.require_answers` has found that it does."""
        return self.unanswered >= SILENT

    @property
    def is_halted(self) -> bool:
        """Whether nothing more is begun, for whichever of both."""
        return bool(self.blocked) or self.silent

    # --- before ---

    def prepare(self) -> None:
        """Take in what the log knows of former pushes, and see that the company may be written to.

        Raises OtherCompanyError, NotAdoptedError, and as `QuickBooksClient.query`.
        """
        if other := self.store.other_company():
            raise OtherCompanyError(
                f"The log tells of customers pushed to the company {other}, and this is the company {self.realm.realm_id}.",
                hint=f"Connect the company {other}; or give this one a log of its own (log.topics, or another --state).",
            )
        if imported := self.store.import_map():
            log.info("customers.imported", records=imported)
        with connect(self.app.dsn) as connection:
            current = realm.current_realm(connection)
            if current is None or current.realm_id != self.realm.realm_id:
                raise NotConnectedError
            if current.adopted_at is None:
                if not self._is_all_ours():
                    raise NotAdoptedError
                realm.set_adopted(connection, current.realm_id, self.clock.now())
            self.realm = current
            self._look_up_types(connection, current)
        self._company = company_of(self.app.settings, self.realm, self.clock.now())

    def _is_all_ours(self) -> bool:
        """Whether the company has no customer that is not in the map."""
        anyone = self.client.query("SELECT * FROM Customer WHERE Active IN (true, false) STARTPOSITION 1 MAXRESULTS 1")
        if not anyone:
            return True
        if not self.store.owners([str(anyone[0].get("Id", ""))]):
            return False
        ids = [str(row.get("Id", "")) for row in resolve.paged(self.client, "Active IN (true, false)")]
        return len(self.store.owners(ids)) == len(ids)

    def _look_up_types(self, connection: Connection, current: Realm) -> None:
        at = current.capabilities.get("customer_types_at")
        now = self.clock.now()
        if isinstance(at, int | float) and 0 <= now - at < _TYPES_KNOWN:
            return
        try:
            types = {name.lower(): id_ for name, id_ in self.client.customer_types().items()}
        except QuickBooksRefusedError:
            types = {}  # a company without them; their names go among the fields
        realm.set_capabilities(connection, current.realm_id, {"customer_types": types, "customer_types_at": now}, now)
        self.realm = replace(current, capabilities={**current.capabilities, "customer_types": types})

    # --- working ---

    def settle(self) -> int:
        """Settle what has no recorded outcome and is due. Returns how many records that were."""
        return len(self.push([], settling=self.store.unsettled()))

    def push(
        self,
        records: Sequence[str],
        *,
        settling: Sequence[Sequence[str]] = (),
        due_only: bool = True,
        reactivate: bool = False,
        along: Along = lambda: None,
    ) -> list[Item]:
        """Bring records as far as they come now; those that others work on are left out.

        Args:
            records: to bring.
            settling: records besides that have requests without a recorded outcome, those of one batch together.
            due_only: whether what is not due is left out.
            reactivate: take their customers back into use first.
            along: done about once a second meanwhile, in this thread; what it raises ends the push.

        Raises as `QuickBooksClient.query` where the source names customers that are not known here.
        """
        recognise(self, records)
        size = BATCH if len(records) >= BATCH else 1
        groups = [list(records[start : start + size]) for start in range(0, len(records), size)]
        if size > 1 and len(groups[-1]) < BATCH:
            groups[-1:] = [[record] for record in groups[-1]]

        def settle(group: Sequence[str]) -> list[Item]:
            return self._member(group, together=len(group) > 1)

        def bring(group: Sequence[str]) -> list[Item]:
            return self._member(group, due_only=due_only, reactivate=reactivate)

        return self._share_out([*(partial(settle, g) for g in settling), *(partial(bring, g) for g in groups)], along)

    def _share_out(self, tasks: Sequence[Task], along: Along) -> list[Item]:
        along = _now_and_then(along)
        if len(tasks) == 1 or self._threads == 1:
            alone: list[Item] = []
            for task in tasks:
                alone += self._tried(task)
                along()
            return alone
        waiting, items, failures = deque(tasks), list[Item](), list[Exception]()

        def follow() -> None:
            while not failures:
                try:
                    task = waiting.popleft()
                except IndexError:
                    return
                try:
                    items.extend(self._tried(task))
                except Exception as error:  # noqa: BLE001 - raised in the thread that shares out
                    failures.append(error)

        # Threads that do not keep the process from ending: a request under way is settled by the next process.
        threads = [start_thread(follow) for _ in range(min(self._threads, len(tasks)))]
        grace = _GRACE
        while any(thread.is_alive() for thread in threads) and grace > 0:
            next(thread for thread in threads if thread.is_alive()).join(_LOOK)
            if self.stop.is_set():
                grace -= _LOOK
            elif not failures:
                try:
                    along()
                except Exception as error:  # noqa: BLE001 - raised when the members have come to their end
                    failures.append(error)
        if failures:
            raise failures[0]
        return list(items)

    @staticmethod
    def _tried(task: Task) -> list[Item]:
        try:
            return task()
        except ClaimLostError:
            return []  # whoever took over goes on

    def _member(
        self, group: Sequence[str], *, together: bool = False, due_only: bool = True, reactivate: bool = False
    ) -> list[Item]:
        """Work on some records in one session."""
        if self.stop.is_set() or self.is_halted:
            return []
        store = self._members.get()
        try:
            items = store.claim(group, together=together, due_only=due_only)
            if not items:
                return []
            try:
                pusher = self._pusher(store)
                for item in items:
                    item.reactivates = reactivate
                pusher.push(items)
            finally:
                store.release([item.held.record for item in items])
            self._add(pusher)
        except (psycopg.Error, ClaimLostError):
            store.close()  # whatever it claimed is free again
            raise
        else:
            return items
        finally:
            self._members.put(store)

    def _pusher(self, store: CustomerStore) -> Pusher:
        return Pusher(
            self.client,
            store,
            self._company,
            realm_id=self.realm.realm_id,
            instance=self.app.name,
            now=self.clock.now,
            stop=self.stop,
            by=self._by,
        )

    def _add(self, pusher: Pusher) -> None:
        with self._lock:
            for name, value in pusher.counts.__dict__.items():
                setattr(self.counts, name, getattr(self.counts, name) + value)
            self.blocked = self.blocked or pusher.blocked
            self.unanswered = pusher.unanswered + (0 if pusher.answered else self.unanswered)
            if self._company.has_definitions and not pusher.company.has_definitions:
                self._company = replace(self._company, has_definitions=False)
                now = self.clock.now()
                with connect(self.app.dsn) as connection:
                    realm.set_capabilities(connection, self.realm.realm_id, {"lacks_custom_fields_since": now}, now)
                log.warning("customers.without_custom_fields", reason="the company takes none; they go to Notes")

    # --- after ---

    def tell(self) -> int:
        """Append to the log what is not told yet. Returns how many results."""
        return tell(self.app, self.store)


def _now_and_then(do: Along) -> Callable[[], None]:
    """Do it about once a second, however often it is called; more rarely where it takes long."""
    due = time.monotonic() + _ALONG

    def call() -> None:
        nonlocal due
        began = time.monotonic()
        if began >= due:
            do()
            ended = time.monotonic()
            due = ended + max(_ALONG, 9 * (ended - began))

    return call


def start_thread(target: Callable[[], None]) -> threading.Thread:
    """Start a member's thread; its log lines belong to the instance of this one."""
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(target,), name="customers", daemon=True)
    thread.start()
    return thread


def tell(app: App, store: CustomerStore) -> int:
    """Append to the log what is not told yet. Returns how many results."""
    table, own = store.push.pushed.name, app.own

    def append(page: Sequence[Told]) -> None:
        own.append_inputs(table, [(told.row, (told.record,)) for told in page])

    return store.tell(append, lambda: failpoint("customer_told"))


@contextmanager
def opened(
    app: App, *, by: str | None = None, stop: threading.Event | None = None, threads: int = THREADS
) -> Iterator[Work]:
    """Work on the app's customers in the connected company.

    Raises NoCustomersError, NotConnectedError, and what `realm.open_client` raises.
    """
    push_of(app)
    client = realm.open_client(app.dsn, app.settings.quickbooks.options(), app.outside, app.name)
    try:
        current = _current(app)
        work = Work(app, current, client, by=by, stop=stop or threading.Event(), threads=threads)
    except BaseException:
        client.close()
        raise
    try:
        yield work
    finally:
        work.close()


def _current(app: App) -> Realm:
    with connect(app.dsn) as connection:
        current = realm.current_realm(connection)
    if current is None:
        raise NotConnectedError
    return current
