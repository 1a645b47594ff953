"""How QuickBooks is reached, as the settings say; frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

PRODUCTION, SANDBOX = "https://quickbooks.api.intuit.com", "https://sandbox-quickbooks.api.intuit.com"


@dataclass(frozen=True)
class Limits:
    """What the documentation permits for a company, in requests; batches count among the requests too."""

    requests_per_minute: int = 500
    requests_per_second: int = 10
    batches_per_minute: int = 40
    concurrency: int = 8


@dataclass(frozen=True)
class Options:
    """Where and as whom.

    Args:
        environment: of Intuit's two, or the simulator, for which alone loopback is allowed.
        api_url: the simulator's base address; None for Intuit's.
        oauth_url: the simulator's discovery document; None: that of `api_url`.
        client_id: of the app at Intuit.
        client_secret: of the app at Intuit.
        key_file: of the key that seals the tokens; None: systemd's credential.
        redirect_port: where `connect` waits for the browser.
        redirect_url: as registered at Intuit where that is not http://localhost:PORT/callback.
        fields: our field -> "definition:ID", "notes" or "nothing".
        timeout_seconds: how long an answer is waited for; twice that is the end of a request in any case.
        simulator_host: the one host besides loopback where a simulator may be, without TLS; for no other environment.
    """

    environment: Literal["production", "sandbox", "simulator"] = "production"
    api_url: str | None = None
    oauth_url: str | None = None
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    key_file: Path | None = None
    redirect_port: int = 8472
    redirect_url: str | None = None
    limits: Limits = Limits()
    fields: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 60.0
    simulator_host: str | None = None

    @property
    def base_url(self) -> str:
        """The API's address up to and with /v3."""
        if self.environment != "simulator":
            return f"{PRODUCTION if self.environment == 'production' else SANDBOX}/v3"
        base = (self.api_url or "").rstrip("/")
        return base if base.endswith("/v3") else f"{base}/v3"

    @property
    def discovery(self) -> str:
        """What intuit-oauth takes as environment: a word for Intuit's, the address of the document for the simulator."""
        if self.environment != "simulator":
            return self.environment
        return self.oauth_url or f"{self.base_url.removesuffix('/v3')}/.well-known/openid_configuration/"

    @property
    def redirect(self) -> str:
        """Where Intuit sends the browser back to."""
        return self.redirect_url or f"http://localhost:{self.redirect_port}/callback"
