-- key: store_id
-- title: Fees by store
-- description: Late fees of each store's items: charged, paid, owed, by the age of the debt; store 0: the item is not known.
SELECT coalesce(l.store_id, 0) AS store_id,
       count(*) AS fees,
       coalesce(sum(l.fee_amount), 0) AS fees_accrued,
       coalesce(sum(l.fee_paid), 0) AS fees_collected,
       coalesce(sum(l.balance), 0) AS receivable,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = 'current'), 0) AS aging_current,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = '1-30'), 0) AS aging_1_30,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = '31-60'), 0) AS aging_31_60,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = '61-90'), 0) AS aging_61_90,
       coalesce(sum(l.balance) FILTER (WHERE l.aging = 'over 90'), 0) AS aging_over_90
  FROM late_fees AS l
 GROUP BY coalesce(l.store_id, 0)
