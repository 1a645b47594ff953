-- title: Customer that QuickBooks did not take
-- severity: error
SELECT record, real_name, reason, pushed_at FROM customer_state WHERE state = 2
