-- title: Student without a registration number
-- severity: error
SELECT per_id_ug, given_name, family_name FROM student WHERE reg_key IS NULL
