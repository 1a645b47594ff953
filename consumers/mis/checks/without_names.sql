-- title: Applicant or student without names
-- severity: warning
SELECT record, real_name FROM customer WHERE given_name IS NULL AND family_name IS NULL
