-- What became of customers in QuickBooks, told by the push itself and kept in the log like any change.
CREATE TABLE pushed (
    record text PRIMARY KEY,       -- applicant:17, student:9
    realm_id text,
    state integer NOT NULL,        -- 3 in progress, 1 synced, 2 failed; no row: not synced
    quickbooks_id text,
    sync_token text,
    display_name text,
    fingerprint text,              -- of what QuickBooks holds; NULL before the first success
    reason text,
    pushed_by text,
    pushed_at timestamptz
);
