-- title: Customers never late
SELECT a.customer_id, a.first_name, a.last_name, a.total_rentals FROM customer_account AS a
 WHERE a.total_rentals > 0 AND NOT EXISTS (SELECT 1 FROM late_fees AS f WHERE f.customer_id = a.customer_id)
 ORDER BY a.total_rentals DESC, a.customer_id
