-- title: Receivables
-- section: Totals
SELECT count(*) AS customers, sum(balance) AS balance, sum(aging_current) AS current, sum(aging_1_30) AS days_1_30,
       sum(aging_31_60) AS days_31_60, sum(aging_61_90) AS days_61_90, sum(aging_over_90) AS over_90
  FROM customer_account WHERE balance > 0;
-- section: By balance
SELECT customer_id, first_name, last_name, balance, aging_current, aging_1_30, aging_31_60, aging_61_90, aging_over_90, status
  FROM customer_account WHERE balance > 0 ORDER BY balance DESC, customer_id;
