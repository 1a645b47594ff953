"""QuickBooks Online: a thin client that is honest about what became of each request, and what it needs around it.

Knows customers as objects of QuickBooks; not where they come from. `faults` is the one table of verdicts, `pace` the one
limiter of a company, `tokens` the one place that holds tokens, `audit` the one that tells what was sent.
"""

from connectors.quickbooks.clock import Clock, SystemClock
from connectors.quickbooks.errors import (
    NotConnectedError,
    QuickBooksBlockedError,
    QuickBooksError,
    QuickBooksRefusedError,
    QuickBooksUnavailableError,
)
from connectors.quickbooks.faults import Verdict

__all__ = [
    "Clock",
    "NotConnectedError",
    "QuickBooksBlockedError",
    "QuickBooksError",
    "QuickBooksRefusedError",
    "QuickBooksUnavailableError",
    "SystemClock",
    "Verdict",
]
