-- title: Customers that failed, with the reasons
SELECT record, real_name, reason, pushed_at FROM v_customer WHERE state = 'failed' ORDER BY pushed_at DESC, record
