-- title: Late fees
-- section: Totals
SELECT count(*) AS fees, coalesce(sum(fee_amount), 0) AS amount, coalesce(sum(fee_paid), 0) AS paid,
       coalesce(sum(balance), 0) AS owed
  FROM late_fees;
-- section: By days overdue
SELECT l.rental_id, l.customer_id, s.first_name, s.last_name, s.title, l.due_at, l.days_overdue, l.fee_amount,
       l.fee_paid, l.fee_status
  FROM late_fees AS l JOIN rental_status AS s ON s.rental_id = l.rental_id ORDER BY l.days_overdue DESC, l.rental_id;
