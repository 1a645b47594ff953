-- title: Receivables
-- section: Totals
SELECT count(*) AS customers, coalesce(sum(balance), 0) AS balance, coalesce(sum(aging_current), 0) AS current,
       coalesce(sum(aging_1_30), 0) AS days_1_30, coalesce(sum(aging_31_60), 0) AS days_31_60,
       coalesce(sum(aging_61_90), 0) AS days_61_90, coalesce(sum(aging_over_90), 0) AS over_90
  FROM customer_account WHERE balance > 0;
-- section: By balance
SELECT customer_id, first_name, last_name, balance, aging_current, aging_1_30, aging_31_60, aging_61_90, aging_over_90, status
  FROM customer_account WHERE balance > 0 ORDER BY balance DESC, customer_id;
