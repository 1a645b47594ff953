"""A small rental shop in a real source whose inventory lacks the status, people who work in it, and an audit of every change."""

from __future__ import annotations

import contextlib
import random
import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import count
from urllib.parse import quote

import psycopg
import pymysql
from reached import Reached, ReachedMariadb, ReachedPostgres

from connectors.embedded import EmbeddedPostgres
from deploy.stack.mariadb import MariaDB

_numbers = count(1)
ITEMS = 40
PEOPLES = ("damaged", "missing")

_TABLES = (
    (
        "CREATE TABLE film (film_id int PRIMARY KEY, title varchar(128) NOT NULL, rental_duration int NOT NULL, "
        "rental_rate decimal(4,2) NOT NULL, replacement_cost decimal(5,2) NOT NULL, length int, rating varchar(10))"
    ),
    (
        "CREATE TABLE rental (rental_id int PRIMARY KEY, rental_date {time} NOT NULL, inventory_id int NOT NULL, "
        "customer_id int NOT NULL, return_date {time}, staff_id int)"
    ),
    (
        "CREATE TABLE payment (payment_id int PRIMARY KEY, customer_id int NOT NULL, staff_id int, rental_id int, "
        "amount decimal(5,2) NOT NULL, payment_date {time} NOT NULL)"
    ),
    (
        "CREATE TABLE customer (customer_id int PRIMARY KEY, store_id int NOT NULL, first_name varchar(45) NOT NULL, "
        "last_name varchar(45) NOT NULL, email varchar(50), active {truth}, create_date {time})"
    ),
    "CREATE TABLE category (category_id int PRIMARY KEY, name varchar(25) NOT NULL)",
    "CREATE TABLE film_category (film_id int, category_id int, PRIMARY KEY (film_id, category_id))",
    "CREATE TABLE store (store_id int PRIMARY KEY)",
    "INSERT INTO film VALUES (1, 'FILM', 3, 2.99, 19.99, 90, 'PG')",
    "INSERT INTO customer VALUES (1, 1, 'F', 'L', NULL, {true}, NULL)",
    "INSERT INTO store VALUES (1)",
)


class FlagShop(Reached):
    """What both kinds share: the people's traffic, what must be at the end, and the audit."""

    user = ""

    @abstractmethod
    def watch(self) -> None:
        """Audit every change of a status."""

    @abstractmethod
    def interrupt(self) -> None:
        """Break every connection to the source; where it is a server of its own, restart it hard."""

    @abstractmethod
    def allow(self, grants: Sequence[str]) -> None:
        """Make the user with what `rowtide grants` printed."""

    def furnish(self) -> None:
        """The rows of the beginning: items, every third out."""
        self.execute(
            *(f"INSERT INTO inventory (inventory_id, film_id, store_id) VALUES ({n}, 1, 1)" for n in range(ITEMS)),
            *(f"INSERT INTO rental VALUES ({n}, '2024-01-01 10:00:00', {n}, 1, NULL, 1)" for n in range(0, ITEMS, 3)),
        )

    def due(self) -> dict[int, str]:
        """What each item's status must become, by the source alone."""
        rows = self.query(
            "SELECT i.inventory_id, i.status, (SELECT count(*) FROM rental AS r WHERE r.inventory_id = i.inventory_id "
            "AND r.return_date IS NULL) FROM inventory AS i"
        )
        return {n: status if status in PEOPLES else ("rented" if out else "available") for n, status, out in rows}

    def statuses(self) -> dict[int, str | None]:
        return dict(self.query("SELECT inventory_id, status FROM inventory"))

    def writes(self) -> list[tuple[str | None, str | None]]:
        """The status before and after each change that Rowtide's user has made."""
        return self.query(f"SELECT old_status, new_status FROM audit WHERE who LIKE '{self.user}%' ORDER BY id")


