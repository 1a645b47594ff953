-- title: Students by level and program type
SELECT fields ->> 'Level' AS level, fields ->> 'ProgramType' AS program_type, count(*) AS students
  FROM student_customer GROUP BY 1, 2 ORDER BY level COLLATE "C", program_type COLLATE "C"
