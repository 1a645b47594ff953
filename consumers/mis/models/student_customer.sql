-- key: per_id_ug
-- title: Students as customers
-- description: What QuickBooks should hold of each student, by the active registration.
SELECT s.per_id_ug,
       'student:' || s.per_id_ug::text AS record,
       s.known_id,
       coalesce(
           nullif(concat_ws(' ', s.given_name, s.family_name), ''), 'Student ' || coalesce(s.reg_no, s.per_id_ug::text)
       ) AS real_name,
       coalesce(s.reg_no, s.per_id_ug::text) AS name_suffix,
       s.given_name,
       s.middle_name,
       s.family_name,
       s.phone,
       s.email,
       'Student' AS customer_type,
       jsonb_build_object(
           'RegNo', coalesce(s.reg_no, ''),
           'Gender', coalesce(s.sex, ''),
           'Level', coalesce(
               nullif(btrim(l.level_full_name), ''), nullif(btrim(l.level_short_name), ''), r.level_id::text, ''
           ),
           'Campus', coalesce(
               nullif(btrim(c.camp_full_name), ''), nullif(btrim(c.camp_short_name), ''), r.camp_id::text, ''
           ),
           'Intake', coalesce(
               nullif(concat_ws(' ', nullif(btrim(i.intake_month), ''), i.intake_no::text), ''), r.intake_id::text, ''
           ),
           'Program', coalesce(
               nullif(btrim(z.splz_full_name), ''), nullif(btrim(z.splz_short_name), ''), r.splz_id::text, ''
           ),
           'NationalID', coalesce(s.national_id, ''),
           'ProgramType', coalesce(
               nullif(btrim(t.prg_type_full_name), ''), nullif(btrim(t.prg_type_short_name), ''), r.prg_type::text, ''
           )
       ) AS fields
  FROM student AS s
  JOIN student_registration AS r ON r.per_id_ug = s.per_id_ug
  LEFT JOIN tbl_level AS l ON l.level_id = r.level_id
  LEFT JOIN tbl_campus AS c ON c.camp_id = r.camp_id
  LEFT JOIN tbl_intake AS i ON i.intake_id = r.intake_id
  LEFT JOIN tbl_specialization AS z ON z.splz_id = r.splz_id
  LEFT JOIN tbl_program_type AS t ON t.prg_type_id = r.prg_type
