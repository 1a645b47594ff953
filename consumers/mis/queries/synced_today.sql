-- title: Customers synced today
SELECT s.record, s.display_name, s.quickbooks_id, s.pushed_by, s.pushed_at
  FROM customer_state AS s CROSS JOIN clock AS c CROSS JOIN params AS p
 WHERE s.state = 1 AND (s.pushed_at AT TIME ZONE p.time_zone)::date = (c.now AT TIME ZONE p.time_zone)::date
 ORDER BY s.pushed_at DESC, s.record
