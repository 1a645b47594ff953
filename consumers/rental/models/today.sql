-- key: day
-- changes_at: next_midnight
-- keep: daily_summary
-- title: Today
-- description: The totals of the day that runs; at local midnight they move to daily_summary and stay there.
SELECT (c.now AT TIME ZONE p.time_zone)::date AS day,
       coalesce(r.open_rentals, 0) AS open_rentals,
       coalesce(r.overdue_rentals, 0) AS overdue_rentals,
       coalesce(f.fees_accrued, 0) AS fees_accrued,
       coalesce(f.fees_collected, 0) AS fees_collected,
       coalesce(f.receivable, 0) AS receivable,
       coalesce(f.aging_current, 0) AS aging_current,
       coalesce(f.aging_1_30, 0) AS aging_1_30,
       coalesce(f.aging_31_60, 0) AS aging_31_60,
       coalesce(f.aging_61_90, 0) AS aging_61_90,
       coalesce(f.aging_over_90, 0) AS aging_over_90,
       coalesce(i.items_available, 0) AS items_available,
       coalesce(i.items_rented, 0) AS items_rented,
       coalesce(i.items_damaged, 0) AS items_damaged,
       coalesce(i.items_missing, 0) AS items_missing,
       least(
           ((c.now AT TIME ZONE p.time_zone)::date + 1)::timestamp AT TIME ZONE p.time_zone,
           (((c.now AT TIME ZONE p.time_zone)::date + 1)::timestamp - interval '1 hour') AT TIME ZONE p.time_zone
               + interval '1 hour'
       ) AS next_midnight
  FROM clock AS c
 CROSS JOIN params AS p
 CROSS JOIN (
       SELECT sum(b.open_rentals) AS open_rentals, sum(b.overdue_rentals) AS overdue_rentals FROM store_rentals AS b
       ) AS r
 CROSS JOIN (
       SELECT sum(b.fees_accrued) AS fees_accrued, sum(b.fees_collected) AS fees_collected,
              sum(b.receivable) AS receivable, sum(b.aging_current) AS aging_current,
              sum(b.aging_1_30) AS aging_1_30, sum(b.aging_31_60) AS aging_31_60,
              sum(b.aging_61_90) AS aging_61_90, sum(b.aging_over_90) AS aging_over_90
         FROM store_fees AS b
       ) AS f
 CROSS JOIN (
       SELECT sum(n.items_available) AS items_available, sum(n.items_rented) AS items_rented,
              sum(n.items_damaged) AS items_damaged, sum(n.items_missing) AS items_missing
         FROM store_inventory AS n
       ) AS i
 WHERE isfinite(c.now)
