-- title: Student without an active registration
-- severity: warning
SELECT s.per_id_ug, s.reg_no FROM student AS s JOIN student_registration AS r ON r.per_id_ug = s.per_id_ug
 WHERE r.reg_prg_id IS NULL
