-- title: Payment of 0.00
-- severity: warning
SELECT payment_id, customer_id, rental_id, payment_date FROM payment WHERE amount = 0
