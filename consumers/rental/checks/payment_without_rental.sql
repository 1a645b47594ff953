-- title: Payment without rental
-- severity: warning
SELECT p.payment_id, p.customer_id, p.rental_id, p.amount FROM payment AS p
 WHERE NOT EXISTS (SELECT 1 FROM rental AS r WHERE r.rental_id = p.rental_id)
