-- title: Quality of the MIS's data
-- section: Ids that resolve to nothing
SELECT field, id, count(*) AS customers FROM v_unresolved GROUP BY field, id ORDER BY field, id COLLATE "C";
-- section: Registration numbers of two students
SELECT reg_key, count(*) AS students FROM student WHERE reg_key IS NOT NULL GROUP BY reg_key HAVING count(*) > 1
 ORDER BY reg_key COLLATE "C";
-- section: Registrations without a student
SELECT r.reg_prg_id, r.reg_no FROM registration AS r
 WHERE NOT EXISTS (SELECT 1 FROM student AS s WHERE s.reg_key = r.reg_key) ORDER BY r.reg_prg_id;
-- section: Without names
SELECT record, real_name FROM customer WHERE given_name IS NULL AND family_name IS NULL ORDER BY kind, record_id;
-- section: Applicants who are students too
SELECT a.appl_id, s.per_id_ug, a.national_id FROM applicant AS a JOIN student AS s ON upper(s.national_id) = upper(a.national_id)
 ORDER BY a.appl_id, s.per_id_ug;
