-- title: Registration without a student
-- severity: error
SELECT r.reg_prg_id, r.reg_no, r.is_active FROM registration AS r
 WHERE NOT EXISTS (SELECT 1 FROM student AS s WHERE s.reg_key = r.reg_key)
