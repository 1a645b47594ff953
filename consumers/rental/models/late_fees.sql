-- key: rental_id
-- changes_at: next_change_at
-- title: Late fees
-- description: Every rental at least one day late, out or returned: the fee, what was paid of it and what is owed.
SELECT s.rental_id,
       s.customer_id,
       s.store_id,
       s.film_id,
       s.due_at,
       s.return_date,
       s.days_overdue,
       s.days_overdue * p.late_fee_per_day AS fee_amount,
       least(
           s.days_overdue * p.late_fee_per_day, greatest(coalesce(x.paid, 0) - coalesce(s.rental_rate, 0), 0)
       ) AS fee_paid,
       CASE
           WHEN greatest(coalesce(x.paid, 0) - coalesce(s.rental_rate, 0), 0) >= s.days_overdue * p.late_fee_per_day
               THEN 'paid'
           WHEN w.rental_id IS NOT NULL THEN 'written_off'
           WHEN coalesce(x.paid, 0) > coalesce(s.rental_rate, 0) THEN 'partially_paid'
           ELSE 'pending'
       END AS fee_status,
       CASE
           WHEN w.rental_id IS NOT NULL THEN 0
           ELSE greatest(
               s.days_overdue * p.late_fee_per_day
               - greatest(coalesce(x.paid, 0) - coalesce(s.rental_rate, 0), 0),
               0
           )
       END AS balance,
       -- A fee is current while it grows and on the day of the return; from then on its age counts.
       CASE
           WHEN s.return_date IS NULL OR (c.now AT TIME ZONE p.time_zone)::date - s.return_date::date < 1 THEN 'current'
           WHEN (c.now AT TIME ZONE p.time_zone)::date - s.return_date::date <= 30 THEN '1-30'
           WHEN (c.now AT TIME ZONE p.time_zone)::date - s.return_date::date <= 60 THEN '31-60'
           WHEN (c.now AT TIME ZONE p.time_zone)::date - s.return_date::date <= 90 THEN '61-90'
           ELSE 'over 90'
       END AS aging,
       s.due_at::date + s.days_overdue AS calculated_date,
       CASE
           WHEN (c.now AT TIME ZONE p.time_zone)::date - s.return_date::date < 1 THEN least(
               (s.return_date::date + 1)::timestamp AT TIME ZONE p.time_zone,
               ((s.return_date::date + 1)::timestamp - interval '1 hour') AT TIME ZONE p.time_zone + interval '1 hour'
           )
           WHEN (c.now AT TIME ZONE p.time_zone)::date - s.return_date::date <= 90 THEN least(
               (
                   s.return_date::date
                   + ((c.now AT TIME ZONE p.time_zone)::date - s.return_date::date - 1) / 30 * 30
                   + 31
               )::timestamp AT TIME ZONE p.time_zone,
               ((
                   s.return_date::date
                   + ((c.now AT TIME ZONE p.time_zone)::date - s.return_date::date - 1) / 30 * 30
                   + 31
               )::timestamp - interval '1 hour') AT TIME ZONE p.time_zone + interval '1 hour'
           )
       END AS next_change_at
  FROM rental_status AS s
 CROSS JOIN clock AS c
 CROSS JOIN params AS p
  LEFT JOIN (
       SELECT payment.rental_id, sum(payment.amount) AS paid FROM payment GROUP BY payment.rental_id
       ) AS x ON x.rental_id = s.rental_id
  LEFT JOIN write_off AS w ON w.rental_id = s.rental_id
 WHERE s.days_overdue > 0 AND (p.fees_from IS NULL OR s.due_at::date >= p.fees_from)
