-- title: Applications by month, and how many were admitted
SELECT date_trunc('month', a.appl_date)::date AS month, count(*) AS applications, count(a.reg_no) AS admitted
  FROM applicant AS a GROUP BY 1 ORDER BY 1
