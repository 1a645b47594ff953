-- key: customer_id
-- title: Fees by customer
-- description: What each customer was charged for lateness, has paid of it and owes, by the age of the debt.
SELECT l.customer_id,
       count(*) AS fees,
       coalesce(sum(l.balance), 0) AS balance,
       coalesce(sum(l.fee_amount), 0) AS total_late_fees,
       coalesce(sum(l.fee_paid), 0) AS paid_late_fees,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = 'current'), 0) AS aging_current,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = '1-30'), 0) AS aging_1_30,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = '31-60'), 0) AS aging_31_60,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = '61-90'), 0) AS aging_61_90,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = 'over 90'), 0) AS aging_over_90
  FROM late_fees AS l
 GROUP BY l.customer_id
