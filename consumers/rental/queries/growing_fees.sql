-- title: Fees that grow every day
SELECT rental_id, customer_id, due_at, days_overdue, fee_amount FROM late_fees WHERE return_date IS NULL ORDER BY fee_amount DESC, rental_id
