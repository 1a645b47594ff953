"""While QuickBooks is silent no customer is tried: one question at a time, at growing distances, finds out when it answers again.

That nothing answers is the company's state, not a customer's. It is read from the audit, so that all processes know of it, one that has
just started too, and each looks when it is time by what all of them have seen. The question concerns no customer: one
whose request alone gets no answer neither holds the others up nor is spared its attempts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from connectors.quickbooks.errors import QuickBooksRefusedError, QuickBooksUnavailableError
from connectors.quickbooks.status import Silence, silence

if TYPE_CHECKING:
    from daemon.pushing import Work

log = structlog.get_logger()
_BETWEEN = (1.0, 30.0)  # seconds between two questions, least and most
_ANOTHER = 0.5  # seconds until it is seen what another process has found out
_ASKERS = 0x72776F75  # class of the advisory lock of who asks

Connection = psycopg.Connection[tuple[Any, ...]]


class SilentError(QuickBooksUnavailableError):
    """QuickBooks answers nobody.

    Args:
        wait: seconds until it is looked again.
    """

    def __init__(self, wait: float = _BETWEEN[0]) -> None:
        super().__init__(
            "QuickBooks does not answer; customers wait.",
            hint="The same requests are sent again, or looked up, by themselves; "
            "https://status.developer.intuit.com tells of outages.",
        )
        self.wait = wait


def require_answers(work: Work, connection: Connection, *, at_once: bool = False) -> None:
    """Return where QuickBooks answers, as far as is known; where it was silent, ask. After the first answer all are due.

    Args:
        work: with the client that asks.
        connection: to the state database, without a transaction.
        at_once: ask though it is not time: a person waits.

    Raises SilentError, and QuickBooksBlockedError where nothing may be sent.
    """
    now = work.clock.now()
    silent = silence(connection, work.realm.realm_id, now)
    if silent is not None and work.store.anything_waits():
        if not at_once and (left := _next_look(silent) - now) > 0:
            raise SilentError(left)
        _ask(work, connection)
        if silent.questions:
            hastened = work.store.hasten(silent.since.timestamp())
            log.info("quickbooks.answers_again", seconds=round(now - silent.since.timestamp()), hastened=hastened)
    work.unanswered = 0


def _next_look(silent: Silence) -> float:
    """Each question without an answer doubles the distance, up to a limit."""
    return silent.last.timestamp() + min(_BETWEEN[0] * 2.0 ** min(silent.questions, 10), _BETWEEN[1])


def _ask(work: Work, connection: Connection) -> None:
    with _asking(connection, work.realm.realm_id) as is_mine:
        if not is_mine:
            raise SilentError(_ANOTHER)
        try:
            work.client.company()
        except QuickBooksRefusedError:
            return  # an answer as well
        except QuickBooksUnavailableError:
            found = silence(connection, work.realm.realm_id, work.clock.now())
            raise SilentError(_next_look(found) - work.clock.now() if found else _BETWEEN[0]) from None


@contextmanager
def _asking(connection: Connection, realm_id: str) -> Iterator[bool]:
    """Whether nobody else asks at the moment."""
    lock = [_ASKERS, realm_id]
    taken = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", lock).fetchone() == (True,)
    try:
        yield taken
    finally:
        if taken:
            connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", lock)
