-- title: Customers by a part of their name, number or address
-- parameters: text=%
SELECT record, real_name, phone, email, campus, program, state, quickbooks_id FROM v_customer
 WHERE real_name ILIKE :text OR record = :text OR quickbooks_id = :text OR email ILIKE :text ORDER BY record COLLATE "C" LIMIT 50
