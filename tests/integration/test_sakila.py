"""The whole real data set through capture, log and models; counts and money as plain Python computes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr
from rental_oracle import compute

from connectors.embedded import EmbeddedPostgres
from connectors.state import migrate
from consumers.domain import load_domain
from daemon.app import App
from daemon.sakila import load_sakila
from daemon.service import serve
from daemon.settings import Settings
from daemon.times import BusinessTime

START = datetime(2006, 2, 14, 16, tzinfo=UTC)


@pytest.fixture(scope="module")
def source(server: EmbeddedPostgres, sakila: Path) -> str:
    dsn = server.ensure_database("sakila_source")
    load_sakila(sakila, dsn)
    return dsn


PORT = """
CREATE SCHEMA port;
CREATE DOMAIN port.year AS integer CHECK (VALUE BETWEEN 1901 AND 2155);
CREATE TYPE port.mpaa_rating AS ENUM ('G', 'PG', 'PG-13', 'R', 'NC-17');
CREATE TABLE port.film (
    film_id serial PRIMARY KEY, title varchar(255) NOT NULL, description text, release_year port.year,
    language_id smallint NOT NULL, rental_duration smallint DEFAULT 3 NOT NULL, rental_rate numeric(4,2) NOT NULL,
    length smallint, replacement_cost numeric(5,2) NOT NULL, rating port.mpaa_rating DEFAULT 'G',
    last_update timestamp DEFAULT now() NOT NULL, special_features text[], fulltext tsvector NOT NULL);
CREATE TABLE port.inventory (
    inventory_id serial PRIMARY KEY, film_id smallint NOT NULL, store_id smallint NOT NULL,
    last_update timestamp DEFAULT now() NOT NULL);
CREATE TABLE port.rental (
    rental_id serial PRIMARY KEY, rental_date timestamp NOT NULL, inventory_id integer NOT NULL,
    customer_id smallint NOT NULL, return_date timestamp, staff_id smallint NOT NULL,
    last_update timestamp DEFAULT now() NOT NULL);
CREATE TABLE port.payment (
    payment_id serial PRIMARY KEY, customer_id smallint NOT NULL, staff_id smallint NOT NULL, rental_id integer,
    amount numeric(5,2) NOT NULL, payment_date timestamp NOT NULL);
CREATE TABLE port.customer (
    customer_id serial PRIMARY KEY, store_id smallint NOT NULL, first_name varchar(45) NOT NULL,
    last_name varchar(45) NOT NULL, email varchar(50), address_id smallint NOT NULL,
    activebool boolean DEFAULT true NOT NULL, create_date date DEFAULT ('now'::text)::date NOT NULL,
    last_update timestamp DEFAULT now(), active integer);
CREATE TABLE port.category (category_id serial PRIMARY KEY, name varchar(25) NOT NULL, last_update timestamp);
CREATE TABLE port.film_category (
    film_id smallint NOT NULL, category_id smallint NOT NULL, last_update timestamp, PRIMARY KEY (film_id, category_id));
CREATE TABLE port.store (store_id serial PRIMARY KEY, manager_staff_id smallint, address_id smallint);
INSERT INTO port.film SELECT film_id, title, description, release_year, language_id, rental_duration, rental_rate, length,
       replacement_cost, rating::text::port.mpaa_rating, last_update, special_features, to_tsvector(title) FROM film;
INSERT INTO port.inventory SELECT inventory_id, film_id, store_id, last_update FROM inventory;
INSERT INTO port.rental SELECT rental_id, rental_date, inventory_id, customer_id, return_date, staff_id FROM rental;
INSERT INTO port.payment SELECT payment_id, customer_id, staff_id, rental_id, amount, payment_date FROM payment;
INSERT INTO port.customer SELECT customer_id, store_id, first_name, last_name, email, address_id, true, create_date::date,
       last_update, active::integer FROM customer;
