-- title: Open rental without payment
-- severity: warning
SELECT s.rental_id, s.customer_id, s.rental_date FROM rental_status AS s
 WHERE s.return_date IS NULL AND NOT EXISTS (SELECT 1 FROM payment AS p WHERE p.rental_id = s.rental_id)
