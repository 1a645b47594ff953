-- Decisions of the shop's own people, made by `rowtide rental write-off` and kept in the log like any change.
CREATE TABLE write_off (
    rental_id integer PRIMARY KEY,
    reason text NOT NULL,
    written_off_at timestamp NOT NULL
);
