-- key: customer_id
-- title: Customer accounts
-- description: One row for every customer: what is out, what is owed and since when, and the customer's standing.
SELECT c.customer_id,
       c.store_id,
       c.first_name,
       c.last_name,
       -- In PostgreSQL's port `active` may be NULL; `activebool` is there then, and is only its default otherwise.
       coalesce(c.active, c.activebool, true) AS active,
       coalesce(f.balance, 0) AS balance,
       coalesce(r.total_rentals, 0) AS total_rentals,
       coalesce(r.unreturned_rentals, 0) AS unreturned_rentals,
       coalesce(r.overdue_rentals, 0) AS overdue_rentals,
       coalesce(f.total_late_fees, 0) AS total_late_fees,
       coalesce(f.paid_late_fees, 0) AS paid_late_fees,
       p.last_payment_date,
       coalesce(f.aging_current, 0) AS aging_current,
       coalesce(f.aging_1_30, 0) AS aging_1_30,
       coalesce(f.aging_31_60, 0) AS aging_31_60,
       coalesce(f.aging_61_90, 0) AS aging_61_90,
       coalesce(f.aging_over_90, 0) AS aging_over_90,
       CASE
           WHEN r.overdue_rentals > 3 THEN 'suspended'
           WHEN r.overdue_rentals > 0 THEN 'past_due'
           WHEN f.balance > 0 THEN 'at_risk'
           WHEN NOT coalesce(c.active, c.activebool, true) AND coalesce(r.unreturned_rentals, 0) = 0 THEN 'closed'
           ELSE 'good_standing'
       END AS status
  FROM customer AS c
  LEFT JOIN customer_rentals AS r ON r.customer_id = c.customer_id
  LEFT JOIN customer_fees AS f ON f.customer_id = c.customer_id
  LEFT JOIN customer_payments AS p ON p.customer_id = c.customer_id
