-- title: Enrolment
-- section: By campus
SELECT campus, count(*) FILTER (WHERE kind = 'applicant') AS applicants, count(*) FILTER (WHERE kind = 'student') AS students
  FROM v_customer GROUP BY campus ORDER BY campus COLLATE "C";
-- section: By program
SELECT program, count(*) FILTER (WHERE kind = 'applicant') AS applicants, count(*) FILTER (WHERE kind = 'student') AS students
  FROM v_customer GROUP BY program ORDER BY program COLLATE "C";
-- section: By intake
SELECT intake, count(*) FILTER (WHERE kind = 'applicant') AS applicants, count(*) FILTER (WHERE kind = 'student') AS students
  FROM v_customer GROUP BY intake ORDER BY intake COLLATE "C";
