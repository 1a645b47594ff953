"""A school, a company in the simulator, and page and API served as the daemon serves them: for tests of the API."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from daemons import until

from connectors.event import Source, encode_change
from connectors.log import Message
from connectors.quickbooks import realm
from connectors.quickbooks.keys import make_key
from connectors.quickbooks.oauth import Pair
from connectors.quickbooks.simulator import Simulator, serve
from connectors.quickbooks.tokens import store_consent
from connectors.state import connect
from daemon.api.tokens import make
from daemon.app import App, open_app
from daemon.settings import load_settings
from daemon.web import serve_page

APPLICATION, PERSON = "tbl_online_application", "tbl_personal_ug"
PREFIX = "/api/v1/sync/customers"
# Values of people that may be told to who sends a token, and to nobody else: not to a page, a log, an audit row.
CANARIES = ("Canaryfirst", "Canaryfamily", "canary@school.example", "+256700999888", "CANARYID77")


def settings_of(dsn: str, simulator: str, key: Path, **more: str) -> dict[str, str]:
    """What is set for a school whose company is the simulator, as the environment has it."""
    return {
        "ROWTIDE_DOMAIN": "mis",
        "ROWTIDE_STATE__DSN": dsn,
        "ROWTIDE_QUICKBOOKS__ENVIRONMENT": "simulator",
        "ROWTIDE_QUICKBOOKS__API_URL": simulator,
        "ROWTIDE_QUICKBOOKS__CLIENT_ID": "simulator-app",
        "ROWTIDE_QUICKBOOKS__CLIENT_SECRET": "simulator-secret",
        "ROWTIDE_QUICKBOOKS__KEY_FILE": str(key),
        **more,
    }


def connected(dsn: str, simulator: Simulator, key_file: Path) -> None:
    """Connect the simulator's company, and note that it was looked through: it is empty."""
    key = make_key(key_file)
    now = simulator.clock.now()
    given: Mapping[str, Any] = simulator.oauth.connect("simulator-app", simulator.company.realm, now)
    pair = Pair(given["access_token"], given["refresh_token"], given["expires_in"], given["x_refresh_token_expires_in"])
    with connect(dsn) as connection:
        store_consent(connection, key, simulator.company.realm, "simulator", pair, now)
        realm.set_adopted(connection, simulator.company.realm, now)


@dataclass
class Office:
    """What the tests talk to."""

    app: App
    simulator: Simulator
    simulator_url: str
    key_file: Path
    url: str
    token: str
    environment: dict[str, str]
    _numbers: dict[str, int] = field(default_factory=lambda: {APPLICATION: 0, PERSON: 0})

    # --- the MIS ---

    def admit(self, count: int = 1, **values: Any) -> list[int]:
        """So many new applicants, in the models when this returns; their ids."""
        return self._new(APPLICATION, "appl_id", count, {"first_name": "Ann", "family_name": "Nabirye", **values})

    def enrol(self, count: int = 1, **values: Any) -> list[int]:
        """So many new students; their ids."""
        return self._new(PERSON, "per_id_ug", count, {"fname": "Tom", "lname": "Okot", **values})

    def _new(self, table: str, key: str, count: int, values: Mapping[str, Any]) -> list[int]:
        first = self._numbers[table] + 1
        self._numbers[table] += count
        numbers = list(range(first, first + count))
        self.put(table, [{key: n, **{k: str(v).replace("#", str(n)) for k, v in values.items()}} for n in numbers])
        kind = "applicant" if table == APPLICATION else "student"
        self.wait_for("SELECT true FROM customer WHERE record = :r", r=f"{kind}:{numbers[-1]}")
        return numbers

    def put(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows of the MIS to the log, as capture does."""
        declared = self.app.domain.tables[table]
        source = Source("mysql", "s", "school", "", table, int(time.time() * 1000))
        messages = []
        for row in rows:
            values = [None if row.get(name) is None else str(row[name]) for name in declared.names]
            messages.append(Message(*encode_change(declared, "c", values[:1], values, source=source), 1))
        self.app.log.append("mis", messages)

    def wait_for(self, sql: str, **parameters: str) -> None:
        """Until a query tells true."""
        until(lambda: [row for row in self.app.query("", sql, parameters).rows if row[0]], every=0.02)

    # --- the API ---

    def get(self, path: str, *, token: str | None = None, **more: Any) -> requests.Response:
        return self.ask("GET", path, token=token, **more)

    def post(self, path: str, body: Any = None, *, token: str | None = None, **more: Any) -> requests.Response:
        return self.ask("POST", path, token=token, json=body, **more)

    def ask(self, method: str, path: str, *, token: str | None = None, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.token}", **more.pop("headers", {})}
        address = path if path.startswith("/") else f"{PREFIX}/{path}"
        return requests.request(method, f"{self.url}{address}", headers=headers, timeout=30, **more)

    # --- the company ---

    def live(self) -> list[str]:
        """The display names of the customers that the company has."""
        return [entry.name for entry in self.simulator.company.of("Customer") if entry.active]

    def realm(self, sql: str, *values: Any) -> None:
        """Change what is known of the company."""
        with connect(self.app.dsn) as connection:
            connection.execute(f"UPDATE rowtide.quickbooks_realm SET {sql}", values)


@contextmanager
def office(dsn: str, *, pages: bool = True, **more: str) -> Iterator[Office]:
    """A school without people, its worker at work, its company connected and, with `pages`, page and API served."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rowtide-api-")))
        simulator = Simulator()
        address = stack.enter_context(serve(simulator))
        environment = settings_of(dsn, address, folder / "key", **more)
        app = stack.enter_context(open_app(load_settings(None, environment).settings))
        connected(dsn, simulator, folder / "key")
        app.init()
        stack.enter_context(working(app))
        with connect(dsn) as connection:
            token = make(connection, "tests")
        port = stack.enter_context(serve_page([app], "127.0.0.1", 0)) if pages else 0
        yield Office(app, simulator, address, folder / "key", f"http://127.0.0.1:{port}", token, environment)


@contextmanager
def working(app: App) -> Iterator[None]:
    """The app's worker at work in a thread."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            app.run(stop)
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    thread = threading.Thread(target=run, name="worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
    if failures:
        raise failures[0]


def without_settings() -> dict[str, str]:
    """This process's environment without Rowtide's variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ROWTIDE_")}
