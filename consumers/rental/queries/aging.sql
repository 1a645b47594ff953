-- title: Receivables by age
SELECT coalesce(sum(balance) FILTER (WHERE aging = 'current'), 0) AS current,
       coalesce(sum(balance) FILTER (WHERE aging = '1-30'), 0) AS days_1_30,
       coalesce(sum(balance) FILTER (WHERE aging = '31-60'), 0) AS days_31_60,
       coalesce(sum(balance) FILTER (WHERE aging = '61-90'), 0) AS days_61_90,
       coalesce(sum(balance) FILTER (WHERE aging = 'over 90'), 0) AS over_90,
       coalesce(sum(balance), 0) AS total
  FROM late_fees
