-- title: Two active registrations of one student
-- severity: warning
SELECT r.reg_key, count(*) AS active, max(a.reg_prg_id) AS counts
  FROM registration AS r JOIN active_registration AS a ON a.reg_key = r.reg_key
 WHERE r.is_active GROUP BY r.reg_key HAVING count(*) > 1
