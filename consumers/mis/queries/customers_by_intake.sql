-- title: Customers by intake
SELECT intake, kind, count(*) AS customers, count(*) FILTER (WHERE state = 'synced') AS synced,
       count(*) FILTER (WHERE state = 'failed') AS failed
  FROM v_customer GROUP BY intake, kind ORDER BY intake COLLATE "C", kind
