"""A club in which everything may go wrong: its simulator sits behind a witness, and its process can die at named places.

Without sockets: what a request says is looked at when it arrives, before the simulator sees it. A kill is an exception
that nothing catches, at a failpoint, before or after a request, before or after a commit; from then on every thread of the
dead process dies at its next step. Its sessions end as a process's do, and another lane goes on.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import requests
from connected_company import JumpingClock
from customer_club import Club, club_domain

from connectors.event import Source, encode_change
from connectors.log import Message
from connectors.quickbooks import outcomes, pusher, realm, tokens
from connectors.quickbooks.clock import Clock
from connectors.quickbooks.simulator import InProcess, Simulator
from connectors.quickbooks.simulator.replies import Call
from connectors.quickbooks.simulator.transport import call_of
from connectors.state import connect
from consumers import customers as store
from consumers.engine import instance
from consumers.engine.assembler import Assembler
from consumers.engine.engine import Engine
from consumers.reader import decode
from daemon import customers as acts
from daemon import pushing

SOURCE = """
CREATE TABLE team (id integer PRIMARY KEY, name text);
CREATE TABLE member (id integer PRIMARY KEY, first text, last text, phone text, email text, team_id integer,
    status integer, quickbooks_id text);
"""
CUSTOMER = """-- key: record
SELECT 'member:' || m.id::text AS record, 'member' AS kind, m.id AS record_id, NULL::text AS known_id,
       m.first || ' ' || m.last AS real_name, 'No ' || m.id::text AS name_suffix, m.first AS given_name,
       NULL::text AS middle_name, m.last AS family_name, m.phone, m.email, 'Member' AS customer_type,
       jsonb_build_object('Number', m.id::text, 'Team', coalesce(t.name, '')) AS fields,
       md5(jsonb_build_array(m.id, m.first, m.last, m.phone, m.email, t.name)::text) AS fingerprint
  FROM member AS m LEFT JOIN team AS t ON t.id = m.team_id
"""
POINTS = (
    "customer_request_stored", "customer_answer_received", "customer_answer_recorded", "customer_told",
    "arriving", "answered", "committing", "committed",
)  # fmt: skip
TOKEN_POINTS = ("token_refreshed", "token_stored")
Row = dict[str, Any]


class KilledError(BaseException):
    """The process is dead."""


class Death:
    """Kills at the `count`-th pass of a place, and everything that comes after it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: tuple[str, int] | None = None
        self.dead = False
        self.deaths: Counter[str] = Counter()

    def arm(self, point: str, count: int) -> None:
        self._armed = (point, count)

    def revive(self) -> None:
        self._armed, self.dead = None, False

    def __call__(self, point: str) -> None:
        with self._lock:
            if self.dead:
                raise KilledError(point)
            if self._armed is None or self._armed[0] != point:
                return
            self._armed = (point, self._armed[1] - 1)
            if self._armed[1] <= 0:
                self.dead = True
                self.deaths[point] += 1
                raise KilledError(point)


class Witness(InProcess):
    """Looks at each request when it arrives: what changes something was stored before, exactly as it is sent."""

    def __init__(self, simulator: Simulator, dsn: str, death: Death) -> None:
        super().__init__(simulator)
        self._state = psycopg.connect(dsn, autocommit=True)
        self._lock = threading.Lock()
        self._death = death
        self.wrong: list[str] = []
        self.seen = 0

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        self._death("arriving")
        call = call_of(request)
        if call.method == "POST" and "/company/" in call.path and not call.path.endswith("/query"):
            with self._lock:
                self.seen += 1
                if problem := self._problem(call):
                    self.wrong.append(problem)
        answer = super().send(request, *arguments, **options)
        self._death("answered")
        return answer

    def _problem(self, call: Call) -> str | None:
        number, sent = call.query.get("requestid"), json.loads(call.body)
        if not number:
            return "a request without a requestid"
        if call.path.endswith("/batch"):
            rows = self._state.execute(
                "SELECT body, state FROM rowtide.quickbooks_request WHERE batch_id = %s ORDER BY position", [number]
            ).fetchall()
            bodies = [item["Customer"] for item in sent["BatchItemRequest"]]
        else:
            rows = self._state.execute(
                "SELECT body, state FROM rowtide.quickbooks_request WHERE requestid = %s", [number]
            ).fetchall()
            bodies = [sent]
        if [row[0] for row in rows] != bodies:
            return f"{number}: {len(rows)} stored requests are not the {len(bodies)} sent"
        return f"{number}: settled, and sent" if any(row[1] == "settled" for row in rows) else None

    def close(self) -> None:
        """Sessions close their adapters; the witness ends with the room."""

    def end(self) -> None:
        self._state.close()


