"""The settings of QuickBooks: `[quickbooks]`, and what they mean for the client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from connectors.quickbooks.addresses import check_address
from connectors.quickbooks.errors import AddressRefusedError
from connectors.quickbooks.options import Limits, Options

_PLACE = re.compile(r"notes|nothing|definition:\d+(:(string|number|date))?")

_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")


class QuickBooksSettings(BaseModel):
    """The company that customers are pushed to, and the app at Intuit that does it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=False, description="Whether the domain's customers are pushed to QuickBooks.")
    environment: Literal["production", "sandbox", "simulator"] = Field(
        "production", description="Intuit's two, or a simulator on this machine."
    )
    # Before the addresses, which are judged by it.
    simulator_host: str | None = Field(None, description="The one host besides loopback where a simulator may be.")
    api_url: str | None = Field(None, description="Where the simulator listens: http://127.0.0.1:PORT.")
    oauth_url: str | None = Field(None, description="The simulator's discovery document, where not its usual one.")
    client_id: str | None = Field(None, description="The app's id at Intuit.")
    client_secret: SecretStr | None = Field(None, description="The app's secret at Intuit.")
    key_file: Path | None = Field(None, description="The key that the tokens are sealed with.")
    redirect_port: int = Field(8472, ge=1, le=65535, description="Where `connect` waits for the browser.")
    redirect_url: str | None = Field(None, description="Where Intuit sends the browser, if not to this machine.")
    requests_per_minute: int = Field(500, ge=1, le=500, description="Most requests in any minute.")
    requests_per_second: int = Field(10, ge=1, le=10, description="Most requests in any second.")
    batches_per_minute: int = Field(40, ge=1, le=40, description="Most batches in any minute.")
    concurrency: int = Field(8, ge=1, le=20, description="Most requests under way at once.")
    timeout_seconds: float = Field(60, gt=0, le=60, description="How long an answer is waited for.")
    audit_days: int = Field(400, ge=0, le=36500, description="How long it is kept what was asked; 0: for good.")
    fields: dict[str, str] = Field(default_factory=dict, description="Where each of our fields goes.")

    @field_validator("fields")
    @classmethod
    def _places(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, place in value.items():
            if not _PLACE.fullmatch(place):
                raise ValueError(
                    f"{name} goes to “{place}”; write notes, nothing, definition:ID or definition:ID:number (or date)"
                )
        return value

    @field_validator("simulator_host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        if value is None:
            return None
        name = value.lower()
        if not _HOST.fullmatch(name) or name == "intuit.com" or name.endswith(".intuit.com"):
            raise ValueError("it is the name of one host, as in quickbooks: no address, no port, none of Intuit's")
        return name

    @field_validator("api_url", "oauth_url")
    @classmethod
    def _hosts(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            try:
                check_address(value, simulator=True, simulator_host=info.data.get("simulator_host"))
            except AddressRefusedError as error:
                raise ValueError(error.message.rstrip(".")) from None
        return value

    @field_validator("redirect_url")
    @classmethod
    def _redirect(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https://|http://localhost(:|/|$)", value):
            raise ValueError("Intuit sends browsers to https:// addresses and to http://localhost only")
        return value

    @model_validator(mode="after")
    def _fits(self) -> QuickBooksSettings:
        given = [name for name in ("api_url", "oauth_url", "simulator_host") if getattr(self, name)]
        if self.environment != "simulator" and given:
            raise ValueError(f'{given[0]} is for environment = "simulator": Intuit\'s own addresses are known')
        if self.environment == "simulator" and not self.api_url:
            raise ValueError('environment = "simulator" needs quickbooks.api_url, as in http://127.0.0.1:8473')
        return self

    def options(self) -> Options:
        """The same as the client takes it."""
        secret = self.client_secret
        return Options(
            environment=self.environment,
            api_url=self.api_url,
            oauth_url=self.oauth_url,
            client_id=self.client_id or "",
            client_secret=secret.get_secret_value() if secret else "",
            key_file=self.key_file,
            redirect_port=self.redirect_port,
            redirect_url=self.redirect_url,
            limits=Limits(
                self.requests_per_minute, self.requests_per_second, self.batches_per_minute, self.concurrency
            ),
            fields=self.fields,
            timeout_seconds=self.timeout_seconds,
            simulator_host=self.simulator_host,
        )
