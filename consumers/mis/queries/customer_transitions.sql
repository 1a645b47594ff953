-- title: What became of a customer
-- parameters: record=student:1
SELECT at, from_value, to_value, cause FROM customer_audit WHERE record = :record ORDER BY seq
