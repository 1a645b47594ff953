-- key: per_id_ug
-- title: Students
-- description: Students with their texts trimmed (white space within is one space, empty is NULL); reg_key finds registrations, whatever the case.
SELECT s.per_id_ug,
       nullif(btrim(regexp_replace(s.reg_no, '[\s\u00a0]+', ' ', 'g')), '') AS reg_no,
       lower(nullif(btrim(regexp_replace(s.reg_no, '[\s\u00a0]+', ' ', 'g')), '')) AS reg_key,
       nullif(btrim(regexp_replace(s.fname, '[\s\u00a0]+', ' ', 'g')), '') AS given_name,
       nullif(btrim(regexp_replace(s.middlename, '[\s\u00a0]+', ' ', 'g')), '') AS middle_name,
       nullif(btrim(regexp_replace(s.lname, '[\s\u00a0]+', ' ', 'g')), '') AS family_name,
       coalesce(
           nullif(btrim(regexp_replace(s.phone1, '[\s\u00a0]+', ' ', 'g')), ''),
           nullif(btrim(regexp_replace(s.phone2, '[\s\u00a0]+', ' ', 'g')), '')
       ) AS phone,
       coalesce(
           nullif(btrim(regexp_replace(s.email1, '[\s\u00a0]+', ' ', 'g')), ''),
           nullif(btrim(regexp_replace(s.email2, '[\s\u00a0]+', ' ', 'g')), '')
       ) AS email,
       nullif(btrim(regexp_replace(s.sex, '[\s\u00a0]+', ' ', 'g')), '') AS sex,
       nullif(btrim(regexp_replace(s.national_id, '[\s\u00a0]+', ' ', 'g')), '') AS national_id,
       s.prg_type,
       s.cntr_id,
       s.dob,
       s.reg_date,
       nullif(btrim(s.qk_id), '') AS known_id
  FROM tbl_personal_ug AS s
