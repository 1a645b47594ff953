"""The HTTP API of a domain whose customers go to QuickBooks: `/api/v1/sync/customers`, behind a bearer token.

Served beside the page, but apart from it: the page has no login and shows nothing personal, the API shows people and
so tells nobody anything without a token. It asks `daemon.customers` and answers in one envelope; it decides nothing.
"""
