"""The lane: a thread beside the worker that brings pending customers into QuickBooks, while this process leads.

Nothing outside is done while a transaction on the state database is open. Each round is a list:

1. tell: append to the log what is known and was not told,
2. push: take up pending customers that are due, page by page, and bring them as far as they come,
3. settle, beside each page: send again, or look up, every request whose outcome is not recorded,
4. tell what came of them; in a long push about once a second, while others are under way.

Rounds wait where no company is connected, where it is paused, stopped or not looked through, where QuickBooks answers nobody
(`outage`), and where the models are behind the log. Derived tables go on meanwhile. A kill anywhere leaves stored requests and
untold results behind, which the next round settles and tells.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from connectors.errors import RowtideError
from connectors.quickbooks import realm
from connectors.quickbooks.errors import (
    NotConnectedError,
    QuickBooksBlockedError,
    QuickBooksError,
    QuickBooksUnavailableError,
)
from connectors.quickbooks.retention import prune
from connectors.quickbooks.status import silence
from connectors.quickbooks.workload import Counts
from connectors.state import StateError, connect
from consumers.customers import CustomerStore
from consumers.worker import BatchStats
from daemon import lead, pushing, reconciling
from daemon.outage import SilentError, require_answers
from daemon.pushing import BATCH, NotAdoptedError, Work, push_of
from daemon.pushing_current import currency

if TYPE_CHECKING:
    from daemon.app import App

log = structlog.get_logger()
_PAUSES = (0.5, 30.0)  # seconds, first and longest, while something outside is away
_BLOCKED = 5.0  # seconds until it is seen whether a person has mended what blocks
_IDLE = 5.0  # seconds between rounds that nobody asked for
_ROOM = 0.25  # seconds after which the end of the term is noticed
_NOT_CURRENT = 0.25
_SWEEP = 86400.0  # seconds between looks at what people did in QuickBooks
_PRUNE = 86400.0  # seconds between looks at what is too old to be kept
_TEND = 3600.0  # seconds between looks at whether the consent has to be kept alive

Connection = psycopg.Connection[tuple[Any, ...]]


class NotLeadingError(Exception):
    """Another process leads the instance by now."""


class Lane:
    """Pushes an instance's customers, in one thread that shares the work out among a few.

    Args:
        app: whose customers.
        leads: whether this process still leads, asked before each page.
        is_current: whether the models are as the source is now; where not, nothing is pushed.
        threads: how many records, or batches, are under way at once.
    """

    def __init__(
        self,
        app: App,
        *,
        leads: Callable[[Connection], bool],
        is_current: Callable[[Connection], bool],
        threads: int = pushing.THREADS,
    ) -> None:
        self._app = app
        self._leads = leads
        self._is_current = is_current
        self._threads = threads
        self._woken = threading.Event()
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._opened = ExitStack()
        self._work: Work | None = None
        self._pause = 0.0
        self._tended = 0.0
        self._pruned = 0.0
        self._said = ""
        self.waits: str | None = None
        self.totals = Counts()
        self.told = 0

    @property
    def _page(self) -> int:
        """How many records are taken up at a time: the batches of a minute."""
        return BATCH * self._app.settings.quickbooks.batches_per_minute

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def run(self, over: threading.Event) -> None:
        """Push until the term is over. Every failure of the outside is waited for; none ends the thread."""
        watch = threading.Thread(target=self._end_with, args=(over,), name="lane-end", daemon=True)
        watch.start()
        try:
            while not over.is_set():
                self._woken.clear()
                seconds = self._round_or_pause(over)
                until = time.monotonic() + seconds
                # While the company is away nobody's wish makes a difference.
                wait = over.wait if self._pause else self._woken.wait
                while not over.is_set() and (left := until - time.monotonic()) > 0:
                    if wait(min(left, _ROOM)):
                        break
        except NotLeadingError:
            log.warning("customers.overtaken")
        finally:
            self._stop.set()
            self.close()

    def _end_with(self, over: threading.Event) -> None:
        """Wake whoever waits for the pace when the term is over."""
        while not over.wait(_IDLE):
            if self._stop.is_set():
                return
        self._stop.set()
        work = self._work
        if work is not None:
            work.client.stop.set()

    def close(self) -> None:
        """Let all connections and claims go."""
        self._let_go()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _let_go(self) -> None:
        self._work = None
        self._opened.close()

    def _round_or_pause(self, over: threading.Event) -> float:
        """A round; the seconds until the next."""
        try:
            seconds = self.round(over)
        except (NotAdoptedError, NotConnectedError) as error:
            self._pause = _BLOCKED
            self._say(error)
        except SilentError as error:
            self._pause = min(max(error.wait, _PAUSES[0]), _PAUSES[1])
            self._say(error)
        except QuickBooksBlockedError as error:
            self._pause = min(max(error.wait, _PAUSES[0]), _PAUSES[1]) if error.wait else _BLOCKED
            self._say(error)
        except (QuickBooksError, RowtideError) as error:
            self._let_go()
            self._pause = min(max(self._pause * 2, _PAUSES[0]), _PAUSES[1])
            self._say(error)
        except psycopg.Error as error:
            # A rebuild's swap takes tables away under a statement; a state database restarts. The worker says so.
            self.close()
            self._pause = _PAUSES[0]
            self._say(StateError(f"the state database: {type(error).__name__}"))
        else:
            return seconds
        return self._pause

    def round(self, over: threading.Event) -> float:
        """Everything that is due now, once. Returns the seconds until something may be due again.

        Raises what keeps customers from being pushed; NotLeadingError where another process leads.
        """
        if self._connection is None:
            self._connection = connect(self._app.dsn)
        connection = self._connection
        self._prune(connection)
        current = realm.current_realm(connection)
        if current is None:
            self._let_go()
            raise NotConnectedError
        store = self._telling(current.realm_id)
        told = pushing.tell(self._app, store)
        now = self._app.outside.now()
        if reason := current.waits(now):
            left = current.paused_until.timestamp() - now if current.paused_until and not current.paused else 0.0
            raise QuickBooksBlockedError(f"Customers wait: {reason}.", wait=max(left, 0.0))
        if not self._is_current(connection):
            return _NOT_CURRENT
        self._check_leading(connection)
        work = self._working(current)
        work.blocked = None
        require_answers(work, connection)
        if now - self._tended > _TEND:
            self._tended = now
            with contextlib.suppress(QuickBooksUnavailableError):  # there is time: 100 days
                work.client.tend()
        work.prepare()
        self._pause = 0.0
        if self._said:
            self._say_whether_answered(connection, current.realm_id, waits=True)

        def along() -> None:
            nonlocal told
            told += pushing.tell(self._app, store)
            self._say_whether_answered(connection, current.realm_id, waits=True)

        settled = pushed = 0
        page = [""]
        while page and not over.is_set() and not work.is_halted:
            self._check_leading(connection)
            # Each page takes along what has become doubtful meanwhile: it neither waits for a long load's end, when
            # QuickBooks may have forgotten its requestids, nor does the load wait for it.
            doubtful, page = store.unsettled(), store.due(page[-1], limit=self._page)
            worked_on = [item.held.record for item in work.push(page, settling=doubtful, along=along)]
            settled += len(set(chain(*doubtful)).intersection(worked_on))
            pushed += len(set(page).intersection(worked_on))
            told += pushing.tell(self._app, store)
        self._report(work, settled, pushed, told)
        self._look(work)
        if work.blocked:
            raise QuickBooksBlockedError(f"Customers wait: {work.blocked}.", wait=_PAUSES[0])
        if work.silent:
            raise SilentError
        due = store.next_due()
        self._say_whether_answered(connection, current.realm_id, waits=due is not None)
        return _IDLE if due is None else min(_IDLE, max(due, 0.05))

    def _look(self, work: Work) -> None:
        """Once a day see what people did to our customers, and say so; only a person has it repaired."""
        last, now = work.store.last_sweep(), self._app.outside.now()
        if last is None:
            work.store.swept(now)
        elif now - last > _SWEEP and not work.is_halted and not self._stop.is_set():
            reconciling.look(work, quick=True)

    def _prune(self, connection: Connection) -> None:
        """Once a day remove what is too old to be kept, a piece in each round, so that nothing waits for it."""
        days, now = self._app.settings.quickbooks.audit_days, self._app.outside.now()
        if not days or now - self._pruned <= _PRUNE:
            return
        audit, requests = prune(connection, self._app.name, now - days * 86400.0)
        if audit or requests:
            log.info("quickbooks.audit_pruned", rows=audit, requests=requests)
        else:
            self._pruned = now

    def _telling(self, realm_id: str) -> CustomerStore:
        """The session by which results are told, for this company."""
        if self._work is not None and self._work.realm.realm_id == realm_id:
            return self._work.store
        self._let_go()
        store = CustomerStore(self._app.dsn, self._app.name, push_of(self._app), realm_id, self._app.outside.now)
        self._opened.callback(store.close)
        return store

    def _working(self, current: realm.Realm) -> Work:
        if self._work is None:
            opened = pushing.opened(self._app, stop=self._stop, threads=self._threads)
            self._work = self._opened.enter_context(opened)
        self._work.realm = current
        return self._work

    def _check_leading(self, connection: Connection) -> None:
        if not self._leads(connection):
            raise NotLeadingError

    def _report(self, work: Work, settled: int, pushed: int, told: int) -> None:
        """One line for a round that did something; no value of a customer."""
        counts, work.counts = work.counts, Counts()
        self.told += told
        for name, value in counts.__dict__.items():
            setattr(self.totals, name, getattr(self.totals, name) + value)
        if settled or pushed or told:
            done = {name: value for name, value in counts.__dict__.items() if value}
            log.info("customer.pushed", records=pushed, settled=settled, told=told, **done)

    def _say_whether_answered(self, connection: Connection, realm_id: str, *, waits: bool) -> None:
        """Warn once while customers wait for answers that do not come."""
        if waits and silence(connection, realm_id, self._app.outside.now()):
            self._say(SilentError())
        else:
            self._resume()

    def _say(self, error: RowtideError) -> None:
        """Each reason once."""
        self.waits = error.message
        if error.message != self._said:
            self._said = error.message
            log.warning("customers.waiting", reason=error.message, hint=error.hint)

    def _resume(self) -> None:
        if self._said:
            log.info("customers.resumed")
        self._said, self.waits = "", None


def open_lane(app: App, term: lead.Term) -> tuple[Lane, Callable[[BatchStats], None]]:
    """The lane of a term, and what is to be told of each committed batch."""
    push, session = push_of(app), term.session
    is_current = currency(app)
    lane = Lane(app, leads=lambda connection: lead.is_led_by(connection, app.name, session), is_current=is_current)

    def committed(stats: BatchStats) -> None:
        is_current.committed(stats)
        if stats.keys.keys() & {push.model, push.pending}:
            lane.wake()

    return lane, committed
