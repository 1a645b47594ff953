-- title: Customer of a rental is missing
-- severity: error
SELECT r.rental_id, r.customer_id FROM rental AS r
 WHERE NOT EXISTS (SELECT 1 FROM customer AS c WHERE c.customer_id = r.customer_id)
