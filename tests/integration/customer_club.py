"""A club whose members are customers: a small domain of its own, the real simulator over HTTP, a real state database."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from connected_company import JumpingClock, connect_company
from domain_folder import write_domain

from connectors.event import Source, encode_change
from connectors.log import Message, TopicPartition
from connectors.quickbooks import realm
from connectors.quickbooks.keys import make_key
from connectors.quickbooks.simulator import Simulator, serve
from connectors.state import connect, migrate
from consumers.domain import load_domain
from daemon.app import App
from daemon.lane import Lane
from daemon.settings import Settings
from daemon.times import BusinessTime

SOURCE = """
CREATE TABLE member (id integer PRIMARY KEY, kind text, first text, last text, phone text, email text, team text,
    quickbooks_id text);
"""
INPUTS = """
CREATE TABLE pushed (record text PRIMARY KEY, realm_id text, state integer, quickbooks_id text, sync_token text,
    display_name text, fingerprint text, reason text, pushed_by text, pushed_at timestamptz);
"""
CUSTOMER = """-- key: record
SELECT m.kind || ':' || m.id::text AS record, m.kind, m.id AS record_id, m.quickbooks_id AS known_id,
       m.first || ' ' || m.last AS real_name, 'No ' || m.id::text AS name_suffix, m.first AS given_name,
       NULL::text AS middle_name, m.last AS family_name, m.phone, m.email, 'Member' AS customer_type,
       jsonb_build_object('Number', m.id::text, 'Team', coalesce(m.team, '')) AS fields,
       md5(jsonb_build_array(m.kind, m.id, m.first, m.last, m.phone, m.email, m.team)::text) AS fingerprint
  FROM member AS m
"""
PENDING = """-- key: record
SELECT c.record, c.fingerprint FROM customer AS c LEFT JOIN pushed AS p ON p.record = c.record
 WHERE p.fingerprint IS DISTINCT FROM c.fingerprint
