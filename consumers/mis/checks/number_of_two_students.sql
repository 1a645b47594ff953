-- title: Two students with one registration number
-- severity: error
SELECT reg_key, count(*) AS students, min(per_id_ug) AS first_student, max(per_id_ug) AS last_student
  FROM student WHERE reg_key IS NOT NULL GROUP BY reg_key HAVING count(*) > 1