INSERT INTO port.category SELECT category_id, name FROM category;
INSERT INTO port.film_category SELECT film_id, category_id FROM film_category;
INSERT INTO port.store SELECT store_id FROM store;
"""


def make_app(dsn: str, source: str, parameters: dict[str, Any] | None = None, schema: str = "public") -> App:
    migrate(dsn)
    settings = Settings.model_validate(
        {
            "source": {"kind": "postgres", "dsn": SecretStr(source), "schema": schema},
            "web": {"enabled": False},
            "parameters": parameters or {},
        }
    )
    return App(settings, dsn, load_domain("rental"), BusinessTime(int(START.timestamp() * 1000), 1.0))


@pytest.fixture
def drop_slot(source: str) -> Iterator[None]:
    yield
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'rowtide_rental'"
        )


def rows(dsn: str, query: str, key: str) -> dict[Any, dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return {row[key]: row for row in connection.execute(query)}


def raw(source: str, schema: str = "public") -> dict[str, list[dict[str, Any]]]:
    with psycopg.connect(source, row_factory=dict_row) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {schema}.{name}").fetchall()
            for name in ("film", "inventory", "rental", "payment", "customer")
        }


def assert_models(dsn: str, expected: dict[str, dict[Any, dict[str, Any]]]) -> None:
    for name, key in {
        "rental_status": "rental_id",
        "late_fees": "rental_id",
        "inventory_status": "inventory_id",
        "customer_account": "customer_id",
    }.items():
        actual = rows(dsn, f"SELECT * FROM rental.{name}", key)
        assert actual.keys() == expected[name].keys(), name
        for number, row in expected[name].items():
            assert {column: actual[number][column] for column in row} == row, f"{name} {number}"


@pytest.mark.parametrize(
    ("parameters", "given"),
    [
        ({}, {}),
        (
            {
                "late_fee_per_day": "0.75",
                "time_zone": "America/New_York",
                "fees_from": "2005-08-01",
                "missing_after_days": "40",
            },
            {"rate": Decimal("0.75"), "zone": "America/New_York", "fees_from": date(2005, 8, 1), "missing_after": 40},
        ),
    ],
)
@pytest.mark.usefixtures("drop_slot")
def test_counts_and_money_at_several_clocks(
    database: str, source: str, parameters: dict[str, str], given: dict[str, Any]
) -> None:
    """At each clock every row of the four models is what plain Python computes from the raw rows."""
    app = make_app(database, source, parameters)
    serve(app, threading.Event(), until_idle=True)
    tables = raw(source)
    assert (len(tables["rental"]), len(tables["payment"]), len(tables["inventory"])) == (16_044, 16_049, 4_581)
    assert sum(1 for rental in tables["rental"] if rental["return_date"] is None) == 183
    for clock in (
        datetime(2006, 2, 15, 3, tzinfo=UTC),
        datetime(2006, 2, 20, 4, 30, tzinfo=UTC),
        datetime(2006, 4, 1, tzinfo=UTC),
    ):
        serve(app, threading.Event(), until_idle=True, clock=clock)
        assert app.clock() == clock
        assert_models(database, compute(tables, now=clock, **given))
        assert [check for check in app.verify() if not check.clean] == []
    days = rows(database, "SELECT * FROM rental.daily_summary", "day")
    expected = compute(tables, now=datetime(2006, 3, 10, 23, tzinfo=UTC), **given)
    fees = expected["late_fees"].values()
    day = days[date(2006, 3, 10)]
    assert day["fees_accrued"] == sum(fee["fee_amount"] for fee in fees)
    assert day["fees_collected"] == sum(fee["fee_paid"] for fee in fees)
    assert day["receivable"] == sum(fee["balance"] for fee in fees)
    assert day["overdue_rentals"] == sum(row["status"] == "overdue" for row in expected["rental_status"].values())
    assert day["items_missing"] == sum(row["status"] == "missing" for row in expected["inventory_status"].values())
    app.close()


@pytest.mark.usefixtures("drop_slot")
def test_a_write_off_a_correction_and_a_rebuild(database: str, source: str) -> None:
    """A write-off owes nothing and survives a rebuild, as do histories; a corrected film moves its rentals' due times."""
    app = make_app(database, source)
    serve(app, threading.Event(), until_idle=True)
    clock = datetime(2006, 3, 1, 12, tzinfo=UTC)
    serve(app, threading.Event(), until_idle=True, clock=clock)
    owing = next(
        n
        for n, fee in rows(database, "SELECT * FROM rental.late_fees WHERE balance > 0 ORDER BY 1", "rental_id").items()
    )
    app.append_input("write_off", (str(owing), "goodwill", "2006-03-01 12:00:00"), (str(owing),))
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("UPDATE film SET rental_duration = rental_duration + 1 WHERE film_id % 10 = 0")
        connection.execute("UPDATE film SET description = 'nothing we read' WHERE film_id % 7 = 0")
    serve(app, threading.Event(), until_idle=True)
    assert_models(database, compute(raw(source), now=app.clock(), write_offs=[owing]))
    before = {
        name: rows(database, f"SELECT t::text AS row FROM rental.{name} AS t", "row").keys()
        for name in ("late_fees", "inventory_audit", "daily_summary", "customer_account")
    }
    app.rebuild()
    after = {name: rows(database, f"SELECT t::text AS row FROM rental.{name} AS t", "row").keys() for name in before}
    assert before == after
    assert len(before["inventory_audit"]) >= 4_581
    assert len(before["daily_summary"]) >= 14
    assert [check for check in app.verify() if not check.clean] == []
    app.close()


@pytest.mark.usefixtures("drop_slot")
def test_the_port_to_postgresql_loads_unchanged(database: str, source: str) -> None:
    """The port's types (integer active beside activebool, date, enum, domain, arrays) lead to the same tables.

    A customer whose active is NULL counts by activebool.
    """
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS port CASCADE")
        connection.execute(PORT)
    app = make_app(database, source, schema="port")
    serve(app, threading.Event(), until_idle=True)
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("UPDATE port.customer SET active = 0 WHERE customer_id = 1")
        for number, truth in ((700, True), (701, False)):
            connection.execute(
                "INSERT INTO port.customer (customer_id, store_id, first_name, last_name, address_id, activebool) "
                "VALUES (%s, 1, 'NEW', 'ONE', 1, %s)",
                [number, truth],
            )
        connection.execute("UPDATE port.rental SET return_date = '2006-02-14 16:30' WHERE rental_id = 11496")
    clock = datetime(2006, 2, 20, 4, 30, tzinfo=UTC)
    serve(app, threading.Event(), until_idle=True, clock=clock)
    tables = raw(source, "port")
    assert sum(customer["active"] == 0 for customer in tables["customer"]) >= 15
    expected = compute(tables, now=clock)
    assert [expected["customer_account"][number]["status"] for number in (700, 701)] == ["good_standing", "closed"]
    assert_models(database, expected)
    assert app.status()["parked"] == 0
    assert [check for check in app.verify() if not check.clean] == []
    app.close()
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("DROP SCHEMA port CASCADE")
