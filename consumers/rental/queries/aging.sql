-- title: Receivables by age
SELECT sum(aging_current) AS current, sum(aging_1_30) AS days_1_30, sum(aging_31_60) AS days_31_60,
       sum(aging_61_90) AS days_61_90, sum(aging_over_90) AS over_90, sum(balance) AS total FROM customer_account
