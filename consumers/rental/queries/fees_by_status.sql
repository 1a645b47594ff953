-- title: Late fees by status
SELECT fee_status, count(*) AS fees, sum(fee_amount) AS amount, sum(fee_paid) AS paid, sum(balance) AS owed
  FROM late_fees GROUP BY fee_status ORDER BY fee_status
