-- key: appl_id
-- title: Applicants
-- description: Applications with their texts trimmed (white space within is one space, empty is NULL), and the ids that texts hold.
SELECT a.appl_id,
       nullif(btrim(regexp_replace(a.first_name, '[\s\u00a0]+', ' ', 'g')), '') AS given_name,
       nullif(btrim(regexp_replace(a.middlename, '[\s\u00a0]+', ' ', 'g')), '') AS middle_name,
       nullif(btrim(regexp_replace(a.family_name, '[\s\u00a0]+', ' ', 'g')), '') AS family_name,
       nullif(btrim(regexp_replace(a.phone1, '[\s\u00a0]+', ' ', 'g')), '') AS phone,
       nullif(btrim(regexp_replace(a.email1, '[\s\u00a0]+', ' ', 'g')), '') AS email,
       nullif(btrim(regexp_replace(a.tracking_id, '[\s\u00a0]+', ' ', 'g')), '') AS tracking_id,
       nullif(btrim(regexp_replace(a.reg_no, '[\s\u00a0]+', ' ', 'g')), '') AS reg_no,
       nullif(btrim(regexp_replace(a.sex, '[\s\u00a0]+', ' ', 'g')), '') AS sex,
       nullif(btrim(regexp_replace(a.nation_id_passport_no, '[\s\u00a0]+', ' ', 'g')), '') AS national_id,
       nullif(btrim(regexp_replace(a.country_of_birth, '[\s\u00a0]+', ' ', 'g')), '') AS country,
       CASE WHEN a.country_of_birth ~ '^[ \t\r\n]*[0-9]{1,9}[ \t\r\n]*$' THEN a.country_of_birth::integer END AS cntr_id,
       nullif(btrim(regexp_replace(a.camp_id, '[\s\u00a0]+', ' ', 'g')), '') AS campus,
       CASE WHEN a.camp_id ~ '^[ \t\r\n]*[0-9]{1,9}[ \t\r\n]*$' THEN a.camp_id::integer END AS camp_id,
       nullif(btrim(regexp_replace(a.opt_1, '[\s\u00a0]+', ' ', 'g')), '') AS program,
       CASE WHEN a.opt_1 ~ '^[ \t\r\n]*[0-9]{1,9}[ \t\r\n]*$' THEN a.opt_1::integer END AS splz_id,
       a.intake_id,
       a.level_id,
       a.prg_mode_id,
       a.dob,
       a.appl_date,
       a.status,
       nullif(btrim(a.quickbooks_id), '') AS known_id
  FROM tbl_online_application AS a
