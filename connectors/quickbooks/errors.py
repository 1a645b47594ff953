"""What can be wrong about QuickBooks as a whole. What is wrong about one request is an `Answer`, never an exception.

No message holds a token, a body or a value of a customer.
"""

from __future__ import annotations

from connectors.errors import RowtideError


class QuickBooksError(RowtideError):
    """Something about QuickBooks that an operator can act on."""


class NotConnectedError(QuickBooksError):
    """No company is connected."""

    def __init__(self) -> None:
        super().__init__("QuickBooks not connected", hint="Connect the company: `rowtide quickbooks connect`.")


class ReconnectNeededError(QuickBooksError):
    """QuickBooks takes none of the refresh tokens any more: a person has to give consent again."""

    def __init__(self) -> None:
        super().__init__(
            "QuickBooks takes the stored tokens no more: it must be connected again.",
            hint="Type `rowtide quickbooks connect`; nothing is lost, what waits is pushed afterwards.",
        )


class QuickBooksBlockedError(QuickBooksError):
    """Nothing may be sent now: the company is paused or stopped, or QuickBooks refuses this app.

    Args:
        message: why.
        wait: seconds after which asking again makes sense; 0 where a person has to act.
    """

    def __init__(self, message: str, *, hint: str = "", wait: float = 0.0) -> None:
        super().__init__(message, hint=hint or "`rowtide quickbooks status` tells more.")
        self.wait = wait


class QuickBooksUnavailableError(QuickBooksError):
    """QuickBooks did not give a usable answer; asking again later is right."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(
            message, hint=hint or "It is asked again later; https://status.developer.intuit.com tells of outages."
        )


class QuickBooksRefusedError(QuickBooksError):
    """QuickBooks refused a question as it was asked; asking it again changes nothing."""


class AddressRefusedError(QuickBooksError):
    """An address that is not on the list of those that may be talked to."""


class KeyFileError(QuickBooksError):
    """The key that the tokens are sealed with is absent, readable by others, or another one."""


class OtherCompanyError(QuickBooksError):
    """Another company than the one whose customers are known."""
