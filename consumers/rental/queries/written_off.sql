-- title: Fees written off
SELECT f.rental_id, f.customer_id, f.fee_amount, f.fee_paid, w.reason, w.written_off_at
  FROM write_off AS w JOIN late_fees AS f ON f.rental_id = w.rental_id ORDER BY w.written_off_at, f.rental_id
