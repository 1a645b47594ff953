-- title: Receivables by age and store
SELECT store_id, aging, count(*) AS fees, sum(balance) AS balance FROM late_fees WHERE balance > 0
 GROUP BY store_id, aging ORDER BY store_id, aging
