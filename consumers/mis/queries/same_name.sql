-- title: Names that several customers share
SELECT lower(real_name) AS name, count(*) AS customers, min(record COLLATE "C") AS first_record, max(record COLLATE "C") AS last_record
  FROM customer GROUP BY lower(real_name) HAVING count(*) > 1 ORDER BY customers DESC, lower(real_name) COLLATE "C"
