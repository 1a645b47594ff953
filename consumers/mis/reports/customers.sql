-- title: Customers
-- section: Totals
SELECT * FROM customer_totals ORDER BY kind;
-- section: Failed
SELECT record, real_name, reason, pushed_at FROM customer_state WHERE state = 2 ORDER BY pushed_at DESC, record;
-- section: To push
SELECT record, real_name, state FROM pending_customer ORDER BY kind, record_id;
