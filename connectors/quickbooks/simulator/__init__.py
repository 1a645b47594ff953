"""A simulator of QuickBooks Online: its OAuth, its customers, its limits and its ways to fail, on loopback.

Written from what is documented of the API and recorded of its answers, not from what Rowtide sends. It is for trials,
the demonstration and the tests, and holds nothing but memory. `Simulator` is the whole of it without a socket;
`serve` puts HTTP before it, `InProcess` a `requests` session, and `rowtide quickbooks simulate` a command.
"""

from connectors.quickbooks.simulator.company import Company, CustomField
from connectors.quickbooks.simulator.limits import Limits
from connectors.quickbooks.simulator.oauth import OAuthRules
from connectors.quickbooks.simulator.rules import Fault, FaultRuleError
from connectors.quickbooks.simulator.serving import serve
from connectors.quickbooks.simulator.simclock import SimClock, StuckClockError
from connectors.quickbooks.simulator.simulator import Simulator
from connectors.quickbooks.simulator.transport import InProcess
from connectors.quickbooks.simulator.web import create_app

__all__ = [
    "Company",
    "CustomField",
    "Fault",
    "FaultRuleError",
    "InProcess",
    "Limits",
    "OAuthRules",
    "SimClock",
    "Simulator",
    "StuckClockError",
    "create_app",
    "serve",
]
