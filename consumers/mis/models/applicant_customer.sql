-- key: appl_id
-- title: Applicants as customers
-- description: What QuickBooks should hold of each applicant.
SELECT a.appl_id,
       'applicant:' || a.appl_id::text AS record,
       a.known_id,
       coalesce(nullif(concat_ws(' ', a.given_name, a.family_name), ''), 'Applicant ' || a.appl_id::text) AS real_name,
       coalesce(a.tracking_id, a.appl_id::text) AS name_suffix,
       a.given_name,
       a.middle_name,
       a.family_name,
       a.phone,
       a.email,
       'Applicant' AS customer_type,
       jsonb_build_object(
           'ApplicationID', a.appl_id::text,
           'TrackingID', coalesce(a.tracking_id, ''),
           'Gender', coalesce(a.sex, ''),
           'BirthCountry', coalesce(nullif(btrim(n.cntr_name), ''), a.country, ''),
           'NationalID', coalesce(a.national_id, ''),
           'Campus', coalesce(nullif(btrim(c.camp_full_name), ''), nullif(btrim(c.camp_short_name), ''), a.campus, ''),
           'Intake', coalesce(
               nullif(concat_ws(' ', nullif(btrim(i.intake_month), ''), i.intake_no::text), ''), a.intake_id::text, ''
           ),
           'Program', coalesce(nullif(btrim(z.splz_full_name), ''), nullif(btrim(z.splz_short_name), ''), a.program, ''),
           'ProgramMode', coalesce(
               nullif(btrim(m.prg_mode_full_name), ''), nullif(btrim(m.prg_mode_short_name), ''), a.prg_mode_id::text, ''
           )
       ) AS fields
  FROM applicant AS a
  LEFT JOIN tbl_country AS n ON n.cntr_id = a.cntr_id
  LEFT JOIN tbl_campus AS c ON c.camp_id = a.camp_id
  LEFT JOIN tbl_intake AS i ON i.intake_id = a.intake_id
  LEFT JOIN tbl_specialization AS z ON z.splz_id = a.splz_id
  LEFT JOIN tbl_program_mode AS m ON m.prg_mode_id = a.prg_mode_id
