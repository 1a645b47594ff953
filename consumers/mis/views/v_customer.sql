-- title: Customers
-- description: Every customer with what became of it: what lists and reports show.
SELECT c.record, c.kind, c.record_id, c.real_name, s.display_name, c.phone, c.email, c.fields ->> 'Campus' AS campus,
       c.fields ->> 'Program' AS program, c.fields ->> 'Intake' AS intake, c.fields ->> 'NationalID' AS national_id,
       CASE s.state WHEN 0 THEN 'not synced' WHEN 1 THEN 'synced' WHEN 2 THEN 'failed' ELSE 'in progress' END AS state,
       s.is_pending, s.quickbooks_id, s.reason, s.pushed_by, s.pushed_at
  FROM customer AS c JOIN customer_state AS s ON s.record = c.record
