-- title: All rentals of a customer
-- parameters: customer=1
SELECT s.rental_id, s.title, s.rental_date, s.due_at, s.return_date, s.status, f.fee_amount, f.fee_paid, f.fee_status
  FROM rental_status AS s LEFT JOIN late_fees AS f ON f.rental_id = s.rental_id
 WHERE s.customer_id = :customer ORDER BY s.rental_date DESC, s.rental_id
