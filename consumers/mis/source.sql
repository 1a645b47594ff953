-- What is read of the school's MIS. MySQL's int and datetime are integer and timestamp here, its varchars text of any
-- length (sex is varchar(6), and some installations have longer ones). Columns are found whatever the case of their
-- names: QuickBk_Status and QuickBk_status are both quickbk_status.
CREATE TABLE tbl_online_application (
    appl_id integer PRIMARY KEY,
    tracking_id text,
    reg_no text,
    first_name text,
    middlename text,
    family_name text,
    dob timestamp,
    sex text,
    phone1 text,
    email1 text,
    country_of_birth text,
    nation_id_passport_no text,
    camp_id text,  -- a text that holds an id
    intake_id integer,
    level_id integer,
    prg_mode_id integer,
    opt_1 text,  -- a text that holds a splz_id
    appl_date timestamp,
    status integer,
    quickbooks_id text,
    sync_token text,
    quickbk_status integer,
    pushed_by text,
    pushed_date timestamp
);
CREATE TABLE tbl_personal_ug (
    per_id_ug integer PRIMARY KEY,
    reg_no text,
    fname text,
    middlename text,
    lname text,
    dob timestamp,
    sex text,
    national_id text,
    phone1 text,
    phone2 text,
    email1 text,
    email2 text,
    prg_type integer,
    cntr_id integer,
    reg_date timestamp,
    qk_id text,
    sync_token text,
    quickbk_status integer,
    pushed_by text,
    pushed_date timestamp
);
CREATE TABLE tbl_register_program_ug (
    reg_prg_id integer PRIMARY KEY,
    reg_no text,
    intake_id integer,
    prg_id integer,
    splz_id integer,
    level_id integer,
    prg_mode_id integer,
    prg_type integer,
    camp_id integer,
    reg_date timestamp,
    reg_active integer
);
CREATE TABLE tbl_campus (
    camp_id integer PRIMARY KEY,
    camp_full_name text,
    camp_short_name text
);
CREATE TABLE tbl_intake (
    intake_id integer PRIMARY KEY,
    intake_no integer,
    intake_month text,
    intake_start timestamp,
    intake_end timestamp
);
CREATE TABLE tbl_level (
    level_id integer PRIMARY KEY,
    level_full_name text,
    level_short_name text
);
CREATE TABLE tbl_specialization (
    splz_id integer PRIMARY KEY,
    splz_full_name text,
    splz_short_name text
);
CREATE TABLE tbl_program_mode (
    prg_mode_id integer PRIMARY KEY,
    prg_mode_full_name text,
    prg_mode_short_name text
);
CREATE TABLE tbl_program_type (
    prg_type_id integer PRIMARY KEY,
    prg_type_full_name text,
    prg_type_short_name text
);
CREATE TABLE tbl_country (
    cntr_id integer PRIMARY KEY,
    cntr_name text,
    cntr_nationality text
);
