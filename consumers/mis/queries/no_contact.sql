-- title: Customers with neither phone nor e-mail
SELECT record, real_name FROM customer WHERE phone IS NULL AND email IS NULL ORDER BY record COLLATE "C"
