-- title: Payments by month and the customer's store
SELECT date_trunc('month', p.payment_date)::date AS month, c.store_id, count(*) AS payments, sum(p.amount) AS amount
  FROM payment AS p LEFT JOIN customer AS c ON c.customer_id = p.customer_id GROUP BY 1, 2 ORDER BY 1, 2
