-- title: Rentals overdue now
SELECT rental_id, customer_id, first_name, last_name, title, due_at, days_overdue
  FROM rental_status WHERE status = 'overdue' ORDER BY days_overdue DESC, rental_id
