-- title: Late fees collected by month of return and store
SELECT date_trunc('month', return_date)::date AS month, store_id, sum(fee_amount) AS accrued, sum(fee_paid) AS collected
  FROM late_fees WHERE return_date IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
