-- title: Customers by campus
SELECT campus, kind, count(*) AS customers, count(*) FILTER (WHERE state = 'synced') AS synced,
       count(*) FILTER (WHERE state = 'failed') AS failed
  FROM v_customer GROUP BY campus, kind ORDER BY campus COLLATE "C", kind