"""
TOML = """
[push.quickbooks]
model = "customer"
pending = "pending_customer"
pushed = "pushed"
"""


def club_domain(folder: Path, source: str = SOURCE, customer: str = CUSTOMER) -> Path:
    models = {"customer": customer, "pending_customer": PENDING}
    return write_domain(folder / "club", source, models, inputs=INPUTS, toml=TOML)


class Club:
    """The club, its books, and who pushes."""

    def __init__(self, dsn: str, folder: Path, address: str, simulator: Simulator, clock: Any) -> None:
        self.simulator = simulator
        self.clock = clock
        self.dsn = dsn
        self.key_file = folder / "key"
        self.home = folder / "club" if (folder / "club").exists() else club_domain(folder)
        self.settings = Settings.model_validate(
            {
                "domain": str(self.home),
                "state": {"dsn": dsn},
                "quickbooks": {
                    "enabled": True,
                    "environment": "simulator",
                    "api_url": address,
                    "client_id": "simulator-app",
                    "client_secret": "simulator-secret",
                    "key_file": str(self.key_file),
                    "timeout_seconds": 5,
                },
            }
        )
        migrate(dsn)
        self.app = App(self.settings, dsn, load_domain(str(self.home)), BusinessTime())
        self.app.outside = clock
        self.app.init()
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.current = True
        self.lane = Lane(self.app, leads=lambda _: True, is_current=lambda _: self.current, threads=3)

    def connect(self) -> None:
        """Connect the company, without a browser."""
        key = make_key(self.key_file)
        with connect(self.dsn) as connection:
            connect_company(connection, key, self.simulator, self.clock.now())

    def settings_with(self, **quickbooks: Any) -> None:
        """Change settings of QuickBooks."""
        changed = self.settings.quickbooks.model_copy(update=quickbooks)
        self.app.settings = self.settings = self.settings.model_copy(update={"quickbooks": changed})

    # --- the source ---

    def put(self, *members: dict[str, Any]) -> None:
        """Members join or change, and the models know of it."""
        self.append(*members)
        self.take_in()

    def append(self, *members: dict[str, Any]) -> None:
        """Members join or change, as the log tells."""
        table = self.app.domain.tables["member"]
        messages = []
        for member in members:
            row = {"kind": "member", "first": "Ann", "last": f"No{member['id']}", **member}
            values = [None if row.get(name) is None else str(row[name]) for name in table.names]
            change = encode_change(table, "u", [str(row["id"])], values, source=_source())
            messages.append(Message(*change, 0))
        self.app.log.append("club", messages)

    def leave(self, number: int) -> None:
        """A member goes."""
        table = self.app.domain.tables["member"]
        self.app.log.append("club", [Message(*encode_change(table, "d", [str(number)], None, source=_source()), 0)])
        self.take_in()

    def take_in(self) -> None:
        """Have the worker take in what the log holds."""
        self.app.run(threading.Event(), until_idle=True)

    # --- pushing ---

    def round(self) -> float:
        """A round of the lane, and what it told taken in. What is to be waited for counts as a round too."""
        seconds = self.lane._round_or_pause(threading.Event())
        self.take_in()
        return seconds

    def rounds(self, most: int = 40) -> None:
        """Rounds until nothing is pending, or nothing more can be done; time passes between them."""
        for _ in range(most):
            seconds = self.round()
            if not self.pending() and not self.unsettled():
                return
            self.clock.advance(max(seconds, 1.0))

    def pending(self) -> list[str]:
        return [row[0] for row in self.connection.execute("SELECT record FROM club.pending_customer ORDER BY 1")]

    def unsettled(self) -> int:
        row = self.connection.execute(
            "SELECT count(*) FROM rowtide.quickbooks_request WHERE state <> 'settled'"
        ).fetchone()
        return int(row[0]) if row else 0

    def states(self) -> dict[str, str]:
        rows = self.connection.execute("SELECT record, state FROM rowtide.customer ORDER BY record").fetchall()
        return dict(rows)

    def row(self, record: str) -> dict[str, Any]:
        with self.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute("SELECT * FROM rowtide.customer WHERE record = %s", [record]).fetchone() or {}

    def pushed(self) -> dict[str, tuple[Any, ...]]:
        rows = self.connection.execute(
            "SELECT record, state, quickbooks_id, display_name FROM club_source.pushed ORDER BY record"
        ).fetchall()
        return {row[0]: tuple(row[1:]) for row in rows}

    def told(self) -> list[dict[str, Any]]:
        """The rows of `pushed` in the order in which the log tells them, each time that it does."""
        records = self.app.log.read({TopicPartition(self.app.domain.own_topic, 0): 0}, limit=100_000)
        rows = [json.loads(record.value or b"{}") for record in records]
        found = [row.get("payload", row) for row in rows]
        return [row["after"] for row in found if row.get("source", {}).get("table") == "pushed" and row.get("after")]

    def names(self) -> list[str]:
        """The display names of the customers in use."""
        return sorted(entry["DisplayName"] for entry in self.simulator.customers())

    def writes(self) -> int:
        """Changes that QuickBooks was asked for."""
        return sum(count for name, count in self.simulator.requests.operations.items() if name in WRITES)

    def audit(self) -> str:
        """Everything in the audit, as text."""
        rows = self.connection.execute("SELECT row_to_json(a)::text FROM rowtide.quickbooks_audit AS a").fetchall()
        return json.dumps([row[0] for row in rows])

    def adopted(self) -> None:
        with connect(self.dsn) as connection:
            realm.set_adopted(connection, self.simulator.company.realm, self.clock.now())

    def anew(self, threads: int = 3) -> None:
        """Another lane, as after a restart."""
        self.lane.close()
        self.lane = Lane(self.app, leads=lambda _: True, is_current=lambda _: self.current, threads=threads)

    def close(self) -> None:
        self.lane.close()
        self.connection.close()
        self.app.close()


WRITES: Sequence[str] = ("create", "update", "batch")


def _source() -> Source:
    return Source("postgresql", "club", "club", "public", "member", BusinessTime().now_ms())


@contextmanager
def club(dsn: str, folder: Path, simulator: Simulator | None = None, *, connected: bool = True) -> Iterator[Club]:
    """An empty club with an empty company."""
    clock = JumpingClock()
    simulator = simulator or Simulator(clock=clock)
    simulator.clock = clock
    with ExitStack() as stack:
        address = stack.enter_context(serve(simulator))
        made = Club(dsn, folder, address, simulator, clock)
        stack.callback(made.close)
        if connected:
            made.connect()
        yield made