class People(threading.Thread):
    """People who rent, bring back and set statuses at random until told to stop, and try again when the source is away."""

    def __init__(self, shop: FlagShop, rng: random.Random, first: int) -> None:
        super().__init__(daemon=True)
        self._shop = shop
        self._rng = rng
        self._ended = threading.Event()
        self._rental = first
        self.acts: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._ended.wait(self._rng.choice([0.01, 0.02, 0.05])):
                with contextlib.suppress(psycopg.OperationalError, pymysql.err.OperationalError, ConnectionError):
                    self._act()
        except BaseException as error:  # noqa: BLE001 - raised where the thread is joined
            self.error = error

    def _act(self) -> None:
        rng, item = self._rng, self._rng.randrange(ITEMS)
        what = rng.choices(["rental", "status"], [3, 1])[0]
        if what == "status":
            status = rng.choice(["'damaged'", "'missing'", "'available'", "'rented'", "NULL"])
            self._shop.execute(f"UPDATE inventory SET status = {status} WHERE inventory_id = {item}")
        else:
            out = self._shop.query(f"SELECT rental_id FROM rental WHERE inventory_id = {item} AND return_date IS NULL")
            if out:
                self._shop.execute(
                    f"UPDATE rental SET return_date = '2024-01-02 10:00:00' WHERE rental_id = {out[0][0]}"
                )
            else:
                self._rental += 1
                self._shop.execute(
                    f"INSERT INTO rental VALUES ({self._rental}, '2024-01-01 10:00:00', {item}, 1, NULL, 1)"
                )
        self.acts[what] += 1

    def end(self) -> None:
        self._ended.set()
        self.join(60)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


class PostgresShop(ReachedPostgres, FlagShop):
    """In a database of the run's server; an interruption ends all its sessions."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        number = next(_numbers)
        self.user = f"flagger_{number}"
        self.database = f"flag_shop_{number}"
        self._server = server
        self.owner = server.ensure_database(self.database)
        super().__init__(self.owner)
        self.dsn = psycopg.conninfo.make_conninfo(self.owner, user=self.user)
        self.execute(
            "CREATE TABLE inventory (inventory_id int PRIMARY KEY, film_id int NOT NULL, store_id int NOT NULL)",
            *(s.format(time="timestamp", truth="boolean", true="true") for s in _TABLES),
        )
        self.furnish()

    def watch(self) -> None:
        """Audit every change of a status."""
        self.execute(
            "CREATE TABLE audit (id serial PRIMARY KEY, item int, old_status text, new_status text, who text)",
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO audit "
            "(item, old_status, new_status, who) VALUES (OLD.inventory_id, OLD.status, NEW.status, session_user); "
            "RETURN NULL; END $$",
            "CREATE TRIGGER noted AFTER UPDATE ON inventory FOR EACH ROW EXECUTE FUNCTION note()",
        )

    def allow(self, grants: Sequence[str]) -> None:
        self.execute("\n".join(grants))

    def interrupt(self) -> None:
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self.database]
            )

    def close(self) -> None:
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = %s AND active",
                [self.database],
            )
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
                [self.database],
            )
            connection.execute(f"DROP DATABASE {self.database} WITH (FORCE)")
            connection.execute(f"DROP ROLE IF EXISTS {self.user}")


class MariadbShop(ReachedMariadb, FlagShop):
    """In a database of the run's MariaDB; an interruption kills the server and starts it again."""

    def __init__(self, server: MariaDB) -> None:
        number = next(_numbers)
        self.user = f"flagger_{number}"
        super().__init__(server, f"flag_shop_{number}")
        self._password = f"geheim/{number}"
        self.dsn = server.dsn(self.database, user=self.user, password=self._password)
        self.execute(
            "CREATE TABLE inventory (inventory_id int PRIMARY KEY, film_id int NOT NULL, store_id int NOT NULL, "
            "last_update timestamp NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp)",
            *(s.format(time="datetime", truth="tinyint(1)", true="1") for s in _TABLES),
        )
        self.furnish()
        owner = f"flag_owner_{number}"
        self.execute(
            f"CREATE USER '{owner}'@'%' IDENTIFIED BY '{self._password}'",
            f"GRANT ALL ON `{self.database}`.* TO '{owner}'@'%'",
        )
        self.owner = f"mysql://{owner}:{quote(self._password, safe='')}@127.0.0.1:{server.port}/{self.database}"

    def watch(self) -> None:
        """Audit every change of a status."""
        self.execute(
            "CREATE TABLE audit (id int AUTO_INCREMENT PRIMARY KEY, item int, old_status varchar(20), "
            "new_status varchar(20), who varchar(100))",
            "CREATE TRIGGER noted AFTER UPDATE ON inventory FOR EACH ROW INSERT INTO audit "
            "(item, old_status, new_status, who) VALUES (OLD.inventory_id, OLD.status, NEW.status, USER())",
        )

    def allow(self, grants: Sequence[str]) -> None:
        statements = [line.rstrip(";") for line in grants if not line.startswith(("--", "SET GLOBAL"))]
        self.execute(*statements, f"ALTER USER '{self.user}'@'%' IDENTIFIED BY '{self._password}' ACCOUNT UNLOCK")

    def interrupt(self) -> None:
        self._server.kill()
        self._server.start()

    def close(self) -> None:
        self.execute(f"DROP DATABASE `{self.database}`", f"DROP USER IF EXISTS '{self.user}'@'%'")
