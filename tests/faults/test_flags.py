"""Flags of a rental shop, written back by real daemons that are killed, beside people who write the same column."""

from __future__ import annotations

import json
import os
import random
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from daemons import Daemon, Daemons, daemons, until
from flag_shops import ITEMS, PEOPLES, FlagShop, MariadbShop, People, PostgresShop

from connectors.writeback import Wanted
from connectors.writeback.mysql import MySQLFlags
from connectors.writeback.postgres import PostgresFlags
from consumers.domain import load_domain
from daemon import sources
from daemon.settings import load_settings

FAILPOINTS = ("delivery_taken_up", "flag_written", "delivery_recorded", "before_commit")


@pytest.fixture(params=["postgres", "mariadb"])
def shop(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = (
        PostgresShop(request.getfixturevalue("server"))
        if request.param == "postgres"
        else MariadbShop(request.getfixturevalue("mariadb"))
    )
    yield made
    made.close()


@pytest.fixture
def start(shop: Any, database: str, tmp_path: Path) -> Iterator[Daemons]:
    environment = {
        "ROWTIDE_STATE__DSN": database,
        "ROWTIDE_SOURCE__DSN": shop.dsn,
        "ROWTIDE_SOURCE__WRITE_BACK": "true",
        "ROWTIDE_DOMAIN": "rental",
    }
    with daemons(environment, tmp_path) as starting:
        yield starting


def command(start: Daemons, *arguments: object, code: int = 0, **extra: str) -> str:
    done = start(*arguments, **extra)
    ended = done.ended()
    assert ended == code, "".join(done.lines)
    return done.output() + ("".join(done.lines) if code else "")


def set_up(start: Daemons, shop: Any) -> None:
    """As an operator does: the column is proposed, then added by its owner; the user gets what is printed."""
    told = command(start, "init", ROWTIDE_SOURCE__WRITE_BACK_DSN=shop.owner)
    assert "ALTER TABLE" in told
    assert "rowtide init --yes" in told
    assert "status" not in {row[0] for row in _columns(shop)}
    done = json.loads(command(start, "init", "--yes", "--json", ROWTIDE_SOURCE__WRITE_BACK_DSN=shop.owner))
    assert (len(done["done"]), done["source_lacks"]) == (1, [])
    shop.watch()
    shop.allow(command(start, "grants", "--user", shop.user).splitlines())


def prepare(shop: Any) -> None:
    """The same without the commands."""
    environment = {"ROWTIDE_SOURCE__DSN": shop.dsn, "ROWTIDE_SOURCE__WRITE_BACK": "true"}
    settings, domain = load_settings(None, environment).settings, load_domain("rental")
    values = domain.write_back["item_status"].values["status"]
    owner = MySQLFlags(shop.owner) if shop.kind == "mysql" else PostgresFlags(shop.owner, schema="public", name="owner")
    owner.execute(owner.missing([Wanted("inventory", "status", "text", values)]))
    owner.close()
    shop.watch()
    shop.allow(sources.grants(settings, domain, user=shop.user, schema=None, mysql=shop.kind == "mysql"))


def _columns(shop: Any) -> list[tuple[Any, ...]]:
    return shop.query("SELECT column_name FROM information_schema.columns WHERE table_name = 'inventory'")


def derived(database: str) -> dict[int, str]:
    with psycopg.connect(database) as connection:
        return dict(connection.execute("SELECT inventory_id, status FROM rental.inventory_status").fetchall())


def pending(database: str) -> tuple[int, int]:
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM rental.pending_status), (SELECT count(*) FROM rowtide.delivery)"
        ).fetchone()
    return row[0], row[1]


def settle(shop: FlagShop, database: str) -> None:
    """Wait until the source holds what its rentals say, the models too, and no delivery is left."""
    until(lambda: shop.statuses() == shop.due() == derived(database) and pending(database) == (0, 0))


def killed_at_failpoint(daemon: Daemon, seconds: float) -> bool:
    """Wait for the daemon's own death; when the time is over it is killed. Whether it died by itself."""
    handle = os.pidfd_open(daemon.process.pid)
    try:
        died = bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
    if not died:
        daemon.signal(signal.SIGKILL)
    assert daemon.ended() == -signal.SIGKILL, "".join(daemon.lines)
    return died


