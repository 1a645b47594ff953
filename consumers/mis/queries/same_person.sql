-- title: Applicants and students with the same national id
SELECT a.appl_id, s.per_id_ug, a.national_id, x.real_name AS applicant, y.real_name AS student
  FROM applicant AS a JOIN student AS s ON upper(s.national_id) = upper(a.national_id)
  JOIN applicant_customer AS x ON x.appl_id = a.appl_id JOIN student_customer AS y ON y.per_id_ug = s.per_id_ug
 ORDER BY a.appl_id, s.per_id_ug