class Room(Club):
    """The club, with its rows as they should be, and what may go wrong."""

    witness: Witness
    death: Death

    def __init__(self, dsn: str, folder: Path, simulator: Simulator, clock: Any) -> None:
        club_domain(folder, SOURCE, CUSTOMER)
        super().__init__(dsn, folder, "http://127.0.0.1:9", simulator, clock)
        self.members: dict[int, Row] = {}
        self.teams: dict[int, str] = {}
        self.names_ever: dict[int, set[str]] = {}
        self._engine: Engine | None = None

    # --- the source ---

    def change(self, *rows: Row, team: bool = False) -> None:
        """Rows of members, or teams, are there or change; what is not named stays. Nobody knows of it before `take_in`."""
        table = self.app.domain.tables["team" if team else "member"]
        messages = []
        for row in rows:
            if team:
                self.teams[row["id"]] = row["name"]
                whole: Mapping[str, Any] = row
            else:
                whole = {**self.members.get(row["id"], {"first": "Ann", "last": f"No{row['id']}"}), **row}
                self.members[row["id"]] = dict(whole)
                self.names_ever.setdefault(row["id"], set()).add(f"{whole['first']} {whole['last']}".lower())
            values = [None if whole.get(name) is None else str(whole[name]) for name in table.names]
            change = encode_change(table, "u", [str(row["id"])], values, source=_source(table.name))
            messages.append(Message(*change, 0))
        self.app.log.append("club", messages)

    def remove(self, number: int) -> None:
        """A member's row is deleted."""
        table = self.app.domain.tables["member"]
        del self.members[number]
        change = encode_change(table, "d", [str(number)], None, source=_source("member"))
        self.app.log.append("club", [Message(*change, 0)])

    def take_in(self) -> None:
        """Have the engine take in what the log holds, as the worker does; without another leader for each time."""
        if self._engine is None:
            super().take_in()
            self._writer = psycopg.connect(self.dsn)
            with connect(self.dsn) as connection:
                epoch = instance.take_over(connection, self.app.name)
            self._engine = Engine(self._writer, self.app.analysis, self.app.name, epoch)
            self._worker = self.app.make_worker(self._engine)
        decoder = self._worker._decoder
        while True:
            positions = self._worker.start_positions()
            records = self.app.log.read(positions, limit=5000)
            if not records:
                return
            assembler = Assembler(5000, places=positions, tables=decoder.tables)
            units = assembler.take([(record, decode(decoder, record)) for record in records])
            self._worker._records, self._worker._placed = records, None
            self._worker._apply([*units, *assembler.idle()])

    def close(self) -> None:
        super().close()
        if self._engine is not None:
            self._writer.close()

    # --- dying ---

    def step(self) -> float:
        """A round of the lane, as far as the process lives; the seconds until the next."""
        seconds = 0.0
        with suppress(KilledError):
            seconds = self.lane._round_or_pause(threading.Event())
        if self.death.dead:
            self.bury()
        return seconds

    def bury(self) -> None:
        """End what is left of a dead process, and begin another."""
        self.death.dead = True
        self.lane._stop.set()
        for thread in threading.enumerate():
            if thread.name == "customers":
                thread.join(30)
                assert not thread.is_alive()
        self.lane.close()
        self.death.revive()
        self.anew()

    def mend(self) -> None:
        """What a person does: connects again, resumes, has what is parked tried again. Nobody dies of it."""
        self.death.revive()
        with connect(self.dsn) as connection:
            found = realm.current_realm(connection)
            if found is None or found.state == realm.RECONNECT_NEEDED:
                self.connect_again()
            elif found.state == realm.STOPPED:
                realm.resume(connection, found.realm_id, self.clock.now())
        acts.retry(self.app, [record for record, state in self.states().items() if state in ("parked", "failed")])

    def connect_again(self) -> None:
        self.key_file.unlink(missing_ok=True)
        self.connect()

    def settle(self, most: int = 80) -> None:
        """Rounds until nothing is pending and nothing open; a person mends what needs one."""
        for _ in range(most):
            seconds = self.step()
            self.take_in()
            if not self.pending() and not self.unsettled() and not self.untold():
                return
            self.mend()
            self.clock.advance(max(seconds, 20.0))
        raise AssertionError(f"pending {self.pending()[:5]}, unsettled {self.unsettled()}, {self.lane.waits}")

    def untold(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM rowtide.customer WHERE NOT told").fetchone()
        return int(row[0]) if row else 0

    def unknown_outcomes(self) -> int:
        """Changes asked for whose outcome nobody knew, by the audit."""
        row = self.connection.execute(
            "SELECT coalesce(sum(CASE operation WHEN 'batch' THEN jsonb_array_length(request -> 'items') ELSE 1 END), 0) "
            "FROM rowtide.quickbooks_audit WHERE outcome = 'unknown'"
        ).fetchone()
        return int(row[0]) if row else 0

    # --- what must hold ---

    def problems(self, taken_by_others: Sequence[str] = (), *, names_lied: bool = False) -> list[str]:
        """Everything that is not as it must be; empty: one live customer for each record, with its last values.

        Args:
            taken_by_others: names that vendors and employees have.
            names_lied: whether QuickBooks said of a name that it is taken though it was not.
        """
        found = list(self.witness.wrong)
        customers = {entry["Id"]: entry for entry in self.simulator.customers()}
        rows = self.connection.execute("SELECT record, quickbooks_id FROM rowtide.customer").fetchall()
        mapped = {number: record for record, number in rows if number is not None}
        found += [f"customer {n} {customers[n]['DisplayName']!r} is nobody's" for n in customers if n not in mapped]
        by_record = {record: number for number, record in mapped.items()}
        others = {name.lower() for name in taken_by_others}
        for number, row in self.members.items():
            customer = customers.get(by_record.get(f"member:{number}", ""))
            if customer is None:
                found.append(f"member {number} has no customer")
                continue
            found += [f"member {number}: {one}" for one in self._differences(number, row, customer, others, names_lied)]
        memory = self.simulator.memory.other_bodies
        if memory:
            found.append(f"{len(memory)} requestids with other bodies")
        if self.simulator.throttle.refused:
            found.append(f"limits: {self.simulator.throttle.summary()}")
        return found

    def _differences(self, number: int, row: Row, customer: Row, others: set[str], names_lied: bool) -> list[str]:
        real = f"{row['first']} {row['last']}"
        names = [real, f"{real} (No {number})", f"{real} (No {number}/{number})"]
        contested = (
            names_lied
            or real.lower() in others
            or any(real.lower() in ever for other, ever in self.names_ever.items() if other != number)
        )
        team = self.teams.get(row.get("team_id") or 0, "")
        lines = [
            "[Rowtide]",
            "CustomerType: Member",
            *([f"Team: {team}"] if team else []),
            f"Number: {number}",
            "[/Rowtide]",
        ]
        told = {
            "given name": (customer.get("GivenName"), row["first"]),
            "family name": (customer.get("FamilyName"), row["last"]),
            "phone": (customer.get("PrimaryPhone", {}).get("FreeFormNumber"), row.get("phone")),
            "e-mail": (customer.get("PrimaryEmailAddr", {}).get("Address"), row.get("email")),
            "notes": (customer.get("Notes"), "\n".join(lines)),
        }
        found = [f"{name} is {held!r} instead of {due!r}" for name, (held, due) in told.items() if held != due]
        if customer["DisplayName"] not in (names if contested else names[:1]):
            found.append(f"name is {customer['DisplayName']!r}")
        return found


def _source(table: str) -> Source:
    return Source("postgresql", "club", "club", "public", table, 0)


@contextmanager
def room(dsn: str, folder: Path, simulator: Simulator | None = None, clock: Any = None) -> Iterator[Room]:
    """An empty club with an empty company, connected, on a clock that jumps (or the one given)."""
    clock = clock or JumpingClock()
    simulator = simulator or Simulator(clock=clock)
    simulator.clock = clock
    death = Death()
    with ExitStack() as stack:
        made = Room(dsn, folder, simulator, clock)
        witness = Witness(simulator, dsn, death)
        made.witness, made.death = witness, death
        stack.callback(witness.end)
        stack.callback(made.close)
        stack.enter_context(patch.object(realm, "open_client", partial(realm.open_client, adapter=witness)))
        for module in (pusher, outcomes, pushing, tokens):
            stack.enter_context(patch.object(module, "failpoint", death))
        stack.enter_context(patch.object(store.CustomerStore, "_transaction", _mortal(death)))
        made.connect()
        yield made


def _mortal(death: Death) -> Callable[..., Any]:
    """Transactions that end with their process: before the commit, or right after it."""
    original = store.CustomerStore._transaction

    @contextmanager
    def transaction(self: store.CustomerStore) -> Iterator[Any]:
        death("")
        with original(self) as connection:
            yield connection
            death("committing")
        death("committed")

    return transaction


__all__ = ["POINTS", "TOKEN_POINTS", "Clock", "Room", "room"]