def test_flags_follow_through_kills_and_people(shop: Any, start: Daemons, database: str, seed: int) -> None:
    """At the end every status is what the rentals say; no word of a person was overwritten; no write was in vain."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    set_up(start, shop)
    people = People(shop, rng, first=1000)
    people.start()
    died = []
    try:
        for number, point in enumerate(rng.sample(FAILPOINTS, 2)):
            daemon = start("run", ROWTIDE_FAILPOINT=f"{point}:{rng.randint(1, 3)}")
            if number == 1:
                daemon.wait_for("daemon.leading")
                shop.interrupt()
            died.append(killed_at_failpoint(daemon, 12))
        last = start("run")
        last.wait_for("flag.written")
        shop.interrupt()
        last.wait_for("flag.written")
    finally:
        people.end()
    assert any(died), "no failpoint was reached"
    settle(shop, database)
    writes = shop.writes()
    assert [w for w in writes if w[0] in PEOPLES or w[1] in PEOPLES] == []
    assert [w for w in writes if w[0] == w[1]] == []
    assert ITEMS // 2 < len(writes) <= ITEMS + sum(people.acts.values())
    status = json.loads(command(start, "status", "--json"))
    assert status["write_back"]["problem"] is None
    assert status["write_back"]["sinks"]["write_back.item_status"]["pending"] == 0

    # A rebuild beside the running daemon writes nothing, and afterwards flags follow again.
    command(start, "rebuild", "--json")
    last.wait_for("worker.reloaded")
    last.wait_for("daemon.leading")
    command(start, "deliveries", "--retry")
    item = next(n for n, status_ in shop.due().items() if status_ not in PEOPLES)
    wanted = {"available": "rented", "rented": "available"}[shop.due()[item]]
    before = len(shop.writes())
    assert before == len(writes)
    shop.execute(
        f"INSERT INTO rental VALUES (9000, '2024-01-01 10:00:00', {item}, 1, NULL, 1)"
        if wanted == "rented"
        else f"UPDATE rental SET return_date = '2024-01-02 10:00:00' WHERE inventory_id = {item}"
    )
    until(lambda: shop.statuses()[item] == wanted)
    settle(shop, database)
    assert len(shop.writes()) == before + 1, "one change is one write, whose echo causes nothing"
    assert command(start, "verify", "--json").startswith('{"clean": true')
    assert last.stop() == 0


def test_nothing_is_written_while_switched_off_or_idle_working(shop: Any, start: Daemons, database: str) -> None:
    """Without `write_back`, and with `--until-idle`, the source stays as it is though rows are pending."""
    prepare(shop)
    command(start, "run", "--until-idle")
    assert pending(database) == (ITEMS, 0)
    off = start("run", ROWTIDE_SOURCE__WRITE_BACK="false")
    off.wait_for("daemon.leading")
    shop.execute("INSERT INTO rental VALUES (9000, '2024-01-01 10:00:00', 1, 1, NULL, 1)")
    off.wait_for("batch.committed")
    until(lambda: derived(database)[1] == "rented")
    assert off.stop() == 0
    assert shop.writes() == []
    settings = load_settings(None, {"ROWTIDE_SOURCE__DSN": shop.dsn}).settings
    told = sources.grants(settings, load_domain("rental"), user="u", schema=None, mysql=shop.kind == "mysql")
    assert "UPDATE" not in "".join(told)


def test_what_blocks_is_told_and_mended(shop: Any, start: Daemons, database: str) -> None:
    """Without the right to write, status is degraded and says what to type; nothing is parked for it."""
    prepare(shop)
    account = shop.user if shop.kind == "postgres" else f"'{shop.user}'@'%'"
    shop.execute(f"REVOKE UPDATE (status) ON inventory FROM {account}")
    daemon = start("run")
    told = daemon.wait_for("flag.blocked")
    assert "rowtide grants" in told["hint"]
    status = json.loads(command(start, "status", "--json"))
    assert status["state"] == "degraded"
    counts = status["write_back"]["sinks"]["write_back.item_status"]
    assert (counts["pending"], counts["retryable"], counts["parked"]) == (ITEMS, ITEMS, 0)
    assert daemon.stop() == 0
    shop.execute(f"GRANT UPDATE (status) ON inventory TO {account}")
    start("run").wait_for("flag.written", rows=ITEMS)
    settle(shop, database)
