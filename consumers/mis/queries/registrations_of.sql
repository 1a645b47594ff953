-- title: Registrations of a student
-- parameters: student=1
SELECT r.reg_prg_id, r.reg_date, r.is_active, r.reg_prg_id = a.reg_prg_id AS counts, r.camp_id, r.splz_id, r.intake_id
  FROM student AS s JOIN registration AS r ON r.reg_key = s.reg_key LEFT JOIN student_registration AS a ON a.per_id_ug = s.per_id_ug
 WHERE s.per_id_ug = :student ORDER BY r.reg_date DESC NULLS LAST, r.reg_prg_id DESC
