-- title: Customers by a part of their name, number or address
-- parameters: like=%
SELECT record, real_name, phone, email, campus, program, state, quickbooks_id FROM v_customer
 WHERE real_name ILIKE :like OR record = :like OR quickbooks_id = :like OR email ILIKE :like ORDER BY record COLLATE "C" LIMIT 50
