-- key: customer_id
-- title: Payments by customer
-- description: When each customer last paid.
SELECT y.customer_id, count(*) AS payments, max(y.payment_date) AS last_payment_date
  FROM payment AS y
 GROUP BY y.customer_id
