"""Whom QuickBooks' client may talk to; light, since every command that reads settings asks."""

from __future__ import annotations

from urllib.parse import urlsplit

from connectors.quickbooks.errors import AddressRefusedError

INTUIT = frozenset(
    {
        "quickbooks.api.intuit.com",
        "sandbox-quickbooks.api.intuit.com",
        "oauth.platform.intuit.com",
        "developer.intuit.com",
        "developer.api.intuit.com",
        "appcenter.intuit.com",
    }
)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def check_address(url: str, *, simulator: bool, simulator_host: str | None = None) -> None:
    """Refuse an address that may not be talked to. Raises AddressRefusedError naming the host.

    Intuit's hosts by https; where `simulator`, loopback and `simulator_host` too, by http or https.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise AddressRefusedError(
            "An address for QuickBooks cannot be read.", hint="Correct quickbooks.api_url or quickbooks.oauth_url."
        ) from None
    if (
        parts.username is None
        and simulator
        and host in {*LOOPBACK, simulator_host}
        and parts.scheme in ("http", "https")
    ):
        return
    if parts.username is None and parts.scheme == "https" and host in INTUIT and port in (None, 443):
        return
    raise AddressRefusedError(
        f"The host “{host}” ({parts.scheme}) is not one that QuickBooks is reached at.",
        hint='Intuit\'s hosts are allowed by https; with quickbooks.environment = "simulator" loopback is, and the one '
        "host that quickbooks.simulator_host names.",
    )
