-- title: Rentals out
SELECT rental_id, customer_id, last_name, title, rental_date, due_at, status
  FROM rental_status WHERE return_date IS NULL ORDER BY due_at, rental_id
