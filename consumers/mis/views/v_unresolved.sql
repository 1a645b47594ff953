-- title: Ids of nothing
-- description: Ids in applications and registrations that no row of their lookup table has; the customer shows the id.
SELECT 'applicant:' || a.appl_id::text AS record, x.field, x.id
  FROM applicant AS a
 CROSS JOIN LATERAL (VALUES
       ('Campus', a.campus, EXISTS (SELECT 1 FROM tbl_campus AS t WHERE t.camp_id = a.camp_id)),
       ('Program', a.program, EXISTS (SELECT 1 FROM tbl_specialization AS t WHERE t.splz_id = a.splz_id)),
       ('Intake', a.intake_id::text, EXISTS (SELECT 1 FROM tbl_intake AS t WHERE t.intake_id = a.intake_id)),
       ('ProgramMode', a.prg_mode_id::text, EXISTS (SELECT 1 FROM tbl_program_mode AS t WHERE t.prg_mode_id = a.prg_mode_id)),
       ('BirthCountry', a.cntr_id::text, EXISTS (SELECT 1 FROM tbl_country AS t WHERE t.cntr_id = a.cntr_id))
       ) AS x (field, id, is_known)
 WHERE x.id IS NOT NULL AND NOT x.is_known
 UNION ALL
SELECT 'student:' || r.per_id_ug::text, x.field, x.id
  FROM student_registration AS r
 CROSS JOIN LATERAL (VALUES
       ('Campus', r.camp_id::text, EXISTS (SELECT 1 FROM tbl_campus AS t WHERE t.camp_id = r.camp_id)),
       ('Program', r.splz_id::text, EXISTS (SELECT 1 FROM tbl_specialization AS t WHERE t.splz_id = r.splz_id)),
       ('Intake', r.intake_id::text, EXISTS (SELECT 1 FROM tbl_intake AS t WHERE t.intake_id = r.intake_id)),
       ('Level', r.level_id::text, EXISTS (SELECT 1 FROM tbl_level AS t WHERE t.level_id = r.level_id)),
       ('ProgramType', r.prg_type::text, EXISTS (SELECT 1 FROM tbl_program_type AS t WHERE t.prg_type_id = r.prg_type))
       ) AS x (field, id, is_known)
 WHERE x.id IS NOT NULL AND NOT x.is_known
