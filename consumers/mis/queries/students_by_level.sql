-- title: Students by level and program type
SELECT fields ->> 'Level' AS level, fields ->> 'ProgramType' AS program_type, count(*) AS students
  FROM student_customer GROUP BY fields ->> 'Level', fields ->> 'ProgramType'
 ORDER BY (fields ->> 'Level') COLLATE "C", (fields ->> 'ProgramType') COLLATE "C"
