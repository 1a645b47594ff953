-- key: block
-- title: Accounts by block
-- description: Totals of 256 neighbouring customers, so that the totals of all cost little to keep.
SELECT a.customer_id / 256 AS block,
       sum(a.unreturned_rentals) AS open_rentals,
       sum(a.overdue_rentals) AS overdue_rentals,
       sum(a.total_late_fees) AS fees_accrued,
       sum(a.paid_late_fees) AS fees_collected,
       sum(a.balance) AS receivable,
       sum(a.aging_current) AS aging_current,
       sum(a.aging_1_30) AS aging_1_30,
       sum(a.aging_31_60) AS aging_31_60,
       sum(a.aging_61_90) AS aging_61_90,
       sum(a.aging_over_90) AS aging_over_90
  FROM customer_account AS a
 GROUP BY a.customer_id / 256
