-- title: Applicant with a registration number that no student has
-- severity: warning
SELECT a.appl_id, a.reg_no FROM applicant AS a
 WHERE a.reg_no IS NOT NULL AND NOT EXISTS (SELECT 1 FROM student AS s WHERE s.reg_key = lower(a.reg_no))
