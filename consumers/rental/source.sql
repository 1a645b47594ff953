-- What is read of the source. Its tables may have more columns, and there may be more tables.
CREATE TABLE film (
    film_id integer PRIMARY KEY,
    title text NOT NULL,
    rental_duration integer NOT NULL,
    rental_rate numeric(4,2) NOT NULL,
    replacement_cost numeric(5,2) NOT NULL,
    length integer,
    rating text
);
CREATE TABLE inventory (
    inventory_id integer PRIMARY KEY,
    film_id integer NOT NULL,
    store_id integer NOT NULL,
    status text
);
CREATE TABLE rental (
    rental_id integer PRIMARY KEY,
    rental_date timestamp NOT NULL,
    inventory_id integer NOT NULL,
    customer_id integer NOT NULL,
    return_date timestamp,
    staff_id integer
);
CREATE TABLE payment (
    payment_id integer PRIMARY KEY,
    customer_id integer NOT NULL,
    staff_id integer,
    rental_id integer,
    amount numeric(5,2) NOT NULL,
    payment_date timestamp NOT NULL
);
CREATE TABLE customer (
    customer_id integer PRIMARY KEY,
    store_id integer NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    email text,
    active boolean,
    create_date timestamp,
    activebool boolean
);
CREATE TABLE category (
    category_id integer PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE film_category (
    film_id integer,
    category_id integer,
    PRIMARY KEY (film_id, category_id)
);
CREATE TABLE store (
    store_id integer PRIMARY KEY
);
