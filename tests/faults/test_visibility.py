"""Half a batch is never visible: what is conserved is conserved at every look."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import psycopg
from domains import Synthetic
from instances import Bench

from connectors.event import Source, encode_boundary, encode_change
from connectors.log import Message

POLLS = 1000
STATES = 20  # so many states of the models are to be seen at least
PATIENCE = 120.0  # seconds, on a machine that has other work
ACCOUNTS = 60
DOMAIN = Synthetic(
    "money",
    "CREATE TABLE account (id integer PRIMARY KEY, owner integer NOT NULL, amount integer NOT NULL);",
    {
        "by_owner": "-- key: owner\nSELECT owner, sum(amount) AS total FROM account GROUP BY owner",
        "by_parity": "-- key: parity\nSELECT o.owner % 2 AS parity, sum(o.total) AS total FROM by_owner AS o GROUP BY o.owner % 2",
    },
    {},
)


def test_a_second_connection_never_sees_half_a_transaction(database: str, tmp_path: Path, seed: int) -> None:
    """Money moves between accounts, several rows a transaction; all models agree on its sum at every poll."""
    bench = Bench(database, DOMAIN, tmp_path)
    bench.create("money")
    rng = random.Random(seed)
    table = bench.analysis.domain.tables["account"]
    amounts = dict.fromkeys(range(ACCOUNTS), 1000)
    source = Source("postgresql", "s", "d", "public", "account", 1_700_000_000_000)

    def change(account: int) -> tuple[bytes, bytes]:
        row = (str(account), str(account % 7), str(amounts[account]))
        return encode_change(table, "u", (str(account),), row, source=source)

    def transaction(number: int, accounts: list[int]) -> list[Message]:
        encoded = [
            encode_boundary("BEGIN", str(number), 1),
            *map(change, accounts),
            encode_boundary("END", str(number), 1),
        ]
        return [Message(key, value, 1) for key, value in encoded]

    bench.log.append("t", transaction(0, list(amounts)))
    bench.work("money")
    done = threading.Event()

    def load() -> None:
        number = 0
        while not done.wait(0.002):
            number += 1
            chosen = rng.sample(list(amounts), 3)
            for account in chosen[1:]:
                amounts[account] += 5
            amounts[chosen[0]] -= 10
            bench.log.append("t", transaction(number, chosen))

    def work() -> None:
        while not done.is_set():
            bench.work("money")

    threads = [threading.Thread(target=load), threading.Thread(target=work)]
    for thread in threads:
        thread.start()
    try:
        seen = set()
        with psycopg.connect(database, autocommit=True) as connection:
            polls, until = 0, time.monotonic() + PATIENCE
            while polls < POLLS or (len(seen) <= STATES and time.monotonic() < until):
                polls += 1
                row = connection.execute(
                    "SELECT (SELECT sum(total) FROM money.by_owner), (SELECT sum(total) FROM money.by_parity), "
                    "(SELECT sum(amount) FROM money_source.account), (SELECT array_agg(total ORDER BY owner) FROM money.by_owner)"
                ).fetchone()
                assert row is not None
                assert set(map(int, row[:3])) == {ACCOUNTS * 1000}
                seen.add(str(row[3]))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(seen) > STATES, "the worker was at work while the sums were looked at"
