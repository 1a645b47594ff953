-- title: Customer in progress for more than an hour
-- severity: warning
SELECT s.record, s.real_name, s.pushed_at FROM customer_state AS s CROSS JOIN clock AS c
 WHERE s.state = 3 AND s.pushed_at < c.now - interval '1 hour'
