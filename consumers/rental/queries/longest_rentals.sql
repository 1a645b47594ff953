-- title: Rentals kept longest
SELECT rental_id, customer_id, title, rental_date, return_date, return_date - rental_date AS kept
  FROM rental_status WHERE return_date IS NOT NULL ORDER BY kept DESC, rental_id LIMIT 20
