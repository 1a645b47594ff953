"""The sample shop in MariaDB: tables of Sakila's shape with generated rows, and its users with the least rights.

Every step does nothing where it was done before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pymysql
from pydantic import SecretStr

from connectors.debezium.grants import grants
from consumers.domain import load_domain
from daemon.demo.shop import shop_rows
from daemon.settings import Settings, SourceSettings
from daemon.writeback import grants as writing_grants
from deploy.stack.definition import CAPTURE_USER, CONNECTOR, DOMAIN, SHOP, SHOP_USER

Connection: TypeAlias = "pymysql.connections.Connection[Any]"

_SEED = 7
_ROWS = 1000  # of one INSERT
# Foreign keys act as Sakila's do; what CASCADE and SET NULL change, the binlog does not tell.
_SCHEMA = """
CREATE TABLE store (store_id int PRIMARY KEY);
CREATE TABLE category (category_id int PRIMARY KEY, name varchar(25) NOT NULL);
CREATE TABLE film (film_id int PRIMARY KEY, title varchar(128) NOT NULL, rental_duration tinyint unsigned NOT NULL,
    rental_rate decimal(4,2) NOT NULL, replacement_cost decimal(5,2) NOT NULL, length smallint unsigned,
    rating enum('G','PG','PG-13','R','NC-17'));
CREATE TABLE film_category (film_id int, category_id int, PRIMARY KEY (film_id, category_id),
    FOREIGN KEY (film_id) REFERENCES film (film_id) ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE inventory (inventory_id int PRIMARY KEY, film_id int NOT NULL, store_id int NOT NULL,
    status varchar(20) DEFAULT 'available', last_update timestamp NOT NULL DEFAULT current_timestamp,
    FOREIGN KEY (film_id) REFERENCES film (film_id) ON UPDATE CASCADE);
CREATE TABLE customer (customer_id int PRIMARY KEY, store_id int NOT NULL, first_name varchar(45) NOT NULL,
    last_name varchar(45) NOT NULL, email varchar(80), active boolean NOT NULL DEFAULT true, create_date datetime);
CREATE TABLE rental (rental_id int AUTO_INCREMENT PRIMARY KEY, rental_date datetime NOT NULL,
    inventory_id int NOT NULL, customer_id int NOT NULL, return_date datetime, staff_id tinyint unsigned NOT NULL,
    FOREIGN KEY (inventory_id) REFERENCES inventory (inventory_id) ON UPDATE CASCADE,
    FOREIGN KEY (customer_id) REFERENCES customer (customer_id) ON UPDATE CASCADE);
CREATE TABLE payment (payment_id int AUTO_INCREMENT PRIMARY KEY, customer_id int NOT NULL,
    staff_id tinyint unsigned NOT NULL, rental_id int, amount decimal(5,2) NOT NULL, payment_date datetime NOT NULL,
    FOREIGN KEY (rental_id) REFERENCES rental (rental_id) ON UPDATE CASCADE ON DELETE SET NULL,
    FOREIGN KEY (customer_id) REFERENCES customer (customer_id) ON UPDATE CASCADE);
"""


def prepare(connect: Callable[[], Connection], passwords: Mapping[str, str], *, now: datetime | None = None) -> bool:
    """Load the shop, whose past ends now, and make the users. Returns whether the shop is new.

    Args:
        connect: opens an administrator's connection.
        passwords: of the users, by the names of `deploy.stack.passwords`.
        now: where the past ends; the present where None.
    """
    connection = connect()
    try:
        fresh = not _is_loaded(connection)
        if fresh:
            _load(connection, (now or datetime.now(UTC)).replace(tzinfo=None, microsecond=0))
        _make_users(connection, passwords)
    finally:
        connection.close()
    return fresh


def _is_loaded(connection: Connection) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = %s AND table_name = 'payment'", [SHOP]
        )
        if cursor.fetchone() != (1,):
            return False
        cursor.execute(f"SELECT EXISTS (SELECT 1 FROM `{SHOP}`.store)")
        return bool(cursor.fetchone() == (1,))


def _load(connection: Connection, now: datetime) -> None:
    """All rows come in one transaction, so that what an interrupted start left is seen and made anew."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS `{SHOP}`")
        cursor.execute(f"CREATE DATABASE `{SHOP}` CHARACTER SET utf8mb4")
        cursor.execute(f"USE `{SHOP}`")
        for statement in _SCHEMA.strip().removesuffix(";").split(";\n"):
            cursor.execute(statement)
        cursor.execute("START TRANSACTION")
        for table, columns, rows in shop_rows(now, seed=_SEED):
            places = ", ".join(["%s"] * len(columns))
            insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"
            for first in range(0, len(rows), _ROWS):
                cursor.executemany(insert, rows[first : first + _ROWS])
        cursor.execute("COMMIT")


def _make_users(connection: Connection, passwords: Mapping[str, str]) -> None:
    """Outside the binlog: passwords have no place there."""
    domain = load_domain(DOMAIN)
    place = SecretStr(f"mariadb://localhost/{SHOP}")
    writing = Settings(source=SourceSettings(kind="none", write_back=True, dsn=place))
    rights = [
        *grants("mariadb", list(domain.tables.values()), user=CAPTURE_USER, database=SHOP, schema="", name=CONNECTOR),
        *writing_grants(writing, domain, user=CAPTURE_USER, place=SHOP, mysql=True),
    ]
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        for user, password in ((CAPTURE_USER, passwords["source"]), (SHOP_USER, passwords["shop"])):
            cursor.execute(f"CREATE USER IF NOT EXISTS '{user}'@'%%' IDENTIFIED BY %s", [password])
            cursor.execute(f"ALTER USER '{user}'@'%%' IDENTIFIED BY %s", [password])
        for line in rights:
            if line.startswith("GRANT "):
                cursor.execute(line.removesuffix(";"))
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{SHOP}`.* TO '{SHOP_USER}'@'%'")
