-- key: per_id_ug
-- title: What students are registered for
-- description: For each student what the active registration says; the program type is the student's own where it says none.
SELECT s.per_id_ug,
       r.reg_prg_id,
       r.intake_id,
       r.splz_id,
       r.level_id,
       r.camp_id,
       coalesce(r.prg_type, s.prg_type) AS prg_type
  FROM student AS s
  LEFT JOIN active_registration AS r ON r.reg_key = s.reg_key
