-- title: Customers by program
SELECT program, kind, count(*) AS customers, count(*) FILTER (WHERE state = 'synced') AS synced,
       count(*) FILTER (WHERE state = 'failed') AS failed
  FROM v_customer GROUP BY program, kind ORDER BY program COLLATE "C", kind
