-- title: Customers by the day of their last push
SELECT (s.pushed_at AT TIME ZONE p.time_zone)::date AS day, s.kind, count(*) AS customers
  FROM customer_state AS s CROSS JOIN params AS p WHERE s.state = 1 GROUP BY 1, 2 ORDER BY 1 DESC, 2
