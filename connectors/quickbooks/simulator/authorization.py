"""The pages and endpoints of OAuth: discovery, consent, tokens, revocation."""

from __future__ import annotations

import json
from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit

from connectors.quickbooks.simulator.company import Company
from connectors.quickbooks.simulator.oauth import OAuth, OAuthError
from connectors.quickbooks.simulator.replies import Call, Reply, as_json

AUTHORIZE = "/connect/oauth2"
CONSENT = "/connect/oauth2/consent"
TOKENS = "/oauth2/v1/tokens/bearer"
REVOKE = "/v2/oauth2/tokens/revoke"
USER = "/v1/openid_connect/userinfo"
KEYS = "/op/v1/jwks"
DISCOVERY = "/.well-known/openid_configuration"
SANDBOX_DISCOVERY = "/.well-known/openid_sandbox_configuration"
_OPERATIONS = {
    ("GET", DISCOVERY): "discovery",
    ("GET", SANDBOX_DISCOVERY): "discovery",
    ("GET", AUTHORIZE): "authorize",
    ("POST", CONSENT): "consent",
    ("POST", TOKENS): "token",
    ("POST", REVOKE): "revoke",
    ("GET", USER): "userinfo",
    ("GET", KEYS): "keys",
}


class Authorization:
    """What OAuth's addresses answer. Not thread-safe: the simulator holds its lock."""

    def __init__(self, oauth: OAuth, company: Company) -> None:
        self._oauth = oauth
        self._company = company

    def operation(self, call: Call) -> str:
        """What a request is about; "" where nothing is at its address."""
        return _OPERATIONS.get((call.method, call.path.rstrip("/")), "")

    def answer(self, call: Call, now: float) -> Reply:
        """Do what is asked."""
        try:
            return self._answer(call, now)
        except OAuthError as error:
            return self._refused(error)

    def refusal(self) -> Reply:
        """How a refresh token is refused."""
        return self._refused(OAuthError("invalid_grant", "Incorrect or invalid refresh token"))

    def _answer(self, call: Call, now: float) -> Reply:
        operation = self.operation(call)
        if operation == "discovery":
            return _discovery(call.base_url)
        if operation == "authorize":
            return self._ask(call)
        if operation == "consent":
            return self._consented(call, now)
        if operation == "token":
            app = self._oauth.app_of(call.headers.get("authorization", ""))
            return as_json(self._oauth.token(app, _form(call), now))
        if operation == "revoke":
            self._oauth.app_of(call.headers.get("authorization", ""))
            self._oauth.revoke(_form(call).get("token", ""))
            return Reply(200)
        if operation == "userinfo":
            token = call.headers.get("authorization", "").partition(" ")[2]
            if self._oauth.access(token, now) is None:
                return as_json({"error": "invalid_token"}, status=401)
            return as_json({"sub": "simulated-user", "givenName": "Simulated", "emailVerified": True})
        if operation == "keys":
            return as_json({"keys": []})
        return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")

    def _ask(self, call: Call) -> Reply:
        """The page on which a person chooses the company and consents."""
        wrong = self._wrong(call.query.get("client_id", ""), call.query.get("redirect_uri", ""))
        if wrong or call.query.get("response_type") != "code" or not call.query.get("state"):
            return _page("The app sent you here in a wrong way", f"<p>{escape(wrong or 'A parameter is missing.')}</p>")
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{escape(call.query.get(name, ""))}">'
            for name in ("client_id", "redirect_uri", "state")
        )
        company = escape(f"{self._company.name} ({self._company.realm})")
        return _page(
            "Connect an app to a company",
            f"<p>The app <b>{escape(call.query['client_id'])}</b> wants to read and write the books of "
            f'<b>{company}</b>.</p><form method="post" action="{CONSENT}">{hidden}'
            '<button name="answer" value="yes">Connect</button> <button name="answer" value="no">Cancel</button></form>',
        )

    def _consented(self, call: Call, now: float) -> Reply:
        form = _form(call)
        app, redirect = form.get("client_id", ""), form.get("redirect_uri", "")
        wrong = self._wrong(app, redirect)
        if wrong:
            return _page("The app sent you here in a wrong way", f"<p>{escape(wrong)}</p>")
        told = {"state": form.get("state", "")}
        if form.get("answer") == "yes":
            code = self._oauth.authorize(app, self._company.realm, redirect, now)
            told = {"code": code, **told, "realmId": self._company.realm}
        else:
            told = {"error": "access_denied", **told}
        return Reply(302, headers={"location": f"{redirect}{'&' if '?' in redirect else '?'}{urlencode(told)}"})

    def _wrong(self, app: str, redirect: str) -> str:
        if app not in self._oauth.apps:
            return "The client_id is not known."
        if urlsplit(redirect).hostname not in ("localhost", "127.0.0.1", "::1"):
            return "The redirect_uri is not on this machine."
        return ""

    def _refused(self, error: OAuthError) -> Reply:
        body = {"error": error.error}
        if error.description and self._oauth.rules.describe:
            body["error_description"] = error.description
        return as_json(body, status=error.status)


def _discovery(base: str) -> Reply:
    return as_json(
        {
            "issuer": f"{base}/op/v1",
            "authorization_endpoint": base + AUTHORIZE,
            "token_endpoint": base + TOKENS,
            "userinfo_endpoint": base + USER,
            "revocation_endpoint": base + REVOKE,
            "jwks_uri": base + KEYS,
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "com.intuit.quickbooks.accounting"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "claims_supported": ["aud", "exp", "iat", "iss", "realmid", "sub"],
        }
    )


def _form(call: Call) -> dict[str, str]:
    """A body of a form, or of JSON: revocation takes either."""
    text = call.body.decode(errors="replace")
    if "json" in call.headers.get("content-type", ""):
        try:
            found = json.loads(text)
        except ValueError:
            return {}
        return {name: str(value) for name, value in found.items()} if isinstance(found, dict) else {}
    return dict(parse_qsl(text))


def _page(title: str, inside: str) -> Reply:
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font-family:system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}"
        "button{font:inherit;padding:.4rem 1rem}</style></head>"
        f"<body><h1>{title}</h1>{inside}<p><small>A simulator of QuickBooks Online.</small></p></body></html>"
    )
    return Reply(200, body.encode(), "text/html;charset=UTF-8")
